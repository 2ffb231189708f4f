# Does the effect explain anything beyond the edit layer? Edits of one fact are not independent, so
# the effect's slopes are tested with a cluster-robust covariance (sandwich::vcovCL).

# One row for each localizer, module, window, measure, problem, method and score: Diff, the R2 that
# the effect adds to the layer, and the test of all its slopes. Arguments: see over_groups.
cluster_table <- function(scores, effects, score_names, measures = "value", problems = NULL,
                          methods = NULL, correct_only = TRUE) {
  over_groups(
    scores, effects, score_names, measures, problems, methods, correct_only, cluster_row
  )
}

cluster_row <- function(rows) {
  used <- complete_rows(rows)
  answer <- beside(
    counts_of(used, rows),
    diff = NA_real_, wald_f = NA_real_, wald_df1 = NA_integer_, wald_df2 = NA_integer_,
    wald_p = NA_real_, reason = no_diff(used, nrow(rows))
  )
  if (answer$reason != "") return(answer)
  fits <- fit_by_layer(used$score, used$tracing, used$layer)
  answer$diff <- r_squared(used$score, fits$both) - r_squared(used$score, fits$layer)
  fill_wald(answer, used)
}

# All layers' slopes are zero: the terms that `both` has and `layer` lacks. The statistic with the
# jackknife's covariance over G facts (vcovCL's is G / (G - 1) times that) is Hotelling's T2 of q
# slopes, so F = (G - q) / (q (G - 1)) T2 on q and G - q (Hotelling 1931); q and G - 1, without the
# factor, reject far too often.
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
  answer$wald_df2 <- answer$n_facts - answer$wald_df1
  answer$wald_f <- statistic * answer$wald_df2 / (answer$wald_df1 * (answer$n_facts - 1))
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
