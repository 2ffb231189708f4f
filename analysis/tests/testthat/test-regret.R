# Regret by hand on three layers, ties, the fixed layer's choice on other facts, and the edges.

# `score`, `tracing`: matrices [facts, layers].
choice_rows <- function(score, tracing, layers = c(2L, 5L, 9L)) {
  data.frame(
    case_id = rep(cases(nrow(score)), times = ncol(score)), layer = rep(layers, each = nrow(score)),
    score = as.vector(score), tracing = as.vector(tracing)
  )
}
weights <- fact_weights(200, 1)
by_strategy <- function(rows) {
  table <- regret_rows(rows, weights, 10, 1)
  split(table, factor(table$strategy, STRATEGIES))
}

test_that("means and regrets are those worked out by hand", {
  score <- rbind(
    c(0.9, 0.5, 0.1), c(0.8, 0.6, 0.2), c(0.7, 0.9, 0.3), c(0.9, 0.4, 0.2), c(0.6, 0.5, 0.7)
  )
  tracing <- rbind(c(0, 1, 2), c(3, 1, 0), c(0, 2, 1), c(1, 5, 1), c(0, 0, 9))
  row <- by_strategy(choice_rows(score, tracing))
  oracle <- mean(c(0.9, 0.8, 0.9, 0.9, 0.7))
  peak <- mean(c(0.1, 0.8, 0.9, 0.4, 0.7))
  expect_equal(row$oracle$mean, oracle)
  expect_equal(row$tracing_peak$mean, peak)
  expect_equal(row$tracing_peak$regret, oracle - peak)
  fixed <- mean(score[, 1]) # the first layer is best on any four of the facts
  expect_equal(row$best_fixed$mean, fixed)
  expect_equal(row$best_fixed$best_layer, 2)
  expect_equal(row$tracing_peak$versus_fixed, peak - fixed)
  expect_equal(row$random$mean, mean(score))
  expect_equal(row$random$regret, oracle - mean(score))
  expect_equal(c(row$oracle$regret, row$oracle$regret_high), c(0, 0))
  expect_equal(c(row$random$n_facts, row$random$n_layers, row$random$n_dropped), c(5, 3, 0))
  expect_true(all(vapply(row, function(r) r$reason == "", TRUE)))
})

test_that("the fixed layer is chosen on the facts of the other folds", {
  score <- rbind(c(1, 0.9), c(0, 0.9), c(0.9, 0.8)) # without the first fact layer 2 leads
  choice <- fixed_choice(`dimnames<-`(score, list(cases(3), c(4, 8))), 3, 1)
  expect_equal(choice$layer, c(8, 4, 8))
  expect_equal(choice$score, c(0.9, 0, 0.8))
})

test_that("layers that share the largest effect count alike", {
  score <- rbind(c(1, 0, 0.5), c(0.2, 0.4, 0.9))
  expect_equal(at_peak(score, rbind(c(0, 0, 0), c(1, 1, 0))), c(0.5, 0.3))
})

test_that("intervals are percentiles of resampled means, paired within facts", {
  set.seed(8)
  score <- matrix(runif(90), 30)
  tracing <- matrix(runif(90), 30)
  row <- by_strategy(choice_rows(score, tracing))
  gain <- at_peak(score, tracing) -
    fixed_choice(`dimnames<-`(score, list(cases(30), c(2, 5, 9))), 10, 1)$score
  counts <- weights(30)
  naive <- apply(counts, 1, function(n) mean(rep(gain, n)))
  expect_equal(
    c(row$tracing_peak$versus_fixed_low, row$tracing_peak$versus_fixed_high),
    quantile(naive, c(0.025, 0.975), names = FALSE)
  )
  expect_equal(row$tracing_peak$versus_fixed, mean(gain))
})

test_that("a score that follows the tracing has no regret, one that shuns it has the most", {
  set.seed(9)
  tracing <- matrix(runif(60), 20)
  follows <- by_strategy(choice_rows(tracing, tracing))
  expect_equal(follows$tracing_peak$regret, 0)
  expect_gt(follows$tracing_peak$versus_fixed_low, 0)
  shuns <- by_strategy(choice_rows(-tracing, tracing))
  expect_gt(shuns$tracing_peak$regret, shuns$random$regret)
})

test_that("facts without all scores are dropped and counted, and edges have their reasons", {
  set.seed(10)
  rows <- choice_rows(matrix(runif(24), 8), matrix(runif(24), 8))
  gaps <- rows
  gaps$score[gaps$case_id == "case03" & gaps$layer == 5] <- NA
  gaps$tracing[gaps$case_id == "case04" & gaps$layer == 2] <- NA
  row <- by_strategy(gaps)
  expect_equal(c(row$oracle$n_facts, row$oracle$n_dropped), c(6, 2))
  lost <- transform(rows, score = ifelse(layer == 9, NA, score))
  row <- by_strategy(lost)
  expect_equal(c(row$oracle$n_layers, row$oracle$n_facts), c(2, 8))
  expect_equal(row$oracle$reason, "no usable score at layers 9, left out")
  untraced <- by_strategy(transform(rows, tracing = NA_real_))
  expect_true(is.na(untraced$tracing_peak$mean) && !is.na(untraced$best_fixed$mean))
  expect_match(untraced$tracing_peak$reason, "no fact with an effect at every edit layer")
  single <- by_strategy(rows[rows$layer == 5, ])
  expect_match(single$random$reason, "a single edit layer")
  few <- by_strategy(rows[rows$case_id %in% cases(3), ])
  expect_match(few$random$reason, "too few facts for an interval (3, at least 5)", fixed = TRUE)
  expect_true(!is.na(few$random$regret) && is.na(few$random$regret_low))
  alone <- by_strategy(rows[rows$case_id == "case01", ])
  expect_match(alone$best_fixed$reason, "a single fact: no other to choose by")
  expect_true(is.na(alone$best_fixed$mean) && !is.na(alone$oracle$mean))
})
