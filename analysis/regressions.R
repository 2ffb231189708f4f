# How much of an edit's success do the edit layer and the tracing effect explain?
#
# METHODS section 7 (Hase et al. 2023, tables 1 and 3 to 7): R2 of score ~ factor(layer), of
# score ~ tracing, of score ~ factor(layer) * tracing, and the F test of the last against the first;
# and the correlation of score and tracing effect within each edit layer.
# One row per group always: where a number cannot be had it is NA and `reason` says why.

MIN_ROWS <- 5L # below this a fit says nothing, and no number is given

# `score_names`: columns of scores; `tracing`: columns of effects, each giving its own rows.
# `problems`, `methods`: the expected ones; those absent from scores get rows of their own.
r2_table <- function(scores, effects, score_names, tracing = "fraction_max",
                     problems = NULL, methods = NULL, correct_only = TRUE) {
  over_groups(
    scores, effects, score_names, tracing, problems, methods, correct_only, r2_row
  )
}

# As r2_table, with one row per edit layer: Pearson (95 % interval by Fisher's z) and Spearman.
correlation_table <- function(scores, effects, score_names, tracing = "fraction_max",
                              problems = NULL, methods = NULL, correct_only = TRUE) {
  over_groups(
    scores, effects, score_names, tracing, problems, methods, correct_only, correlation_rows
  )
}

# ---- groups --------------------------------------------------------------------------------------

# Calls `summarise` on the rows (case_id, layer, score, tracing) of every group and binds the
# answers behind the group's keys.
over_groups <- function(scores, effects, score_names, tracing, problems, methods, correct_only,
                        summarise) {
  check_scores(scores, score_names)
  check_effects(effects, tracing)
  parts <- list()
  for (setting in split_by(scores, c("model", "dataset"))) {
    traced <- effects[effects$model %in% setting$keys$model &
      effects$dataset %in% setting$keys$dataset, , drop = FALSE]
    edits <- edit_groups(setting$rows, problems, methods, correct_only)
    for (trace in trace_groups(traced)) {
      for (effect in tracing) {
        answers <- edit_answers(edits, trace$rows, score_names, effect, summarise)
        parts[[length(parts) + 1]] <- cbind(
          setting$keys, trace$keys, tracing = effect, answers,
          row.names = NULL
        )
      }
    }
  }
  arrange_table(parts, summarise)
}

