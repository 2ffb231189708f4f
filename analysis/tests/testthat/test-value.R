# What a localizer is worth against loops: every choice by the other half's facts, every step anew
# without each fact.

study <- make_choice()
n <- nrow(study$score)
dealt <- dealt_of(cases(n), 3L, 1L)(cases(n))
first <- dealt$first

# Mean over facts of the score at the informed less that at the fixed layer, by lm.
by_loop <- function(facts, first) {
  gains <- vapply(facts, function(i) {
    train <- setdiff(facts[first[facts] != first[i]], i)
    rows <- data.frame(
      y = as.vector(study$score[train, ]), x = as.vector(study$value[train, ]),
      fact = factor(rep(train, 5)), layer = factor(rep(1:5, each = length(train)))
    )
    slope <- stats::coef(stats::lm(y ~ x + fact + layer, rows))[["x"]]
    layers <- colMeans(study$score[train, ])
    own <- study$value[train, ] - rowMeans(study$value[train, ])
    predicted <- layers + slope * (study$value[i, ] - mean(study$value[i, ]) - colMeans(own))
    study$score[i, which.max(predicted)] - study$score[i, which.max(layers)]
  }, 0)
  mean(gains)
}
mean_loop <- function(facts) mean(apply(first, 2, function(first) by_loop(facts, first)))

test_that("halves are as even as can be, and the same facts' whatever others there are", {
  expect_equal(colSums(first), rep(15, 3))
  expect_equal(colSums(dealt_of(cases(9), 4L, 1L)(cases(9)[1:5])$first), rep(2, 4))
})

test_that("many facts are left out in even groups, which take no notice of their relations", {
  expect_equal(dealt$group, 1:n)
  group <- dealt_of(cases(200), 2L, 1L)(cases(200))$group
  expect_equal(tabulate(group), rep(5, 40))
  expect_false(all(group == rep_len(1:40, 200)))
  # five relations of 40 facts that differ by more than the facts in them
  of <- rep(2 * stats::qnorm(1:5 / 6), each = 40)
  score <- cbind(3 + of, 0) + seeded(1, matrix(stats::rnorm(400), 200))
  cell <- list(score = score, value = score, own = NA)
  se <- function(group) {
    gain <- gains_of(cell, dealt_of(cases(200), 2L, 1L)(cases(200))$first, group)$gains$random
    jackknife_interval(0, (gain$own - gain$fixed)[-1])$se
  }
  expect_equal(se(group), se(1:200), tolerance = 0.25)
  expect_lt(se(rep_len(1:40, 200)), 0.7 * se(1:200))
})

test_that("the value, and it without a fact or a relation, are those of a loop", {
  cell <- c(study[c("score", "value")], list(own = NA))
  gain <- gains_of(cell, first, dealt$group)$gains$localizer
  value <- gain$own - gain$fixed
  expect_equal(unname(value[1]), mean_loop(1:n))
  expect_equal(unname(value[c(2, 9)]), c(mean_loop(2:n), mean_loop((1:n)[-8])))
  gain <- gains_of(cell, first, codes(study$relation))$gains$localizer
  expect_equal(unname(gain$own - gain$fixed)[3], mean_loop(which(study$relation != "b")))
})

test_that("the table has every strategy against the same fixed layers", {
  apart <- study$score[, c(1, 2, 3, 5, 4)] - study$score
  halves <- list( # of one prompt, and of the other two
    rewrite_half1 = study$score + 2 * apart, rewrite_half2 = study$score - apart
  )
  frames <- as_frames(study, more = halves)
  table <- value_table(frames$scores, frames$effects, "rewrite", splits = 3L, seed = 1L)
  rows <- split(table, table$strategy)
  expect_equal(rows$localizer$value, mean_loop(1:n))
  expect_equal(rows$random$mean, mean(study$score))
  expect_equal(rows$own_peak$mean, mean(study$score * (study$value == row_max(study$value))) * 5)
  expect_equal(rows$random$fixed, rows$own_peak$fixed)
  best <- function(by, of) of[cbind(1:n, apply(by, 1, which.max))]
  oracle <- 2 * best(halves[[1]], halves[[2]]) + best(halves[[2]], halves[[1]])
  expect_equal(rows$oracle$mean, mean(oracle / 3))
  expect_equal(rows$oracle$fixed, rows$random$fixed)
  slope <- within_table(frames$scores, frames$effects, "rewrite")$slope
  expect_equal(rows$localizer$slope, slope)
  expect_true(all(table$low < table$value & table$value < table$high))
})

test_that("a value that no fact's choice depends on has no interval, and says so", {
  frames <- as_frames(study)
  frames$scores$rewrite <- 100 * (frames$scores$layer == 2) + frames$scores$rewrite
  table <- value_table(frames$scores, frames$effects, "rewrite")
  row <- table[table$strategy == "localizer", ]
  expect_equal(row$value, 0)
  expect_true(is.na(row$low) && is.na(row$p))
  expect_equal(row$reason, "the same layers whichever fact is left out: no interval")
  expect_equal(row$best_layer, 2)
})
