# How reliable is an effect? That of tracing is a mean over random noise; the effects from the two
# halves of the noise rows should agree, as those of any localizer that draws at random. Their
# correlation, stepped up to all rows by the Spearman-Brown formula, bounds how much variance any
# regression on the effect can explain. At the edited layers, with the means of facts and layers
# removed, it bounds what an association within facts can be (within.R).

HALVES <- c("_half1", "_half2")
AGAIN <- "_again" # of a score: where the same edit was made once more

# One row for each localizer, module, window and measure. `measures`: columns E of effects, with
# E_half1 and E_half2 beside them (NaN where nothing was drawn, or too few noise rows). `scores`:
# which layers are edited.
reliability_table <- function(scores, effects, measures) {
  check_effects(effects, c("value", measures))
  answers <- list()
  for (setting in split_by(effects, c("model", "dataset"))) {
    edited <- unique(listed_edits(of_setting(scores, setting$keys))$layer)
    for (group in trace_groups(setting$rows, measures)) {
      for (effect in group$measures) {
        row <- reliability_row(group$rows, effect, edited)
        answers[[length(answers) + 1]] <- cbind(setting$keys, group$keys, effect = effect, row)
      }
    }
  }
  keys <- c("model", "dataset", "localizer", "module", "window", "effect")
  if (length(answers) == 0) {
    empty <- cbind(effects[setdiff(keys, "effect")], effect = character(nrow(effects)))
    return(cbind(empty, reliability_row(effects, measures[1], integer())[0, ]))
  }
  table <- do.call(rbind, answers)
  table <- table[do.call(order, c(unname(as.list(table[keys])), method = "radix")), ]
  rownames(table) <- NULL
  table
}

reliability_row <- function(rows, effect, edited) {
  halves <- paste0(effect, HALVES)
  empty <- data.frame(
    n = 0L, n_facts = 0L, n_layers = 0L, n_dropped = nrow(rows),
    r = NA_real_, r_within = NA_real_, spearman_brown = NA_real_, spearman_brown_within = NA_real_,
    n_edited = 0L, r_edited = NA_real_, spearman_brown_edited = NA_real_,
    reason = "the effects have no halves of noise rows", stringsAsFactors = FALSE
  )
  if (!all(halves %in% names(rows))) return(empty)
  first <- as.numeric(rows[[halves[1]]])
  second <- as.numeric(rows[[halves[2]]])
  known <- is.finite(first) & is.finite(second)
  answer <- empty
  answer$n <- sum(known)
  answer$n_facts <- length(unique(rows$case_id[known]))
  answer$n_layers <- length(unique(rows$layer[known]))
  answer$n_dropped <- sum(!known)
  answer$reason <- ""
  answer <- fill_reliability(answer, first[known], second[known], rows$layer[known])
  fill_edited(answer, rows[known & rows$layer %in% edited, , drop = FALSE], halves)
}

# The same over facts with an effect at every edited layer, without the means of facts and layers.
fill_edited <- function(answer, rows, halves) {
  facts <- sort(unique(rows$case_id), method = "radix")
  layers <- sort(unique(rows$layer))
  answer$n_edited <- length(layers)
  fill <- cells_of(rows, facts, layers)
  cells <- lapply(halves, function(half) fill(as.numeric(rows[[half]])))
  whole <- stats::complete.cases(do.call(cbind, cells))
  cells <- lapply(cells, function(half) half[whole, , drop = FALSE])
  answer$reason <- joined_reasons(answer$reason, if (length(layers) < 2 || sum(whole) < MIN_ROWS) {
    sprintf("too few facts at edited layers (%d at %d)", sum(whole), length(layers))
  } else if (!all(vapply(cells, varies_within, TRUE))) {
    "effect has no variance within facts at the edited layers"
  })
  if (answer$reason != "") return(answer)
  answer$r_edited <- within_correlations(cells[[1]], cells[[2]])$r
  answer$spearman_brown_edited <- stepped_up(answer$r_edited)
  answer
}

fill_reliability <- function(answer, first, second, layer) {
  if (answer$n == 0) {
    answer$reason <- "no effect with two halves (nothing drawn at random, or a single noise row)"
  } else if (answer$n < MIN_ROWS) {
    answer$reason <- sprintf("too few rows (%d, at least %d)", answer$n, MIN_ROWS)
  } else if (no_variance(first) || no_variance(second)) {
    answer$reason <- "effect has no variance"
  } else {
    answer$r <- stats::cor(first, second)
    answer$spearman_brown <- stepped_up(answer$r)
    answer$r_within <- within_correlation(first, second, layer)
    answer$spearman_brown_within <- stepped_up(answer$r_within)
    if (is.na(answer$r_within)) answer$reason <- "effect has no variance within layers"
  }
  answer
}

# Pooled over layers, each layer's means removed; NA where nothing is left.
within_correlation <- function(first, second, layer) {
  x <- first - stats::ave(first, layer)
  y <- second - stats::ave(second, layer)
  left <- c(sum(x^2) / sum(first^2), sum(y^2) / sum(second^2))
  if (any(left < 1e-14)) return(NA_real_)
  sum(x * y) / sqrt(sum(x^2) * sum(y^2))
}

# From the correlation of two parts to the reliability of the whole: of halves by Spearman (1910)
# and Brown (1910), of parts of which the first is another `share` by Horst (1951, Psychometrika
# 16).
stepped_up <- function(r, share = 0.5) {
  if (share %in% 0:1) return(NA_real_ * r)
  2 * r / (sqrt(r^2 + 4 * share * (1 - share) * (1 - r^2)) + r)
}

# Which share of the prompts the first half has, from a score that is the mean over them: three
# prompts have halves of one and two.
share_of_first <- function(score, first, second) {
  apart <- first - second
  if (sum(apart^2) == 0) return(0.5)
  min(max(sum((score - second) * apart) / sum(apart^2), 0), 1)
}
