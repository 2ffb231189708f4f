# The gain over a localizer's own shuffle against loops over pairs of facts and all permutations.

study <- make_choice()
n <- nrow(study$score)
peak <- peak_shares(study$value)
at_peak_of <- study$score %*% t(peak) # [facts, whose peak]

by_pairs <- function(facts) {
  gains <- vapply(facts, function(i) {
    at_peak_of[i, i] - mean(at_peak_of[i, setdiff(facts, i)])
  }, 0)
  mean(gains)
}

test_that("the gain and its leave-outs are those of a loop over pairs", {
  gain <- prescriptive(study$score, peak)
  expect_equal(gain$estimate, by_pairs(1:n))
  expect_equal(gain$without, vapply(1:n, function(k) by_pairs(setdiff(1:n, k)), 0))
  without <- vapply(unique(study$relation), function(r) by_pairs(which(study$relation != r)), 0)
  expect_equal(prescriptive(study$score, peak, study$relation)$without, unname(without))
})

test_that("layers that share the largest value share the fact", {
  expect_equal(peak_shares(rbind(c(1, 1, 0), c(0, 2, 1))), rbind(c(0.5, 0.5, 0), c(0, 1, 0)))
  two <- prescriptive(rbind(c(4, 2, 0), c(1, 3, 5)), rbind(c(0.5, 0.5, 0), c(0, 1, 0)))
  expect_equal(two$estimate, mean(c(3 - 2, 3 - 2)))
})

test_that("the table has the interval, the p and the shuffles of whole vectors", {
  frames <- as_frames(study)
  row <- choice_table(frames$scores, frames$effects, "rewrite", permutations = 200L, seed = 3L)
  without <- vapply(1:n, function(k) by_pairs(setdiff(1:n, k)), 0)
  se <- sqrt((n - 1)^2 / n * stats::var(without))
  expect_equal(c(row$gain, row$low, row$high), by_pairs(1:n) + c(0, -1, 1) * qt(0.975, n - 1) * se)
  places <- shuffles_of(cases(n), 200L, 3L)(cases(n))
  permuted <- apply(places, 2, function(to) {
    n / (n - 1) * (mean(at_peak_of[cbind(1:n, to)]) - mean(at_peak_of))
  })
  expect_equal(row$p, (1 + sum(abs(permuted) >= abs(row$gain))) / 201)
  expect_equal(c(row$shuffle_low, row$shuffle_high), unname(quantile(permuted, c(.025, .975))))
  expect_equal(row$at_peak - row$at_others, row$gain)
  expect_equal(c(row$estimand, row$share_edited, row$n_relations), c("own peak", 1, 6))
})

test_that("what is good for a fact everywhere, or at a layer for all, does not change it", {
  moved <- study$score + 3 * seq_len(n) + rep(c(5, 1, 0, 2, 9), each = n)
  expect_equal(prescriptive(moved, peak)$estimate, prescriptive(study$score, peak)$estimate)
})

test_that("all permutations of few facts are equally likely, whichever facts there are", {
  places <- shuffles_of(cases(9), 6000L, 1L)(cases(9)[c(2, 5, 8)])
  counts <- table(apply(places, 2, paste, collapse = ""))
  expect_length(counts, 6)
  expect_gt(stats::chisq.test(counts)$p.value, 0.001)
})

test_that("a localizer that peaks at one layer for all has no shuffle, and says so", {
  frames <- as_frames(study)
  frames$effects$value <- frames$effects$layer + as.vector(study$value) / 100
  row <- choice_table(frames$scores, frames$effects, "rewrite", permutations = 20L)
  expect_true(is.na(row$gain) && is.na(row$p))
  expect_equal(row$reason, "all facts peak at the same layer")
})

test_that("peaks that differ only between layers that score alike have no test and spoil none", {
  frames <- as_frames(study)
  wrong <- frames$scores
  wrong$method <- "another"
  level <- ave(wrong$rewrite, wrong$case_id)
  wrong$rewrite <- level + (wrong$layer == min(wrong$layer))
  value <- frames$effects$value
  lowest <- frames$effects$layer == min(frames$effects$layer)
  frames$effects$value <- ifelse(lowest, min(value) - 1, value)
  primary <- list(localizer = "tracing", method = "a third", score = "rewrite")
  both <- rbind(frames$scores, wrong)
  table <- choice_table(both, frames$effects, "rewrite", primary = primary, permutations = 99L)
  alone <- choice_table(frames$scores, frames$effects, "rewrite", primary = primary,
    permutations = 99L
  )
  row <- table[table$method == "another", ]
  expect_equal(row$gain, 0, tolerance = 1e-9)
  expect_true(is.na(row$p) && is.na(row$p_adjusted))
  expect_match(row$reason, "shuffles change nothing")
  expect_equal(table$p_adjusted[table$method != "another"], alone$p_adjusted)
  expect_equal(c(alone$role, is.finite(alone$p_adjusted)), c("secondary", "TRUE"))
})
