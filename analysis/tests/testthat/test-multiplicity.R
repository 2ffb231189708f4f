# Adjusted p-values by hand.

test_that("max-T steps down from the largest statistic, as a loop does", {
  set.seed(2)
  permuted <- matrix(stats::rnorm(800), 200)
  observed <- c(1.1, -2.6, 0.2, 2)
  ranked <- order(-abs(observed))
  p <- vapply(1:4, function(k) {
    largest <- apply(abs(permuted[, ranked[k:4], drop = FALSE]), 1, max)
    (1 + sum(largest >= abs(observed[ranked[k]]))) / 201
  }, 0)
  expect_equal(max_t(observed, permuted), cummax(p)[order(ranked)])
})

test_that("the primary stands for itself, its family has max-T, all else the discovery rate", {
  keys <- data.frame(
    model = "tiny", dataset = "facts", localizer = rep(c("tracing", "random"), each = 3),
    module = "mlp", window = 5L, problem = "fact_forcing",
    method = rep(c("ROME", "MEMIT", "FT-1"), 2), score = "rewrite", stringsAsFactors = FALSE
  )
  p <- c(0.03, 0.02, 0.5, 0.01, 0.04, 0.9)
  table <- cbind(keys, p = p, p_family = p * 1.5, reason = "")
  primary <- list(localizer = "tracing", module = "mlp", window = 5L, problem = "fact_forcing",
    method = "ROME", score = "rewrite"
  )
  found <- with_adjusted(table, primary)
  expect_equal(found$role, rep(c("primary", "secondary", "exploratory"), c(1, 2, 3)))
  expect_equal(found$p_adjusted, c(0.03, 0.03, 0.75, stats::p.adjust(p[4:6], "BH")))
  plain <- with_adjusted(table[names(table) != "p_family"], primary)
  expect_equal(plain$p_adjusted, c(0.03, stats::p.adjust(p[2:6], "BH")))
  strategies <- lapply(c(random = "random", localizer = "localizer"), function(strategy) {
    cbind(table[names(table) != "p_family"], strategy = strategy)
  })
  expect_setequal(with_adjusted(strategies$random, primary)$role, "exploratory")
  strategies$random$p <- 1e-6 # always rejected: no reason to let others through
  both <- with_adjusted(do.call(rbind, strategies))
  expect_equal(both$p_adjusted[both$strategy == "localizer"], stats::p.adjust(p, "BH"))
  expect_setequal(with_adjusted(table)$role, "exploratory")
  expect_error(with_adjusted(table, list(editor = "ROME")), "primary: no such key editor")
})

test_that("a family of one is its own permutation test", {
  made <- simulated_studies(SITUATIONS$null, 12L, 3L, 1L, 5L)
  primary <- list(localizer = "localizer", problem = "another", score = "score")
  row <- choice_table(made$scores, made$effects, "score", primary = primary, permutations = 99L)
  expect_equal(c(row$role, row$p_adjusted), c("secondary", row$p))
})
