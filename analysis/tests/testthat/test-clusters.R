# The test that knows which edits share a fact against its formula and its size.

rows_of <- function(facts = 9, layers = c(2L, 5L, 8L), slope = 0, seed = 6) {
  set.seed(seed)
  rows <- expand.grid(layer = layers, case_id = cases(facts), stringsAsFactors = FALSE)
  rows$tracing <- runif(nrow(rows))
  rows$score <- 0.02 * rows$layer + slope * rows$tracing + rnorm(nrow(rows), 0, 0.1)
  rows
}

test_that("the robust test is Hotelling's, with the jackknife's covariance over facts", {
  rows <- rows_of(12, slope = 0.1)
  row <- cluster_row(rows)
  slopes <- function(rows) {
    fit <- lm(score ~ 0 + factor(layer) + factor(layer):tracing, rows)
    coef(fit)[4:6]
  }
  full <- slopes(rows)
  without <- sapply(cases(12), function(case) slopes(rows[rows$case_id != case, ]) - full)
  hotelling <- drop(t(full) %*% solve(tcrossprod(without), full))
  expect_equal(row$wald_f, hotelling * (12 - 3) / (3 * 11))
  expect_equal(c(row$wald_df1, row$wald_df2), c(3, 9))
  expect_equal(row$wald_p, pf(row$wald_f, 3, 9, lower.tail = FALSE))
  r2 <- function(formula) summary(lm(formula, rows))$r.squared
  expect_equal(row$diff, r2(score ~ factor(layer) * tracing) - r2(score ~ factor(layer)))
})

test_that("where the effect tells nothing, few facts and many slopes seldom reject", {
  p <- vapply(1:150, function(seed) cluster_row(rows_of(11, layers = 0:5, seed = seed))$wald_p, 0)
  expect_lt(mean(p < 0.05), 0.05 + 3 * sqrt(0.05 * 0.95 / 150)) # three standard errors
})

test_that("too few facts for the test give Diff alone, with the reason", {
  row <- cluster_row(rows_of(6, layers = 0:6))
  expect_match(row$reason, "too few facts for the cluster-robust test (6 facts, 7 slopes)",
    fixed = TRUE
  )
  expect_true(is.na(row$wald_p) && !is.na(row$diff))
})
