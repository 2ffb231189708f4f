# How sure is Diff, the R2 that tracing adds to the edit layer? Edits of one fact are not
# independent, so facts are resampled (cluster bootstrap, percentile intervals: Cameron, Gelbach and
# Miller 2008) and the tracing terms are tested with a cluster-robust covariance (sandwich::vcovCL).

# `resamples`, `seed`: of the bootstrap. `bound`: a Diff below it counts as none. Other arguments:
# see over_groups.
diff_interval_table <- function(scores, effects, score_names, measures = "value",
                                problems = NULL, methods = NULL, correct_only = TRUE,
                                resamples = 1000L, seed = 0L, bound = 0.01) {
  draw <- fact_weights(resamples, seed)
  over_groups(
    scores, effects, score_names, measures, problems, methods, correct_only,
    function(rows) interval_row(rows, draw, bound)
  )
}

interval_row <- function(rows, draw, bound) {
  used <- complete_rows(rows)
  answer <- data.frame(
    counts_of(used, rows),
    diff = NA_real_, diff_low = NA_real_, diff_high = NA_real_,
    diff_low90 = NA_real_, diff_high90 = NA_real_, resamples = 0L,
    wald_f = NA_real_, wald_df1 = NA_integer_, wald_df2 = NA_integer_, wald_p = NA_real_,
    bound = bound, verdict = NA_character_,
    reason = no_diff(used, nrow(rows)), stringsAsFactors = FALSE
  )
  if (answer$reason != "") return(answer)
  fits <- fit_by_layer(used$score, used$tracing, used$layer)
  answer$diff <- r_squared(used$score, fits$both) - r_squared(used$score, fits$layer)
  answer <- fill_bootstrap(fill_wald(answer, used), used, draw)
  if (!is.na(answer$diff_low90)) answer$verdict <- verdict(answer)
  answer
}

too_few_facts <- function(n_facts) {
  sprintf("too few facts for an interval (%d, at least %d)", n_facts, MIN_ROWS)
}

# ---- bootstrap over facts ------------------------------------------------------------------------

# A function of the number of facts that gives how often each is drawn: [resamples, facts]. The same
# seed for all, so that groups of the same facts are resampled alike.
fact_weights <- function(resamples, seed) {
  known <- list()
  function(n) {
    key <- as.character(n)
    if (is.null(known[[key]])) {
      known[[key]] <<- t(seeded(seed, stats::rmultinom(resamples, n, rep(1, n))))
    }
    known[[key]]
  }
}

fill_bootstrap <- function(answer, used, draw) {
  if (answer$n_facts < MIN_ROWS) {
    answer$reason <- joined_reasons(answer$reason, too_few_facts(answer$n_facts))
    return(answer)
  }
  diffs <- resampled_diff(used, draw(answer$n_facts))
  diffs <- diffs[is.finite(diffs)]
  answer$resamples <- length(diffs)
  ends <- stats::quantile(diffs, c(0.025, 0.975, 0.05, 0.95), names = FALSE)
  answer[c("diff_low", "diff_high", "diff_low90", "diff_high90")] <- as.list(ends)
  answer
}

# Two one-sided tests at 5 % (Schuirmann 1987), by the 90 % interval. Diff cannot be negative, and
# with few facts both it and its resamples lie above the bound even where tracing tells nothing (8
# facts at 3 layers: seven times in eight): "larger" asks for the cluster-robust test's word, too.
verdict <- function(answer) {
  if (answer$diff_high90 < answer$bound) return("equivalent")
  larger <- answer$diff_low90 > answer$bound && isTRUE(answer$wald_p < 0.05)
  if (larger) "larger" else "undecided"
}

# Diff of every resample; `weights`: [resamples, facts], facts in alphabetical order. Sums within
# facts and layers, weighted, give what lm would find on the repeated rows. NA where the resampled
# score has no variance.
resampled_diff <- function(used, weights) {
  facts <- sort(unique(used$case_id), method = "radix")
  layers <- sort(unique(used$layer))
  at <- cbind(match(used$case_id, facts), match(used$layer, layers))
  sums <- function(values) {
    cells <- matrix(0, length(facts), length(layers))
    cells[at] <- values
    weights %*% cells # [resamples, layers]
  }
  y <- used$score - mean(used$score)
  x <- used$tracing - stats::ave(used$tracing, used$layer)
  n <- sums(1)
  per_row <- function(a, b) ifelse(n > 0, a * b / n, 0)
  sy <- sums(y)
  sx <- sums(x)
  sxx <- sums(x^2) - per_row(sx, sx)
  sxy <- sums(x * y) - per_row(sx, sy)
  syy <- sums(y^2)
  total <- rowSums(syy) - rowSums(sy)^2 / rowSums(n)
  sloped <- sxx > 1e-12 * mean(x^2) # as good as constant in this resample: no slope
  explained <- rowSums(ifelse(sloped, sxy^2 / sxx, 0))
  ifelse(total > 1e-12 * sum(y^2), explained / total, NA_real_)
}

# ---- the cluster-robust test ---------------------------------------------------------------------

# All layers' slopes of tracing are zero: the terms that `both` has and `layer` lacks. F on the
# number of slopes and of facts less one (Cameron and Miller 2015), with the covariance of the
# jackknife over facts, which rejects too often with few facts, but least of its kind (MacKinnon,
# Nielsen and Webb 2023).
fill_wald <- function(answer, used) {
  layer <- factor(used$layer)
  fit <- stats::lm(score ~ 0 + layer + layer:tracing, cbind(used[c("score", "tracing")], layer))
  slopes <- grep(":tracing", names(stats::coef(fit)), fixed = TRUE, value = TRUE)
  slopes <- slopes[!is.na(stats::coef(fit)[slopes])]
  if (length(slopes) == 0) {
    answer$reason <- joined_reasons(
      answer$reason, "effect has no variance within any layer: no test"
    )
    return(answer)
  }
  statistic <- wald_statistic(fit, slopes, used$case_id)
  if (answer$n_facts <= length(slopes) || is.na(statistic)) {
    answer$reason <- joined_reasons(answer$reason, sprintf(
      "too few facts for the cluster-robust test (%d facts, %d slopes)", answer$n_facts,
      length(slopes)
    ))
    return(answer)
  }
  answer$wald_df1 <- length(slopes)
  answer$wald_df2 <- answer$n_facts - 1L
  answer$wald_f <- statistic / length(slopes)
  answer$wald_p <- stats::pf(
    answer$wald_f, answer$wald_df1, answer$wald_df2,
    lower.tail = FALSE
  )
  answer
}

# b' V^-1 b; NA where the covariance of the slopes cannot be had or is singular.
wald_statistic <- function(fit, slopes, cluster) {
  covariance <- tryCatch(sandwich::vcovCL(fit, cluster = cluster, type = "HC3"), error = identity)
  if (inherits(covariance, "error")) return(NA_real_)
  covariance <- covariance[slopes, slopes, drop = FALSE]
  scale <- sqrt(diag(covariance))
  if (!all(is.finite(scale) & scale > 0)) return(NA_real_)
  standardised <- stats::coef(fit)[slopes] / scale
  correlation <- covariance / outer(scale, scale)
  if (rcond(correlation) < 1e-12) return(NA_real_)
  sum(standardised * solve(correlation, standardised))
}
