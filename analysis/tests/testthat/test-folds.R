# R2 out of fold against lm and predict, and folds that keep facts whole.

sample_rows <- function(facts = 12, layers = c(1L, 4L, 6L), seed = 7) {
  set.seed(seed)
  rows <- expand.grid(layer = layers, case_id = cases(facts), stringsAsFactors = FALSE)
  rows$tracing <- runif(nrow(rows))
  rows$score <- 0.05 * rows$layer + 0.2 * rows$tracing + rnorm(nrow(rows), 0, 0.05)
  rows
}

test_that("every R2 is that of lm's predictions for facts it has not seen", {
  rows <- sample_rows()[-c(2, 9), ]
  row <- out_of_fold_row(rows, 5, 1)
  fold <- fold_of(rows$case_id, 5, 1)
  rows$between <- ave(rows$tracing, rows$case_id)
  rows$within <- rows$tracing - rows$between
  formulas <- list(
    score ~ 1, score ~ factor(layer), score ~ tracing, score ~ factor(layer) * tracing,
    score ~ factor(layer) * between, score ~ factor(layer) * within
  )
  errors <- vapply(formulas, function(formula) {
    sum(vapply(1:5, function(k) {
      fit <- lm(formula, rows[fold != k, ])
      sum((rows$score[fold == k] - predict(fit, rows[fold == k, ]))^2)
    }, 0))
  }, 0)
  expect_equal(c(row$r2_layer, row$r2_tracing, row$r2_both), 1 - errors[2:4] / errors[1])
  expect_equal(row$diff, row$r2_both - row$r2_layer)
  expect_equal(c(row$diff_between, row$diff_within), 1 - errors[5:6] / errors[1] - row$r2_layer)
  expect_equal(c(row$folds, row$n, row$n_facts), c(5, 34, 12))
  expect_equal(row$reason, "")
})

test_that("folds hold whole facts, are even, and do not depend on the rows' order", {
  rows <- sample_rows(13)
  fold <- fold_of(rows$case_id, 5, 2)
  expect_true(all(tapply(fold, rows$case_id, function(f) length(unique(f))) == 1))
  expect_true(all(table(fold[!duplicated(rows$case_id)]) %in% 2:3))
  shuffled <- sample(nrow(rows))
  expect_equal(fold_of(rows$case_id[shuffled], 5, 2), fold[shuffled])
  expect_false(identical(fold_of(rows$case_id, 5, 3), fold))
  expect_equal(max(fold_of(rows$case_id, 100, 2)), 13)
})

test_that("noise alone has no R2 out of fold, whatever its R2", {
  rows <- sample_rows(40)
  rows$score <- rnorm(nrow(rows))
  expect_lt(out_of_fold_row(rows, 10, 1)$r2_both, 0.02)
  expect_gt(r2_row(rows)$r2_both, 0)
})

test_that("what says which facts are edited well is told from what says where", {
  rows <- sample_rows(40)
  facts <- ave(rows$tracing, rows$case_id, FUN = function(x) x[1])
  noise <- rnorm(nrow(rows), 0, 0.05)
  which <- out_of_fold_row(transform(rows, tracing = facts, score = facts + noise), 10, 1)
  expect_gt(which$diff_between, 0.5)
  expect_equal(which$diff, which$diff_between)
  expect_equal(which$diff_within, 0) # no effect differs between a fact's layers
  where <- rows$tracing - ave(rows$tracing, rows$case_id)
  where <- out_of_fold_row(transform(rows, score = where + noise), 10, 1)
  expect_gt(where$diff_within, 0.5)
  expect_lt(where$diff_between, 0.02)
})

test_that("a layer that the other folds lack is predicted by their mean", {
  rows <- sample_rows(3)
  rows <- rows[!(rows$layer == 6 & rows$case_id != "case02"), ]
  rows <- cbind(rows, halves(rows$tracing, rows$case_id))
  train <- rows[rows$case_id != "case02", ]
  test <- rows[rows$layer == 6, ]
  predicted <- predictions(train, test)
  expect_equal(predicted$layer, mean(train$score))
  expect_equal(predicted$both, mean(train$score))
})

test_that("what cannot be had is empty, with its reason", {
  rows <- sample_rows()
  expect_match(out_of_fold_row(sample_rows(1, 0:6), 10, 1)$reason, "a single fact: no folds")
  single <- out_of_fold_row(rows[rows$layer == 4, ], 10, 1)
  expect_match(single$reason, "a single edit layer")
  expect_true(is.na(single$r2_layer) && is.na(single$diff) && !is.na(single$r2_tracing))
  untraced <- out_of_fold_row(transform(rows, tracing = NA_real_), 10, 1)
  expect_match(untraced$reason, "no effect at the edit layers")
  expect_true(!is.na(untraced$r2_layer) && is.na(untraced$r2_tracing) && is.na(untraced$r2_both))
  expect_true(is.na(untraced$diff_between) && is.na(untraced$diff_within))
})
