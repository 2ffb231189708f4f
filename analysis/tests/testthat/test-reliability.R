# Split-half reliability against known variances, and where there are no halves.

halved <- function(facts = 400, signal = 1, noise = 0.5, level = 0, seed = 11) {
  set.seed(seed)
  effects <- make_effects(facts = facts, layers = 0:5, windows = 5)
  true <- level * effects$layer + rnorm(nrow(effects), 0, signal)
  effects$value_half1 <- true + rnorm(nrow(effects), 0, noise)
  effects$value_half2 <- true + rnorm(nrow(effects), 0, noise)
  effects
}

edits <- make_scores(facts = 2, layers = c(0, 2, 5))

test_that("the correlations are the shares of true variance, overall and within layers", {
  row <- reliability_table(edits, halved(2000, level = 1), "value")
  between <- mean((0:5 - 2.5)^2)
  expect_equal(row$r, (between + 1) / (between + 1.25), tolerance = 0.02)
  expect_equal(row$r_within, 1 / 1.25, tolerance = 0.02)
  # both halves together have half the noise variance of each
  expect_equal(row$spearman_brown_within, 1 / (1 + 0.125), tolerance = 0.02)
  expect_equal(row$spearman_brown, 2 * row$r / (1 + row$r))
  expect_equal(c(row$n, row$n_facts, row$n_layers, row$n_dropped), c(12000, 2000, 6, 0))
  expect_equal(row$reason, "")
})

test_that("within layers is the correlation of residuals of the layers' means", {
  effects <- halved(10, level = 2)
  effects$value_half2[c(1, 7)] <- NaN
  row <- reliability_table(edits, effects, "value")
  known <- effects[is.finite(effects$value_half2), ]
  left <- function(column) residuals(lm(known[[column]] ~ factor(known$layer)))
  expect_equal(row$r_within, cor(left("value_half1"), left("value_half2")))
  expect_equal(row$r, cor(known$value_half1, known$value_half2))
  expect_equal(row$n_dropped, 2)
})

test_that("at the edited layers it is the correlation without the means of facts and layers", {
  effects <- halved(10, level = 2)
  effects$value_half1 <- effects$value_half1 + 3 * as.integer(factor(effects$case_id))
  effects$value_half2 <- effects$value_half2 + 5 * as.integer(factor(effects$case_id))
  row <- reliability_table(edits, effects, "value")
  known <- effects[effects$layer %in% c(0, 2, 5), ]
  left <- function(column) {
    residuals(lm(known[[column]] ~ factor(known$layer) + factor(known$case_id)))
  }
  expect_equal(row$r_edited, cor(left("value_half1"), left("value_half2")))
  expect_equal(row$spearman_brown_edited, 2 * row$r_edited / (1 + row$r_edited))
  expect_equal(row$n_edited, 3)
  one <- reliability_table(edits[edits$layer == 2, ], effects, "value")
  expect_equal(one$reason, "too few facts at edited layers (10 at 1)")
  expect_false(is.na(one$r))
})

test_that("what cannot be had is a row with its reason", {
  effects <- halved(5)
  reason <- function(effects) reliability_table(edits, effects, "value")$reason
  expect_match(reason(make_effects()), "no halves of noise rows")
  expect_match(reason(transform(effects, value_half2 = NaN)), "a single noise row")
  expect_match(reason(effects[1:4, ]), "too few rows (4", fixed = TRUE)
  expect_match(reason(transform(effects, value_half1 = 0)), "has no variance")
  by_layer <- transform(effects, value_half1 = layer, value_half2 = layer)
  row <- reliability_table(edits, by_layer, "value")
  expect_equal(row$r, 1)
  expect_match(row$reason, "no variance within layers")
})

test_that("a table of nothing has the same columns", {
  full <- reliability_table(edits, halved(5), "value")
  empty <- reliability_table(edits, halved(5)[0, ], "value")
  expect_equal(nrow(empty), 0)
  expect_equal(names(empty), names(full))
})
