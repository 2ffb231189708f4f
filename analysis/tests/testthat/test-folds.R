# R2 out of fold against lm and predict, each fact left out.

sample_rows <- function(facts = 12, layers = c(1L, 4L, 6L), seed = 7) {
  set.seed(seed)
  rows <- expand.grid(layer = layers, case_id = cases(facts), stringsAsFactors = FALSE)
  rows$tracing <- runif(nrow(rows))
  rows$score <- 0.05 * rows$layer + 0.2 * rows$tracing + rnorm(nrow(rows), 0, 0.05)
  rows
}

by_lm <- function(formula, rows) {
  predicted <- numeric(nrow(rows))
  for (case in unique(rows$case_id)) {
    own <- rows$case_id == case
    predicted[own] <- predict(lm(formula, rows[!own, ]), rows[own, ])
  }
  predicted
}

test_that("every R2 is that of lm's predictions for facts it has not seen", {
  rows <- sample_rows()[-c(2, 9), ]
  rows <- rows[sample(nrow(rows)), ]
  row <- out_of_fold_row(rows)
  rows$between <- ave(rows$tracing, rows$case_id)
  rows$within <- rows$tracing - rows$between
  formulas <- list(
    score ~ 1, score ~ factor(layer), score ~ tracing, score ~ factor(layer) * tracing,
    score ~ factor(layer) * between, score ~ factor(layer) * within
  )
  predicted <- lapply(formulas, by_lm, rows)
  expect_equal(unname(predictions(rows)), predicted)
  errors <- vapply(predicted, function(one) sum((rows$score - one)^2), 0)
  expect_equal(c(row$r2_layer, row$r2_tracing, row$r2_both), 1 - errors[2:4] / errors[1])
  expect_equal(row$diff, row$r2_both - row$r2_layer)
  expect_equal(c(row$diff_between, row$diff_within), 1 - errors[5:6] / errors[1] - row$r2_layer)
  expect_equal(c(row$n, row$n_facts), c(34, 12))
  expect_equal(row$reason, "")
})

test_that("no prediction is thrown off by the scale of score and effect", {
  rows <- sample_rows()
  moved <- transform(rows, score = 1e6 + score, tracing = 100 + 0.01 * tracing)
  expect_equal(predictions(moved)$both - 1e6, predictions(rows)$both, tolerance = 1e-7)
})

test_that("noise alone has no R2 out of fold, whatever its R2", {
  rows <- sample_rows(40)
  rows$score <- rnorm(nrow(rows))
  expect_lt(out_of_fold_row(rows)$r2_both, 0.02)
  expect_gt(r2_row(rows)$r2_both, 0)
})

test_that("what says which facts are edited well is told from what says where", {
  rows <- sample_rows(40)
  facts <- ave(rows$tracing, rows$case_id, FUN = function(x) x[1])
  noise <- rnorm(nrow(rows), 0, 0.05)
  which <- out_of_fold_row(transform(rows, tracing = facts, score = facts + noise))
  expect_gt(which$diff_between, 0.5)
  expect_equal(which$diff, which$diff_between)
  expect_equal(which$diff_within, 0) # no effect differs between a fact's layers
  where <- rows$tracing - ave(rows$tracing, rows$case_id)
  where <- out_of_fold_row(transform(rows, score = where + noise))
  expect_gt(where$diff_within, 0.5)
  expect_lt(where$diff_between, 0.02)
})

test_that("a layer that no other fact has is predicted by their mean", {
  rows <- sample_rows(3)
  rows <- rows[!(rows$layer == 6 & rows$case_id != "case02"), ]
  others <- mean(rows$score[rows$case_id != "case02"])
  alone <- rows$layer == 6
  expect_equal(predictions(rows)$layer[alone], others)
  expect_equal(predictions(rows)$both[alone], others)
})

test_that("an effect that is constant among the others has no slope", {
  rows <- sample_rows(6)
  rows$tracing <- 0.3
  rows$tracing[1] <- 0.9
  expect_equal(predictions(rows)$both[1], predictions(rows)$layer[1])
  expect_true(all(is.finite(predictions(rows)$tracing)))
})

test_that("what cannot be had is empty, with its reason", {
  rows <- sample_rows()
  expect_match(out_of_fold_row(sample_rows(1, 0:6))$reason, "a single fact: no other to fit")
  single <- out_of_fold_row(rows[rows$layer == 4, ])
  expect_match(single$reason, "a single edit layer")
  expect_true(is.na(single$r2_layer) && is.na(single$diff) && !is.na(single$r2_tracing))
  untraced <- out_of_fold_row(transform(rows, tracing = NA_real_))
  expect_match(untraced$reason, "no effect at the edit layers")
  expect_true(!is.na(untraced$r2_layer) && is.na(untraced$r2_tracing) && is.na(untraced$r2_both))
  expect_true(is.na(untraced$diff_between) && is.na(untraced$diff_within))
})
