# Several localizers on the same facts against a loop over pairs and flips.

study <- make_choice(facts = 20, layers = 4)
frames <- as_frames(study)
set.seed(11)
localizers <- list(
  good = study$score + stats::rnorm(80, 0, 0.5), poor = study$value,
  none = matrix(stats::rnorm(80), 20)
)
effects <- do.call(rbind, lapply(names(localizers), function(name) {
  transform(frames$effects, localizer = name, value = as.vector(localizers[[name]]))
}))
table <- arena_of(frames$scores, effects, "rewrite", permutations = 300L, seed = 2L)
rows <- split(table, table$localizer)

test_that("mean rank correlations, and how far each is behind the best, are a loop's", {
  centred <- function(cells) base::sweep(cells, 2, colMeans(cells))
  y <- centred(study$score)
  ranks <- vapply(localizers, function(value) {
    x <- centred(value)
    vapply(1:20, function(i) stats::cor(rank(y[i, ]), rank(x[i, ])), 0)
  }, numeric(20))
  expect_equal(vapply(rows[colnames(ranks)], `[[`, 0, "rank_r"), colMeans(ranks))
  expect_equal(rows$none$behind, rows$good$rank_r - rows$none$rank_r)
  signs <- signs_of(cases(20), 300L, 2L)(cases(20))
  pairs <- utils::combn(3, 2)
  differences <- ranks[, pairs[1, ]] - ranks[, pairs[2, ]]
  scaled <- base::sweep(differences, 2, sqrt(colSums(differences^2)), `/`)
  largest <- apply(abs(signs %*% scaled), 1, max)
  p <- (1 + sum(largest >= abs(sum(scaled[, 2])))) / 301 # good against none
  expect_equal(rows$none$p_adjusted, p)
  expect_equal(rows$good$p_adjusted, 1)
  expect_equal(c(rows$good$with_best, rows$none$with_best), c(TRUE, FALSE))
})

test_that("hits and regrets stand beside the means of their own shuffles", {
  best <- apply(study$score, 1, which.max)
  peaks <- apply(localizers$good, 1, which.max)
  expect_equal(rows$good$hit, mean(best == peaks))
  others <- vapply(1:20, function(i) mean(best[i] == peaks[-i]), 0)
  expect_equal(rows$good$hit_chance, mean(others))
  lost <- apply(study$score, 1, max) - study$score[cbind(1:20, peaks)]
  expect_equal(rows$good$regret, mean(lost))
  shuffled <- vapply(1:20, function(i) max(study$score[i, ]) - mean(study$score[i, peaks[-i]]), 0)
  expect_equal(rows$good$regret_chance, mean(shuffled))
  expect_lt(rows$good$hit_p, 0.01)
})

test_that("the answers of the other tables stand beside, as they are", {
  choice <- choice_table(frames$scores, effects, "rewrite", permutations = 300L)
  within <- within_table(frames$scores, effects, "rewrite")
  value <- value_table(frames$scores, effects, "rewrite", splits = 2L)
  of <- function(table) table[match(c("good", "none"), table$localizer), ]
  mine <- of(table)
  expect_equal(mine$gain, of(choice)$gain)
  expect_equal(mine$gain_low, of(choice)$low)
  expect_equal(mine$gain_p_adjusted, of(choice)$p_adjusted)
  expect_equal(mine$r, of(within)$r)
  expect_equal(mine$r_high, of(within)$high)
  expect_equal(mine$value, of(value[value$strategy == "localizer", ])$value)
  expect_equal(mine$gain_reason, of(choice)$reason)
  expect_equal(mine$r_reason, of(within)$reason)
  expect_equal(mine$value_reason, of(value[value$strategy == "localizer", ])$reason)
  expect_false(any(table$control))
  expect_true(all(is.na(table[names(FOUND)])))
  expect_match(table$found_reason, "no planted facts")
})

test_that("controls are marked, and planted facts found stand beside where they are given", {
  hits <- data.frame(
    localizer = c("good", "poor"), module = "mlp", window = 5L, hits = c(0.5, 0.1), low = 0.3,
    high = 0.7, chance = 0.2, shuffle_low = 0.1, shuffle_high = 0.3, p = 0.01, p_adjusted = 0.02,
    placebo = 0.2, reason = c("", "too few planted facts (3, at least 5)")
  )
  found <- arena_of(frames$scores, effects, "rewrite", hits = hits, controls = "none")
  found <- split(found, found$localizer)
  expect_equal(c(found$good$control, found$none$control), c(FALSE, TRUE))
  expect_equal(c(found$good$found, found$good$found_p_adjusted), c(0.5, 0.02))
  expect_true(is.na(found$none$found))
  expect_match(found$none$reason, "no row in the table hits")
  expect_equal(found$good$found_reason, "")
  expect_equal(found$none$found_reason, "no row in the table hits")
  expect_match(found$poor$reason, "too few planted facts")
})

test_that("what a localizer costs is the mean over its facts", {
  passes <- ifelse(effects$localizer == "good", as.integer(factor(effects$case_id)), NA)
  costly <- transform(effects, passes = passes)
  found <- arena_of(frames$scores, costly, "rewrite", permutations = 50L)
  expect_equal(found$passes[match(c("good", "none"), found$localizer)], c(mean(1:20), NA))
})

test_that("a localizer without values is named, and the others are compared without it", {
  broken <- transform(effects, value = ifelse(localizer == "poor", NA, value))
  found <- arena_of(frames$scores, broken, "rewrite", permutations = 50L)
  found <- split(found, found$localizer)
  expect_match(found$poor$reason, "no fact with the localizer's values at every layer")
  expect_equal(found$good$rank_r, rows$good$rank_r)
})
