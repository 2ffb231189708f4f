# The groups that an analysis is made for: every localizer, module, window and measure with every
# problem, method and score. Each analysis is one function of a group's rows; here it is called on
# all of them and its answers are bound behind the keys. One row or more per group always: where a
# number cannot be had it is NA and `reason` says why.

KEYS <- c(
  "model", "dataset", "localizer", "module", "window", "effect", "problem", "method", "score"
)

# Calls `summarise` on the rows of every group, one row an edit: case_id, layer, score, tracing
# (the localizer's effect at the edit layer), concentrated (whether the fact's effect is).
# `score_names`: columns of scores; `measures`: columns of effects, each giving its own groups for
# the localizers that have it, `value` alone for others. `problems`, `methods`: the expected ones;
# those absent from scores get groups without rows. Edits at layers that are single facts' own
# peaks alone are left out (listed_edits), and those of the embedding (in_layers).
over_groups <- function(scores, effects, score_names, measures, problems, methods, correct_only,
                        summarise) {
  check_scores(scores, score_names)
  check_effects(effects, c("value", measures))
  scores <- in_layers(listed_edits(scores))
  parts <- list()
  origin <- c("model", "dataset")
  for (setting in split_by(unique(rbind(scores[origin], effects[origin])), origin)) {
    edits <- edit_groups(of_setting(scores, setting$keys), problems, methods, correct_only)
    if (length(edits) == 0) next
    for (trace in trace_groups(of_setting(effects, setting$keys), measures)) {
      keys <- beside(setting$keys, trace$keys)
      answers <- edit_answers(edits, trace$rows, score_names, trace$measures, keys, summarise)
      parts[[length(parts) + 1]] <- beside(keys, answers)
    }
  }
  arrange_table(parts, summarise)
}

of_setting <- function(frame, keys) {
  frame[frame$model %in% keys$model & frame$dataset %in% keys$dataset, , drop = FALSE]
}

edit_answers <- function(edits, traced, score_names, measures, keys, summarise) {
  answers <- list()
  concentrated <- lapply(measures, function(effect) concentrated_facts(traced, effect))
  for (edit in edits) {
    at <- rows_at_layer(edit$rows, traced)
    rows <- data.frame(
      case_id = as.character(edit$rows$case_id), layer = as.integer(edit$rows$layer)
    )
    for (i in seq_along(measures)) {
      rows$tracing <- finite_at(traced[[measures[i]]], at)
      rows$concentrated <- rows$case_id %in% concentrated[[i]]
      for (score in score_names) {
        rows$score <- usable_score(edit$rows, score)
        group <- beside(effect = measures[i], edit$keys, score = score)
        answer <- naming(beside(keys, group), summarise(rows))
        answers[[length(answers) + 1]] <- beside(group, answer)
      }
    }
  }
  bind_columns(answers)
}

# R's warnings with the group that they come from.
naming <- function(keys, expression) {
  withCallingHandlers(expression, warning = function(w) {
    group <- paste(vapply(keys, as.character, ""), collapse = ", ")
    warning(sprintf("%s: %s", group, conditionMessage(w)), call. = FALSE)
    invokeRestart("muffleWarning")
  })
}

# Every problem with every method, also those without a row.
edit_groups <- function(scores, problems, methods, correct_only) {
  grid <- expand.grid(
    method = union(methods, unique(scores$method)),
    problem = union(problems, unique(scores$problem)), stringsAsFactors = FALSE
  )
  lapply(seq_len(nrow(grid)), function(i) {
    same <- scores$method %in% grid$method[i] & scores$problem %in% grid$problem[i]
    rows <- facts_under_study(scores[same, , drop = FALSE], correct_only)
    list(keys = grid[i, c("problem", "method")], rows = rows)
  })
}

# The places of each localizer, with the measures that it has. Without any effect the edits are
# still described: one group of unknown localizer, module and window.
trace_groups <- function(effects, measures) {
  if (nrow(effects) == 0) {
    keys <- data.frame(
      localizer = NA_character_, module = NA_character_, window = NA_integer_
    )
    return(list(list(keys = keys, rows = effects, measures = measures)))
  }
  own <- lapply(split(effects, effects$localizer), measures_of, measures)
  lapply(split_by(effects, c("localizer", "module", "window")), function(group) {
    c(group, list(measures = own[[group$keys$localizer]]))
  })
}

# Of the measures those that a localizer's rows have; `value` where these have none of them.
measures_of <- function(rows, measures) {
  has <- function(measure) any(is.finite(as.numeric(rows[[measure]])))
  known <- Filter(has, measures)
  if (length(known) > 0) return(known)
  if (has("value")) "value" else measures
}

