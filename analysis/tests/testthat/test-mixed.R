# Mixed models against simulated variance components, against lme4 called by hand, and at the edges.

simulated <- function(facts, layers = 0:4, between = 0.3, within = 0.2, slope = 0, seed = 5) {
  set.seed(seed)
  rows <- expand.grid(layer = layers, case_id = cases(facts), stringsAsFactors = FALSE)
  fact <- rnorm(facts, 0, between)[match(rows$case_id, cases(facts))]
  rows$tracing <- runif(nrow(rows))
  rows$score <- 0.1 * rows$layer + slope * rows$tracing + fact + rnorm(nrow(rows), 0, within)
  rows
}

test_that("R2 is the share of the simulated variance components", {
  row <- mixed_row(simulated(3000, slope = 0.5))
  layer <- 0.01 * var(rep(0:4, 3000)) # of 0.1 * layer
  tracing <- 0.25 / 12
  total <- layer + tracing + 0.3^2 + 0.2^2
  expect_equal(row$r2_marginal_layer, layer / total, tolerance = 0.03)
  expect_equal(row$r2_marginal_both, (layer + tracing) / total, tolerance = 0.03)
  expect_equal(row$r2_conditional_both, (layer + tracing + 0.3^2) / total, tolerance = 0.03)
  expect_equal(row$r2_conditional_layer, (layer + 0.3^2) / total, tolerance = 0.03)
  expect_equal(row$diff_marginal, row$r2_marginal_both - row$r2_marginal_layer)
  expect_equal(row$df, 5)
  expect_lt(row$p, 1e-6)
  expect_false(row$singular)
})

test_that("the likelihood-ratio test is anova's of the two models", {
  rows <- simulated(20)
  row <- mixed_row(rows)
  fit <- function(formula) lmer(formula, rows, REML = FALSE)
  layer <- fit(score ~ factor(layer) + (1 | case_id))
  both <- fit(score ~ factor(layer) * tracing + (1 | case_id))
  test <- anova(layer, both)
  expect_equal(c(row$chisq, row$df), c(test$Chisq[2], test$Df[2]), tolerance = 1e-5)
  expect_equal(row$p, test[2, "Pr(>Chisq)"], tolerance = 1e-5)
  fixed <- var(predict(both, re.form = NA))
  total <- fixed + as.numeric(VarCorr(both)$case_id) + sigma(both)^2
  expect_equal(row$r2_marginal_both, fixed / total, tolerance = 1e-5)
})

test_that("facts that do not differ make a singular fit, which is said", {
  rows <- simulated(30, between = 0)
  rows$score <- rows$score - ave(rows$score, rows$case_id)
  row <- mixed_row(rows)
  expect_true(row$singular)
  expect_equal(row$r2_marginal_both, row$r2_conditional_both)
  expect_equal(row$reason, "")
})

test_that("what cannot be fitted has its reason", {
  rows <- simulated(6)
  expect_match(mixed_row(rows[!duplicated(rows$case_id), ])$reason, "a single edit layer")
  spread <- rows[rows$layer == match(rows$case_id, cases(6)) %% 2, ]
  expect_match(mixed_row(spread)$reason, "one edit of each fact: no random intercept")
  flat <- transform(rows, tracing = layer)
  row <- mixed_row(flat)
  expect_match(row$reason, "no variance within any layer: no test")
  expect_false(is.na(row$r2_marginal_layer))
  expect_true(is.na(row$p))
  exact <- transform(rows, score = layer + 2 * tracing)
  expect_match(mixed_row(exact)$reason, "fit exactly")
})
