# Whether the best layer moves when more facts share an update, by hand.

several <- function(facts = 8) {
  of <- function(n, seed) {
    scores <- make_scores(facts, methods = "MEMIT", problems = "error_injection", seed = seed)
    cbind(scores, together = n)
  }
  scores <- rbind(of(1L, 2), of(10L, 3))
  best <- ifelse(scores$together == 1, 2, 10)
  own <- as.integer(factor(scores$case_id)) / 1e3
  scores$rewrite <- ifelse(scores$layer == best, 0.9, 0.1) + own
  scores
}

test_that("the best layer of each number is found, and what going there gains", {
  table <- together_table(several(), "rewrite")
  expect_equal(table$together, c(1L, 10L))
  expect_equal(table$best_layer, c(2L, 10L))
  expect_equal(table$n_facts, c(8L, 8L))
  expect_equal(table$mean - table$mean_first, c(0, 0.8))
  expect_equal(table$gain, c(0, 0.8))
  expect_equal(table$r, c(1, -0.5))
  expect_equal(table$reason, c("", "the same gain whichever fact is left out: no interval"))
})

test_that("what going to the other layer gains is chosen anew without each fact, as a loop does", {
  scores <- several(12)
  n <- 12
  made <- lapply(1:2, function(seed) seeded(seed, matrix(stats::rnorm(3 * n), n)))
  made <- lapply(made, `dimnames<-`, list(cases(n), c(2, 10, 20)))
  scores$rewrite_log_odds <- mapply(function(case, layer, n) {
    made[[if (n == 1) 1 else 2]][case, as.character(layer)]
  }, scores$case_id, scores$layer, scores$together)
  row <- together_table(scores, "rewrite_log_odds", splits = 3L, seed = 4L)[2, ]
  halves <- dealt_of(cases(n), 3L, 4L)(cases(n))$first
  gain <- function(facts) {
    mean(apply(halves, 2, function(half) {
      mean(vapply(facts, function(i) {
        others <- setdiff(facts[half[facts] != half[i]], i)
        best <- lapply(made, function(cells) which.max(colMeans(cells[others, , drop = FALSE])))
        made[[2]][i, best[[2]]] - made[[2]][i, best[[1]]]
      }, 0))
    }))
  }
  without <- vapply(1:n, function(k) gain(setdiff(1:n, k)), 0)
  interval <- jackknife_interval(gain(1:n), without)
  expect_equal(c(row$gain, row$gain_low, row$gain_high), c(gain(1:n), interval$low, interval$high))
  expect_true(row$gain_low < row$gain && row$gain < row$gain_high)
})

test_that("between layers that score alike the interval holds its level", {
  scores <- several(40)
  covers <- vapply(1:60, function(seed) {
    scores$rewrite_log_odds <- seeded(seed, stats::rnorm(nrow(scores)))
    row <- together_table(scores, "rewrite_log_odds", splits = 5L)[2, ]
    row$gain_low < 0 && 0 < row$gain_high
  }, TRUE)
  expect_gt(mean(covers), 0.95 - 3 * sqrt(0.95 * 0.05 / 60)) # three standard errors
})

test_that("only facts with a score at every layer and number are compared", {
  scores <- several()
  lost <- scores$together == 10 & scores$case_id == "case01" & scores$layer == 2
  scores$status[lost] <- "failed: why"
  expect_equal(together_table(scores, "rewrite")$n_facts, c(7L, 7L))
  scores$status <- "failed: why"
  table <- together_table(scores, "rewrite")
  expect_equal(unique(table$reason), "no fact with a usable score at every layer and number")
  absent <- together_table(several(), "rewrite", methods = c("MEMIT", "ROME"))
  expect_equal(absent$reason[absent$method == "ROME"][1], "no edits of the facts under study")
  few <- together_table(several(3), "rewrite")
  expect_equal(unique(few$reason), "too few facts or layers to compare")
  expect_equal(names(together_table(scores[0, ], "rewrite")), names(table))
})

test_that("the figure draws a line for each number, or says why not", {
  scores <- several()
  names <- c("rewrite", "paraphrase", "neighbourhood")
  plot <- together_by_layer(scores, "tiny", "error_injection", names)
  expect_match(attr(plot, "words")$alt, "1 and 10 facts in an update")
  expect_match(plot$labels$subtitle, "error injection \u00b7 8 facts")
  file <- withr::local_tempfile(fileext = ".png")
  expect_no_error(suppressWarnings(ggsave(file, plot, width = 7, height = 6)))
  empty <- together_by_layer(scores, "tiny", "fact_erasure", names)
  expect_match(attr(empty, "words")$alt, "Nothing to show")
})

test_that("edits of the embedding are no layer", {
  scores <- several()
  embedded <- transform(scores[scores$layer == 2, ], layer = -1L, rewrite = 1)
  table <- together_table(scores, "rewrite")
  expect_equal(together_table(rbind(scores, embedded), "rewrite"), table)
})
