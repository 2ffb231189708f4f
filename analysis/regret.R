# Does localization inform editing? The answer on the score's own scale: how much score is lost by
# editing each fact at the layer where its tracing peaks, at the one layer that was best for other
# facts, or at a random layer, instead of at the layer that is best for it.

STRATEGIES <- c("tracing_peak", "best_fixed", "random", "oracle")

# One row for each strategy. `folds`, `seed`: of the choice of the fixed layer; `resamples`, `seed`:
# of the intervals. Other arguments: see over_groups.
regret_table <- function(scores, effects, score_names, measures = "value",
                         problems = NULL, methods = NULL, correct_only = TRUE,
                         folds = 10L, resamples = 1000L, seed = 0L) {
  draw <- fact_weights(resamples, seed)
  over_groups(
    scores, effects, score_names, measures, problems, methods, correct_only,
    function(rows) regret_rows(rows, draw, folds, seed)
  )
}

regret_rows <- function(rows, draw, folds, seed) {
  cells <- choosable(rows)
  answers <- data.frame(
    strategy = STRATEGIES, n_facts = nrow(cells$score), n_layers = ncol(cells$score),
    n_dropped = cells$n_dropped, best_layer = NA_integer_,
    mean = NA_real_, mean_low = NA_real_, mean_high = NA_real_,
    regret = NA_real_, regret_low = NA_real_, regret_high = NA_real_,
    versus_fixed = NA_real_, versus_fixed_low = NA_real_, versus_fixed_high = NA_real_,
    reason = cells$reason, stringsAsFactors = FALSE
  )
  if (nrow(cells$score) == 0 || ncol(cells$score) < 2) return(answers)
  fixed <- fixed_choice(cells$score, folds, seed)
  answers$best_layer[STRATEGIES == "best_fixed"] <- most_frequent(fixed$layer)
  won <- list(
    tracing_peak = if (!is.null(cells$tracing)) at_peak(cells$score, cells$tracing),
    best_fixed = fixed$score, random = rowMeans(cells$score), oracle = apply(cells$score, 1, max)
  )
  for (i in seq_along(STRATEGIES)) {
    answers[i, ] <- fill_strategy(answers[i, ], won[[STRATEGIES[i]]], won, draw)
  }
  answers
}

# ---- the facts and layers to choose among --------------------------------------------------------

# Scores and effects as [facts, layers], facts in alphabetical order: those with a usable score and,
# if there is any tracing, an effect at every layer. A layer without any score is left out, named.
choosable <- function(rows) {
  facts <- sort(unique(rows$case_id), method = "radix")
  layers <- sort(unique(rows$layer[!is.na(rows$score)]))
  table_of <- function(values) {
    cells <- matrix(NA_real_, length(facts), length(layers), dimnames = list(facts, layers))
    kept <- rows$layer %in% layers
    at <- cbind(match(rows$case_id, facts), match(rows$layer, layers))
    cells[at[kept, , drop = FALSE]] <- values[kept]
    cells
  }
  score <- table_of(rows$score)
  tracing <- table_of(rows$tracing)
  whole <- length(layers) > 0 & stats::complete.cases(score)
  traced <- whole & stats::complete.cases(tracing)
  if (any(traced)) whole <- traced
  list(
    score = score[whole, , drop = FALSE],
    tracing = if (any(traced)) tracing[whole, , drop = FALSE],
    n_dropped = length(facts) - sum(whole),
    reason = choice_reason(rows, layers, sum(whole), any(traced))
  )
}

choice_reason <- function(rows, layers, n_facts, any_traced) {
  if (nrow(rows) == 0) return("no edits of the facts under study")
  if (length(layers) == 0) return(sprintf("no usable score in %d rows", nrow(rows)))
  scoreless <- setdiff(sort(unique(rows$layer)), layers)
  left_out <- if (length(scoreless) > 0) {
    sprintf("no usable score at layers %s, left out", toString(scoreless))
  }
  joined_reasons(
    left_out,
    if (n_facts == 0) {
      "no fact with a usable score at every layer"
    } else if (length(layers) < 2) {
      "a single edit layer"
    } else {
      c(
        if (!any_traced) "no fact with an effect at every edit layer",
        if (n_facts < MIN_ROWS) too_few_facts(n_facts)
      )
    }
  )
}

# ---- strategies ----------------------------------------------------------------------------------

# Each fact's score at the edit layer with its largest effect; the mean over layers that share it,
# so that ties favour none.
at_peak <- function(score, tracing) {
  peak <- tracing >= apply(tracing, 1, max)
  rowSums(score * peak) / rowSums(peak)
}

# Each fact's score at the layer whose mean score is largest among the facts of the other folds (the
# lowest such layer). A single fact has no others: NULL.
fixed_choice <- function(score, folds, seed) {
  if (nrow(score) < 2) return(NULL)
  fold <- fold_of(rownames(score), folds, seed)
  best <- vapply(seq_len(max(fold)), function(k) {
    which.max(colMeans(score[fold != k, , drop = FALSE]))
  }, 0L)[fold]
  list(score = score[cbind(seq_along(best), best)], layer = as.integer(colnames(score))[best])
}

most_frequent <- function(layers) {
  if (is.null(layers)) return(NA_integer_)
  choices <- sort(unique(layers))
  choices[which.max(tabulate(match(layers, choices)))]
}

# ---- means and intervals -------------------------------------------------------------------------

# The fixed layers stay as chosen when facts are resampled: the intervals are those of the choice.
fill_strategy <- function(answer, score, won, draw) {
  if (is.null(score)) {
    if (answer$strategy == "best_fixed") {
      answer$reason <- joined_reasons(answer$reason, "a single fact: no other to choose by")
    }
    return(answer)
  }
  answer[c("mean", "mean_low", "mean_high")] <- interval_of(score, draw)
  answer[c("regret", "regret_low", "regret_high")] <- interval_of(won$oracle - score, draw)
  if (!is.null(won$best_fixed)) {
    answer[c("versus_fixed", "versus_fixed_low", "versus_fixed_high")] <-
      interval_of(score - won$best_fixed, draw)
  }
  answer
}

# Mean over facts with its 95 % percentile interval; none for fewer than MIN_ROWS facts.
interval_of <- function(values, draw) {
  if (length(values) < MIN_ROWS) return(list(mean(values), NA_real_, NA_real_))
  means <- as.vector(draw(length(values)) %*% values) / length(values)
  as.list(c(mean(values), stats::quantile(means, c(0.025, 0.975), names = FALSE)))
}
