# The bootstrap against lm on the repeated rows, the robust test against its formula, the verdicts.

rows_of <- function(facts = 9, layers = c(2L, 5L, 8L), slope = 0, seed = 6) {
  set.seed(seed)
  rows <- expand.grid(layer = layers, case_id = cases(facts), stringsAsFactors = FALSE)
  rows$tracing <- runif(nrow(rows))
  rows$score <- 0.02 * rows$layer + slope * rows$tracing + rnorm(nrow(rows), 0, 0.1)
  rows
}

naive_diff <- function(rows, counts) {
  facts <- sort(unique(rows$case_id))
  again <- do.call(rbind, lapply(which(counts > 0), function(i) {
    own <- rows[rows$case_id == facts[i], ]
    own[rep(seq_len(nrow(own)), counts[i]), ]
  }))
  r2 <- function(formula) summary(lm(formula, again))$r.squared
  r2(score ~ factor(layer) * tracing) - r2(score ~ factor(layer))
}

test_that("Diff of each resample is lm's on the repeated rows", {
  rows <- rows_of()
  rows <- rows[-c(3, 8), ] # edits that failed
  rows$tracing[rows$layer == 5] <- 0.3 # a layer without slope
  weights <- fact_weights(40, 1)(9)
  expect_equal(dim(weights), c(40, 9))
  expect_true(all(rowSums(weights) == 9))
  shuffled <- rows[sample(nrow(rows)), ]
  expect_equal(resampled_diff(shuffled, weights), apply(weights, 1, naive_diff, rows = rows))
  everyone <- matrix(1, 1, 9)
  expect_equal(resampled_diff(rows, everyone), naive_diff(rows, everyone))
})

test_that("the intervals are the percentiles of the resampled Diffs, the same for the same seed", {
  rows <- rows_of(20, slope = 0.1)
  row <- interval_row(rows, fact_weights(300, 3), 0.01)
  diffs <- resampled_diff(rows, fact_weights(300, 3)(20))
  ends <- quantile(diffs, c(0.025, 0.975, 0.05, 0.95), names = FALSE)
  expect_equal(c(row$diff_low, row$diff_high, row$diff_low90, row$diff_high90), ends)
  expect_equal(row$diff, naive_diff(rows, rep(1, 20)))
  expect_equal(row$resamples, 300)
  expect_false(isTRUE(all.equal(diffs, resampled_diff(rows, fact_weights(300, 4)(20)))))
})

test_that("the robust test is the jackknife's over facts", {
  rows <- rows_of(12, slope = 0.1)
  row <- interval_row(rows, fact_weights(20, 1), 0.01)
  slopes <- function(rows) {
    fit <- lm(score ~ 0 + factor(layer) + factor(layer):tracing, rows)
    coef(fit)[4:6]
  }
  full <- slopes(rows)
  without <- sapply(cases(12), function(case) slopes(rows[rows$case_id != case, ]) - full)
  expect_equal(row$wald_f, drop(t(full) %*% solve(tcrossprod(without), full)) / 3)
  expect_equal(c(row$wald_df1, row$wald_df2), c(3, 11))
  expect_equal(row$wald_p, pf(row$wald_f, 3, 11, lower.tail = FALSE))
})

test_that("verdicts: a clear effect is larger, many facts without one equivalent, few undecided", {
  judge <- function(...) interval_row(rows_of(...), fact_weights(200, 1), 0.01)$verdict
  expect_equal(judge(60, slope = 0.5), "larger")
  expect_equal(judge(800), "equivalent")
  expect_equal(judge(8), "undecided")
})

test_that("few facts are seldom called larger where tracing tells nothing", {
  draw <- fact_weights(100, 1)
  judged <- lapply(1:60, function(seed) interval_row(rows_of(8, seed = seed), draw, 0.01))
  above <- vapply(judged, function(row) row$diff_low90 > 0.01, TRUE)
  larger <- vapply(judged, function(row) row$verdict == "larger", TRUE)
  expect_gt(mean(above), 0.7) # the interval alone is not to be believed
  expect_lt(mean(larger), 0.25)
})

test_that("the verdict follows from the interval, the bound and the robust test", {
  of <- function(low, high, p) {
    verdict(data.frame(diff_low90 = low, diff_high90 = high, bound = 0.01, wald_p = p))
  }
  expect_equal(of(0.001, 0.009, 0.5), "equivalent")
  expect_equal(of(0.001, 0.011, 0.01), "undecided")
  expect_equal(of(0.02, 0.1, 0.01), "larger")
  expect_equal(of(0.02, 0.1, 0.2), "undecided")
  expect_equal(of(0.02, 0.1, NA), "undecided")
})

test_that("too few facts give Diff alone, with the reasons", {
  row <- interval_row(rows_of(4), fact_weights(20, 1), 0.01)
  expect_false(is.na(row$diff))
  expect_true(all(is.na(c(row$diff_low, row$diff_high90, row$verdict))))
  expect_match(row$reason, "too few facts for an interval (4, at least 5)", fixed = TRUE)
  row <- interval_row(rows_of(6, layers = 0:6), fact_weights(20, 1), 0.01)
  expect_match(row$reason, "too few facts for the cluster-robust test (6 facts, 7 slopes)",
    fixed = TRUE
  )
  expect_true(is.na(row$wald_p))
  expect_false(is.na(row$diff_low))
})
