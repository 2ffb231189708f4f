# Layer and tracing effect where facts differ: linear mixed models with a random intercept for each
# fact (lme4). Marginal R2 is the share of variance of the fixed effects, conditional R2 that of
# fixed effects and facts together (Nakagawa and Schielzeth 2013).

suppressPackageStartupMessages(library(lme4))

# score ~ factor(layer) + (1 | case_id) and score ~ factor(layer) * tracing + (1 | case_id), both by
# maximum likelihood, and their likelihood-ratio test. Arguments: see over_groups.
mixed_table <- function(scores, effects, score_names, measures = "value",
                        problems = NULL, methods = NULL, correct_only = TRUE) {
  over_groups(
    scores, effects, score_names, measures, problems, methods, correct_only, mixed_row
  )
}

mixed_row <- function(rows) {
  used <- complete_rows(rows)
  answer <- data.frame(
    counts_of(used, rows),
    r2_marginal_layer = NA_real_, r2_conditional_layer = NA_real_,
    r2_marginal_both = NA_real_, r2_conditional_both = NA_real_, diff_marginal = NA_real_,
    chisq = NA_real_, df = NA_integer_, p = NA_real_, singular = NA,
    reason = mixed_unfit(used, nrow(rows)), stringsAsFactors = FALSE
  )
  if (answer$reason != "") return(answer)
  fits <- tryCatch(mixed_fits(used), error = function(e) conditionMessage(e))
  if (is.character(fits)) {
    answer$reason <- paste("lme4:", fits)
    return(answer)
  }
  fill_mixed(answer, fits)
}

mixed_unfit <- function(used, n_before) {
  reason <- no_diff(used, n_before)
  if (reason != "") return(reason)
  if (!anyDuplicated(used$case_id)) return("one edit of each fact: no random intercept")
  if (length(unique(used$case_id)) < 2) return("a single fact: no random intercept")
  fits <- fit_by_layer(used$score, used$tracing, used$layer)
  if (fits_exactly(r_squared(used$score, fits$both))) return("layer and tracing fit exactly")
  ""
}

# The effect in units of its standard deviation: the same models, better conditioned.
mixed_fits <- function(used) {
  used$layer <- factor(used$layer)
  used$tracing <- as.vector(scale(used$tracing))
  control <- lmerControl(check.conv.singular = "ignore", calc.derivs = FALSE)
  list(
    layer = lmer(score ~ layer + (1 | case_id), used, REML = FALSE, control = control),
    both = lmer(score ~ layer * tracing + (1 | case_id), used, REML = FALSE, control = control)
  )
}

fill_mixed <- function(answer, fits) {
  layer <- nakagawa_r2(fits$layer)
  both <- nakagawa_r2(fits$both)
  answer$r2_marginal_layer <- layer[["marginal"]]
  answer$r2_conditional_layer <- layer[["conditional"]]
  answer$r2_marginal_both <- both[["marginal"]]
  answer$r2_conditional_both <- both[["conditional"]]
  answer$diff_marginal <- both[["marginal"]] - layer[["marginal"]]
  answer$singular <- isSingular(fits$layer) || isSingular(fits$both)
  answer$df <- as.integer(length(fixef(fits$both)) - length(fixef(fits$layer)))
  if (answer$df == 0) {
    answer$reason <- "effect has no variance within any layer: no test"
    return(answer)
  }
  gain <- 2 * as.numeric(stats::logLik(fits$both) - stats::logLik(fits$layer))
  answer$chisq <- max(0, gain)
  answer$p <- stats::pchisq(answer$chisq, answer$df, lower.tail = FALSE)
  answer
}

nakagawa_r2 <- function(fit) {
  fixed <- stats::var(as.vector(stats::model.matrix(fit) %*% fixef(fit)))
  fact <- as.numeric(VarCorr(fit)$case_id)
  residual <- stats::sigma(fit)^2
  c(marginal = fixed, conditional = fixed + fact) / (fixed + fact + residual)
}
