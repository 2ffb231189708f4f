# Means, intervals and the harmonic mean by hand.

with_successes <- function(scores) {
  for (kind in c("rewrite", "paraphrase", "neighbourhood")) {
    scores[[paste0(kind, "_success")]] <- as.numeric(scores[[kind]] > 0.5)
    scores[[paste0(kind, "_magnitude")]] <- scores[[kind]] - 0.5
  }
  scores
}

few <- function(facts = 4) {
  with_successes(make_scores(facts, layers = c(1, 7), methods = "ROME", problems = "fact_forcing"))
}

test_that("a row has the means, their intervals and the harmonic mean of the successes", {
  scores <- few()
  at <- scores$layer == 7
  scores$rewrite[at] <- c(0.2, 0.4, 0.6, 0.8)
  scores$rewrite_success[at] <- c(1, 1, 0, 0)
  scores$paraphrase_success[at] <- c(1, 0, 0, 0)
  scores$neighbourhood_success[at] <- 1
  row <- success_table(scores)[2, ]
  expect_equal(c(row$layer, row$n, row$n_failed, row$n_not_edited), c(7, 4, 0, 0))
  expect_equal(row$rewrite, 0.5)
  half <- qt(0.975, 3) * sd(c(0.2, 0.4, 0.6, 0.8)) / (sqrt(4) * 0.5 * 0.5)
  expect_equal(c(row$rewrite_low, row$rewrite_high), plogis(c(-1, 1) * half))
  expect_equal(row$harmonic, 3 / (1 / 0.5 + 1 / 0.25 + 1 / 1))
  expect_equal(row$rewrite_magnitude, mean(scores$rewrite_magnitude[at]))
  expect_equal(c(row$ngram_entropy_before, row$ngram_entropy_after, row$update_norm), c(6, 5.9, 1))
  expect_equal(row$reason, "")
})

test_that("intervals of values between 0 and 1 stay there", {
  interval <- bounded_interval(c(0.99, 1, 0.98, 1, 0.2))
  expect_true(0 < interval$low && interval$low < interval$mean && interval$high < 1)
  expect_gt(mean_interval(c(0.99, 1, 0.98, 1, 0.2))$high, 1)
  q <- 0.05^(1 / 3)
  expect_equal(unlist(bounded_interval(c(1, 1, 1))), c(n = 3, mean = 1, low = q, high = 1))
  expect_equal(unlist(bounded_interval(c(0, 0, 0))), c(n = 3, mean = 0, low = 0, high = 1 - q))
  equal <- bounded_interval(c(0.3, 0.3, 0.3))
  expect_equal(c(equal$low, equal$high), c(0.3 * q, 0.3 * q + 1 - q))
  expect_true(is.na(bounded_interval(0.5)$low))
})

test_that("intervals of correlations stay between -1 and 1, and few have none", {
  r <- c(0.9, 1, 1, -0.5, 1)
  interval <- correlation_interval(r)
  expect_gt(mean_interval(r)$high, 1)
  expect_true(-1 < interval$low && interval$low < interval$mean && interval$high < 1)
  # that of Fisher's transform of the mean, by the delta method
  half <- stats::qt(0.975, 4) * stats::sd(r) / sqrt(5) / (1 - mean(r)^2)
  expect_equal(c(interval$low, interval$high), tanh(atanh(mean(r)) + c(-half, half)))
  expect_equal(unlist(correlation_interval(r[-1])[c("low", "high")]), c(low = NA_real_, high = NA))
})

test_that("the harmonic mean is 0 where one success is, and absent where one is", {
  expect_equal(harmonic_mean(c(1, 0, 1)), 0)
  expect_equal(harmonic_mean(c(0.5, 0.5, 0.5)), 0.5)
  expect_true(is.na(harmonic_mean(c(1, NA, 0))))
})

test_that("failed edits, facts not edited and unknown facts are counted or left out", {
  scores <- few(6)
  scores$status[scores$layer == 1][1:3] <- c("failed: diverged", "not edited: p", "not edited: p")
  scores$is_correct[scores$case_id == "case06"] <- FALSE
  row <- success_table(scores)[1, ]
  expect_equal(c(row$n, row$n_failed, row$n_not_edited), c(2, 1, 2))
  expect_equal(row$rewrite, mean(scores$rewrite[scores$layer == 1][4:5]))
})

test_that("a score that was not asked for is empty without a reason", {
  scores <- few()
  scores$text <- NA_real_
  row <- success_table(scores)[1, ]
  expect_equal(c(row$text_n, is.na(row$text)), c(0, 1))
  expect_equal(row$reason, "")
})

test_that("what cannot be had is empty, with its reason", {
  scores <- few()
  scores$neighbourhood[scores$layer == 1] <- NaN
  scores$neighbourhood_success[scores$layer == 1] <- NaN
  scores$status[scores$layer == 7] <- "failed: diverged"
  table <- success_table(scores, methods = c("ROME", "MEMIT"))
  expect_equal(nrow(table), 4)
  expect_match(table$reason[table$method == "MEMIT"], "no edits of the facts under study")
  rome <- table[table$method == "ROME", ]
  expect_equal(rome$neighbourhood_n, c(0, 0))
  expect_true(all(is.na(c(rome$neighbourhood, rome$harmonic, rome$neighbourhood_success))))
  expect_match(rome$reason[1], "no value of neighbourhood, neighbourhood_success")
  expect_match(rome$reason[2], "none of 4 edits could be scored")
  expect_false(anyNA(rome$rewrite[1]))
  one <- success_table(scores[scores$case_id == "case01", ])
  expect_match(one$reason[1], "a single fact: no interval")
})

test_that("each pair of problem and method has rows of its own layers alone", {
  deep <- with_successes(make_scores(4, layers = c(1, 7), methods = "ROME"))
  shallow <- deep$problem == "fact_forcing" & deep$layer == 7
  table <- success_table(deep[!shallow, ], methods = c("ROME", "MEMIT"))
  rome <- table[table$method == "ROME", ]
  expect_equal(rome$layer[rome$problem == "fact_forcing"], 1)
  expect_equal(rome$layer[rome$problem == "error_injection"], c(1, 7))
  expect_true(all(rome$reason == ""))
  expect_equal(nrow(table), nrow(rome) + 2 * length(PROBLEMS))
})

test_that("edits at single facts' own peaks have no rows", {
  scores <- few()
  own <- transform(scores[1:2, ], layer = c(3L, NA), listed = FALSE)
  expect_equal(success_table(rbind(scores, own)), success_table(scores))
})

test_that("log odds, the update's size and the steps have means with intervals", {
  scores <- few()
  at <- scores$layer == 7
  scores$paraphrase_log_odds[at] <- c(-3, 40, 1, 2)
  scores$steps[at] <- c(25L, 3L, NA, 8L)
  row <- success_table(scores)[2, ]
  odds <- t.test(c(-3, 40, 1, 2))
  expect_equal(
    unlist(row[paste0("paraphrase_log_odds", c("", "_low", "_high"))], use.names = FALSE),
    unname(c(odds$estimate, odds$conf.int))
  )
  expect_equal(c(row$steps, row$steps_n), c(12, 3))
})

test_that("a table of nothing has the same columns", {
  full <- success_table(few())
  empty <- success_table(few()[0, ])
  expect_equal(nrow(empty), 0)
  expect_equal(names(empty), names(full))
  expect_equal(names(full)[c(1:5, ncol(full))], c(
    "model", "dataset", "problem", "method", "layer", "reason"
  ))
})
