# How reliable is an effect? That of tracing is a mean over random noise; the effects from the two
# halves of the noise rows should agree, as those of any localizer that draws at random. Their
# correlation, stepped up to all rows by the Spearman-Brown formula, bounds how much variance any
# regression on the effect can explain.

HALVES <- c("_half1", "_half2")

# One row for each localizer, module, window and measure. `measures`: columns E of effects, with
# E_half1 and E_half2 beside them (NaN where nothing was drawn, or too few noise rows).
reliability_table <- function(effects, measures) {
  check_effects(effects, c("value", measures))
  answers <- list()
  for (setting in split_by(effects, c("model", "dataset"))) {
    for (group in trace_groups(setting$rows, measures)) {
      for (effect in group$measures) {
        row <- reliability_row(group$rows, effect)
        answers[[length(answers) + 1]] <- cbind(setting$keys, group$keys, effect = effect, row)
      }
    }
  }
  keys <- c("model", "dataset", "localizer", "module", "window", "effect")
  if (length(answers) == 0) {
    empty <- cbind(effects[setdiff(keys, "effect")], effect = character(nrow(effects)))
    return(cbind(empty, reliability_row(effects, measures[1])[0, ]))
  }
  table <- do.call(rbind, answers)
  table <- table[do.call(order, c(unname(as.list(table[keys])), method = "radix")), ]
  rownames(table) <- NULL
  table
}

reliability_row <- function(rows, effect) {
  halves <- paste0(effect, HALVES)
  empty <- data.frame(
    n = 0L, n_facts = 0L, n_layers = 0L, n_dropped = nrow(rows),
    r = NA_real_, r_within = NA_real_, spearman_brown = NA_real_, spearman_brown_within = NA_real_,
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
  fill_reliability(answer, first[known], second[known], rows$layer[known])
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

# From half the noise rows to all of them (Spearman 1910, Brown 1910).
stepped_up <- function(r) 2 * r / (1 + r)