# Facts whose effect is concentrated: at most three layers other than the peak reach half of it
# (METHODS section 7). A fact without an effect above zero has no peak.
concentrated_facts <- function(effects, effect) {
  value <- as.numeric(effects[[effect]])
  known <- is.finite(value)
  value <- value[known]
  fact <- factor(effects$case_id[known])
  peak <- as.vector(tapply(value, fact, max))
  reaching <- as.vector(tapply(value >= peak[fact] / 2, fact, sum))
  levels(fact)[peak > 0 & reaching - 1 <= 3]
}

arrange_table <- function(parts, summarise) {
  if (length(parts) == 0) {
    empty <- data.frame(
      model = "", dataset = "", localizer = "", module = "", window = 0L, effect = "",
      problem = "", method = "", score = ""
    )
    rows <- data.frame(case_id = "", layer = 0L, tracing = 0, concentrated = FALSE, score = 0)
    return(cbind(empty, summarise(rows))[0, ])
  }
  table <- bind_columns(parts)
  columns <- c(KEYS, setdiff(names(table), KEYS))
  order_by <- intersect(c(KEYS, "subset", "layer"), columns)
  table <- table[do.call(order, c(unname(as.list(table[order_by])), method = "radix")), columns]
  rownames(table) <- NULL
  table
}

# Rows that all models can use, so that their R2 compare: a score and, where there is any tracing at
# all, a tracing effect.
complete_rows <- function(rows) {
  keep <- !is.na(rows$score)
  if (any(keep & !is.na(rows$tracing))) keep <- keep & !is.na(rows$tracing)
  rows[keep, , drop = FALSE]
}

# What every answer about edits starts with.
counts_of <- function(used, rows) {
  beside(
    n = nrow(used), n_facts = length(unique(used$case_id)), n_dropped = nrow(rows) - nrow(used),
    n_layers = length(unique(used$layer))
  )
}

# Why nothing can be fitted to these rows, or "".
unfit <- function(rows, n_before) {
  n <- nrow(rows)
  if (n_before == 0) return("no edits of the facts under study")
  if (n == 0) return(sprintf("no usable score in %d rows", n_before))
  if (n < MIN_ROWS) return(sprintf("too few rows (%d, at least %d)", n, MIN_ROWS))
  if (no_variance(rows$score)) return("score has no variance")
  ""
}

unusable_tracing <- function(rows) {
  if (anyNA(rows$tracing)) return("no effect at the edit layers")
  if (no_variance(rows$tracing)) return("effect has no variance")
  ""
}

# Why Diff has no value: the models of layer, and of layer and tracing, cannot both be fitted. "" if
# they can.
no_diff <- function(rows, n_before) {
  reason <- unfit(rows, n_before)
  if (reason == "") reason <- unusable_tracing(rows)
  if (reason != "") return(reason)
  fits <- fit_by_layer(rows$score, rows$tracing, rows$layer)
  joined_reasons(without_model(nrow(rows), fits))
}

# ---- the two models, without design matrices -----------------------------------------------------

# score ~ factor(layer) is the mean of each layer, and score ~ factor(layer) * tracing a line of its
# own in each layer: sums within layers give lm's residuals without its design matrix (56 columns
# for each of GPT-J's fits). A layer whose tracing effect is constant has no slope, as lm's pivoting
# has it (relative tolerance 1e-7).
fit_by_layer <- function(score, tracing, layer) {
  group <- match(layer, sort(unique(layer)))
  size <- tabulate(group)
  sums <- function(v) as.vector(rowsum(v, group))
  y <- score - (sums(score) / size)[group]
  fits <- list(layer = y, rank_layer = length(size), both = NULL, rank_both = NA_integer_)
  if (is.null(tracing)) return(fits)
  x <- tracing - (sums(tracing) / size)[group]
  sxx <- sums(x^2)
  sloped <- sxx > 1e-14 * sums(tracing^2)
  slope <- ifelse(sloped, sums(x * y) / sxx, 0)
  fits$both <- y - slope[group] * x
  fits$rank_both <- length(size) + sum(sloped)
  fits
}

has_layer_model <- function(n, fits) fits$rank_layer > 1 && n > fits$rank_layer
has_both_model <- function(n, fits) {
  has_layer_model(n, fits) && !is.null(fits$both) && n > fits$rank_both
}

r_squared <- function(score, residuals) 1 - sum(residuals^2) / sum((score - mean(score))^2)

# Residuals that are rounding alone make a ratio of them meaningless.
fits_exactly <- function(r2) 1 - r2 < 1e-14

without_model <- function(n, fits) {
  if (fits$rank_layer == 1) return("a single edit layer")
  if (!has_layer_model(n, fits)) {
    return(sprintf("too few rows for the layer model (%d rows, %d layers)", n, fits$rank_layer))
  }
  if (!is.null(fits$both) && !has_both_model(n, fits)) {
    return(sprintf(
      "too few rows for layer and effect together (%d rows, %d coefficients)", n, fits$rank_both
    ))
  }
  NULL
}