edit_answers <- function(edits, traced, score_names, effect, summarise) {
  answers <- list()
  for (edit in edits) {
    x <- effect_at_layer(edit$rows, traced, effect)
    for (score in score_names) {
      rows <- data.frame(
        case_id = as.character(edit$rows$case_id), layer = as.integer(edit$rows$layer),
        score = usable_score(edit$rows, score), tracing = x
      )
      answers[[length(answers) + 1]] <- cbind(
        edit$keys, score = score, summarise(rows), row.names = NULL
      )
    }
  }
  do.call(rbind, answers)
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

# Without any tracing the edits are still described: one group of unknown module and window.
trace_groups <- function(effects) {
  if (nrow(effects) > 0) return(split_by(effects, c("module", "window")))
  list(list(keys = data.frame(module = NA_character_, window = NA_integer_), rows = effects))
}

arrange_table <- function(parts, summarise) {
  keys <- c("model", "dataset", "module", "window", "tracing", "problem", "method", "score")
  if (length(parts) == 0) {
    empty <- data.frame(
      model = "", dataset = "", module = "", window = 0L, tracing = "", problem = "", method = "",
      score = ""
    )
    rows <- data.frame(case_id = "", layer = 0L, score = 0, tracing = 0)
    return(cbind(empty, summarise(rows))[0, ])
  }
  table <- do.call(rbind, parts)
  columns <- c(keys, setdiff(names(table), keys))
  order_by <- intersect(c(keys, "layer"), columns)
  table <- table[do.call(order, c(unname(as.list(table[order_by])), method = "radix")), columns]
  rownames(table) <- NULL
  table
}

# Rows that all three models can use, so that their R2 compare: a score and, where there is any
# tracing at all, a tracing effect.
complete_rows <- function(rows) {
  keep <- !is.na(rows$score)
  if (any(keep & !is.na(rows$tracing))) keep <- keep & !is.na(rows$tracing)
  rows[keep, , drop = FALSE]
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
  if (anyNA(rows$tracing)) return("no tracing effect at the edit layers")
  if (no_variance(rows$tracing)) return("tracing effect has no variance")
  ""
}

# ---- R2 and the F test ---------------------------------------------------------------------------

r2_row <- function(rows) {
  used <- complete_rows(rows)
  answer <- data.frame(
    n = nrow(used), n_facts = length(unique(used$case_id)), n_dropped = nrow(rows) - nrow(used),
    n_layers = length(unique(used$layer)),
    r2_layer = NA_real_, r2_tracing = NA_real_, r2_both = NA_real_, diff = NA_real_,
    f = NA_real_, df1 = NA_integer_, df2 = NA_integer_, p = NA_real_,
    rmse_layer = NA_real_, rmse_both = NA_real_, mae_layer = NA_real_, mae_both = NA_real_,
    reason = unfit(used, nrow(rows)), stringsAsFactors = FALSE
  )
  if (answer$reason != "") return(answer)
  no_tracing <- unusable_tracing(used)
  if (no_tracing == "") answer$r2_tracing <- stats::cor(used$score, used$tracing)^2
  fits <- fit_by_layer(used$score, if (no_tracing == "") used$tracing, used$layer)
  answer <- fill_layer(answer, used$score, fits)
  answer <- fill_both(answer, used$score, fits)
  answer$reason <- paste(c(if (no_tracing != "") no_tracing, why_incomplete(answer, fits)),
    collapse = "; "
  )
  answer
}

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

fill_layer <- function(answer, score, fits) {
  if (!has_layer_model(answer$n, fits)) return(answer)
  answer$r2_layer <- r_squared(score, fits$layer)
  answer$rmse_layer <- sqrt(mean(fits$layer^2))
  answer$mae_layer <- mean(abs(fits$layer))
  answer
}

fill_both <- function(answer, score, fits) {
  if (!has_both_model(answer$n, fits)) return(answer)
  answer$r2_both <- r_squared(score, fits$both)
  answer$rmse_both <- sqrt(mean(fits$both^2))
  answer$mae_both <- mean(abs(fits$both))
  answer$diff <- answer$r2_both - answer$r2_layer
  answer$df1 <- as.integer(fits$rank_both - fits$rank_layer)
  answer$df2 <- as.integer(answer$n - fits$rank_both)
  if (answer$df1 == 0 || fits_exactly(answer)) return(answer)
  answer$f <- (answer$diff / answer$df1) / ((1 - answer$r2_both) / answer$df2)
  answer$p <- stats::pf(answer$f, answer$df1, answer$df2, lower.tail = FALSE)
  answer
}

r_squared <- function(score, residuals) 1 - sum(residuals^2) / sum((score - mean(score))^2)

# Residuals that are rounding alone make F a ratio of rounding errors.
fits_exactly <- function(answer) 1 - answer$r2_both < 1e-14

why_incomplete <- function(answer, fits) {
  n <- answer$n
  if (fits$rank_layer == 1) return("a single edit layer")
  if (!has_layer_model(n, fits)) {
    return(sprintf("too few rows for the layer model (%d rows, %d layers)", n, fits$rank_layer))
  }
  if (is.null(fits$both)) return(NULL)
  if (!has_both_model(n, fits)) {
    return(sprintf(
      "too few rows for layer and tracing together (%d rows, %d coefficients)", n, fits$rank_both
    ))
  }
  if (answer$df1 == 0) return("tracing effect has no variance within any layer: no F test")
  if (fits_exactly(answer)) return("layer and tracing together fit exactly: no F test")
  NULL
}

# ---- correlations within a layer -----------------------------------------------------------------

correlation_rows <- function(rows) {
  layers <- sort(unique(rows$layer))
  if (length(layers) == 0) layers <- NA_integer_
  do.call(rbind, lapply(layers, function(layer) {
    cbind(layer = layer, correlation_row(rows[rows$layer %in% layer, , drop = FALSE]))
  }))
}

correlation_row <- function(rows) {
  used <- complete_rows(rows)
  answer <- data.frame(
    n = nrow(used), n_dropped = nrow(rows) - nrow(used),
    pearson = NA_real_, pearson_low = NA_real_, pearson_high = NA_real_, pearson_p = NA_real_,
    spearman = NA_real_, spearman_p = NA_real_, reason = unfit(used, nrow(rows)),
    stringsAsFactors = FALSE
  )
  if (answer$reason == "") answer$reason <- unusable_tracing(used)
  if (answer$reason != "") return(answer)
  pearson <- stats::cor.test(used$score, used$tracing)
  # Ties rule out the exact test, and facts share scores (floors): the t approximation always.
  spearman <- stats::cor.test(used$score, used$tracing, method = "spearman", exact = FALSE)
  answer$pearson <- unname(pearson$estimate)
  answer$pearson_low <- pearson$conf.int[1]
  answer$pearson_high <- pearson$conf.int[2]
  answer$pearson_p <- pearson$p.value
  answer$spearman <- unname(spearman$estimate)
  answer$spearman_p <- spearman$p.value
  answer
}
