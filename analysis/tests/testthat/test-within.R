# The within-fact association against lm's residuals, with facts left out one at a time.

study <- make_choice()
n <- nrow(study$score)
set.seed(6)
p_corrupted <- stats::runif(n)

by_lm <- function(facts, covariate = FALSE, value = study$value, score = study$score) {
  rows <- data.frame(
    y = as.vector(score[facts, ]), x = as.vector(value[facts, ]),
    fact = factor(rep(facts, 5)), layer = factor(rep(1:5, each = length(facts))),
    p = rep(p_corrupted[facts], 5)
  )
  right <- if (covariate) ~ fact + layer + layer:p else ~ fact + layer
  residuals_of <- function(left) stats::residuals(stats::lm(stats::update(right, left), rows))
  stats::cor(residuals_of(y ~ .), residuals_of(x ~ .))
}

test_that("r and its leave-outs are those of lm's residuals, with a covariate too", {
  for (covariate in c(FALSE, TRUE)) {
    removed <- if (covariate) p_corrupted
    found <- within_correlations(study$score, study$value, removed)
    expect_equal(found$r, by_lm(1:n, covariate))
    expect_equal(found$without[c(1, 17)], c(by_lm(2:n, covariate), by_lm((1:n)[-17], covariate)))
    found <- within_correlations(study$score, study$value, removed, study$relation)
    expect_equal(found$without[2], by_lm(which(study$relation != "b"), covariate))
  }
  rows <- data.frame(
    y = as.vector(study$score), x = as.vector(study$value), fact = factor(rep(1:n, 5)),
    layer = factor(rep(1:5, each = n))
  )
  slope <- stats::coef(stats::lm(y ~ x + fact + layer, rows))[["x"]]
  expect_equal(within_correlations(study$score, study$value)$slope, slope)
})

test_that("ranks are base R's, and Spearman's correlation with them", {
  cells <- rbind(c(3, 1, 2), c(1, 1, 5), c(2, 2, 2))
  expect_equal(row_ranks(cells), t(apply(cells, 1, rank)))
  y <- within_part(study$score)
  x <- within_part(study$value)
  each <- vapply(1:n, function(i) stats::cor(y[i, ], x[i, ], method = "spearman"), 0)
  expect_equal(fact_rank_correlations(y, x), each)
  expect_true(is.na(fact_rank_correlations(cells, cells)[3]))
})

test_that("the table has Fisher's interval, two one-sided tests and their power", {
  frames <- as_frames(study)
  row <- within_table(frames$scores, frames$effects, "rewrite")
  z <- atanh(vapply(1:n, function(k) by_lm((1:n)[-k]), 0))
  se <- sqrt((n - 1)^2 / n * stats::var(z))
  expect_equal(c(row$low, row$high), tanh(atanh(row$r) + c(-1, 1) * qt(0.975, n - 1) * se))
  expect_equal(row$p, 2 * pt(-abs(atanh(row$r)) / se, n - 1))
  one_sided <- c(
    pt((atanh(row$r) - atanh(0.2)) / se, n - 1), pt((-atanh(row$r) - atanh(0.2)) / se, n - 1)
  )
  expect_equal(row$equivalence_p, max(one_sided))
  reach <- atanh(0.2) / se - qt(0.95, n - 1)
  expect_equal(row$equivalence_power, max(0, 2 * pt(reach, n - 1) - 1))
  expect_equal(row$covariate, "")
  expect_equal(c(bound_for(199, 6), bound_for(200, 5), bound_for(200, 6)), c(0.2, 0.2, 0.1))
})

test_that("what edits cost is an outcome of the methods that are named for it, and of no other", {
  costs <- list(steps = 20 - study$score, update_norm = exp(study$value))
  frames <- as_frames(study, more = costs)
  tuned <- transform(frames$scores, method = "FT-1")
  constant <- transform(frames$scores, method = "FT-5", steps = 25)
  table <- within_table(
    rbind(frames$scores, tuned, constant), frames$effects, "rewrite",
    costs = list("FT-1" = c("update_norm", "steps"), "FT-5" = "steps")
  )
  expect_equal(table$method, c("FT-1", "FT-1", "FT-1", "FT-5", "FT-5", "ROME"))
  expect_equal(table$score, c("rewrite", "steps", "update_norm", "rewrite", "steps", "rewrite"))
  expect_equal(table$r[1:3], c(by_lm(1:n), -by_lm(1:n), by_lm(1:n, score = exp(study$value))))
  expect_true(is.na(table$r[5]))
  expect_equal(table$reason[5], "the score does not differ between layers")
  # each in a family of its own: no other number changes
  without <- within_table(rbind(frames$scores, tuned, constant), frames$effects, "rewrite")
  expect_equal(as.list(table[c(1, 4, 6), ]), as.list(without))
  expect_error(
    within_table(as_frames(study)$scores, frames$effects, "rewrite", costs = list(ROME = "steps")),
    "missing column steps"
  )
})

test_that("in forcing the corrupted probability is taken out of each layer, elsewhere not", {
  frames <- as_frames(study)
  frames$effects$p_corrupted <- p_corrupted[match(frames$effects$case_id, cases(n))]
  row <- within_table(frames$scores, frames$effects, "rewrite")
  expect_equal(row$r, by_lm(1:n, TRUE))
  expect_equal(row$covariate, "p_corrupted x layer")
  erased <- transform(frames$scores, problem = "fact_erasure")
  expect_equal(within_table(erased, frames$effects, "rewrite")$r, by_lm(1:n))
})

test_that("a score's reliability is that of the facts whose edits were made again", {
  again <- study$score + 4 * seq_len(n) + stats::rnorm(5 * n, 0, 0.7)
  twice <- seq_len(n) %in% seq(2, n, 2)
  again[!twice, 3] <- NA # one layer is lacking
  halves <- lapply(1:4, function(k) study$score + 4 * seq_len(n) + stats::rnorm(5 * n, 0, 0.7))
  frames <- as_frames(study, more = list(
    rewrite_half1 = halves[[1]], rewrite_half2 = halves[[2]], rewrite_again = again
  ))
  frames$effects$value_half1 <- as.vector(halves[[3]])
  frames$effects$value_half2 <- as.vector(halves[[4]])
  row <- within_table(frames$scores, frames$effects, "rewrite")
  stepped <- function(r) 2 * r / (1 + r)
  reliability <- function(facts) by_lm(facts, value = again, score = study$score)
  value <- stepped(by_lm(1:n, value = halves[[3]], score = halves[[4]]))
  expect_equal(row$repeated, sum(twice))
  expect_equal(row$reliability_score, reliability(which(twice)))
  expect_equal(row$ceiling, sqrt(reliability(which(twice)) * value))
  ratios <- vapply(1:n, function(k) {
    left <- (1:n)[-k]
    value <- stepped(by_lm(left, value = halves[[3]], score = halves[[4]]))
    by_lm(left) / sqrt(reliability(setdiff(which(twice), k)) * value)
  }, 0)
  half <- qt(0.975, n - 1) * sqrt((n - 1)^2 / n * stats::var(ratios))
  expect_equal(row$r_corrected_low, row$r_corrected - half)
})

test_that("too few facts whose edits were made again leave the halves of the prompts", {
  apart <- stats::rnorm(5 * n, 0, 0.4)
  halves <- list(study$score + 2 * apart, study$score - apart) # of one prompt, and of two
  again <- study$score
  again[-(1:4), ] <- NA
  frames <- as_frames(study, more = list(
    rewrite_half1 = halves[[1]], rewrite_half2 = halves[[2]], rewrite_again = again
  ))
  row <- within_table(frames$scores, frames$effects, "rewrite")
  expect_equal(row$repeated, 4)
  r <- by_lm(1:n, value = halves[[1]], score = halves[[2]])
  pq <- 2 / 9
  horst <- r * (sqrt(r^2 + 4 * pq * (1 - r^2)) - r) / (2 * pq * (1 - r^2))
  expect_equal(row$reliability_score, horst)
  expect_gt(horst, 2 * r / (1 + r))
})

test_that("a whole is as reliable as its parts say, whatever their shares", {
  r <- c(-0.2, 0, 0.3, 1)
  expect_equal(stepped_up(r), 2 * r / (1 + r))
  many <- seeded(1, stats::rnorm(4e4, 0, sqrt(0.5)) + matrix(stats::rnorm(12e4, 0, sqrt(0.5)), 4e4))
  parts <- list(many[, 1], rowMeans(many[, 2:3]), rowMeans(many))
  share <- share_of_first(parts[[3]], parts[[1]], parts[[2]])
  expect_equal(share, 1 / 3)
  found <- stepped_up(stats::cor(parts[[1]], parts[[2]]), share)
  expect_equal(found, 3 * 0.5 / (1 + 2 * 0.5), tolerance = 0.02)
  expect_true(is.na(stepped_up(0.5, share_of_first(parts[[2]], parts[[1]], parts[[2]]))))
})

test_that("the ceiling is the root of both reliabilities, of within-fact halves at these layers", {
  halves <- lapply(1:4, function(k) study$score + 4 * seq_len(n) + stats::rnorm(5 * n, 0, 0.7))
  halves[[2]] <- 2 * (study$score + 4 * seq_len(n)) - halves[[1]]
  frames <- as_frames(study, more = list(rewrite_half1 = halves[[1]], rewrite_half2 = halves[[2]]))
  frames$scores$rewrite <- (frames$scores$rewrite_half1 + frames$scores$rewrite_half2) / 2
  frames$effects$value_half1 <- as.vector(halves[[3]])
  frames$effects$value_half2 <- as.vector(halves[[4]])
  row <- within_table(frames$scores, frames$effects, "rewrite")
  stepped <- function(r) 2 * r / (1 + r)
  score <- stepped(by_lm(1:n, value = halves[[1]], score = halves[[2]]))
  value <- stepped(by_lm(1:n, value = halves[[3]], score = halves[[4]]))
  expect_equal(c(row$reliability_score, row$reliability_value), c(score, value))
  expect_equal(row$ceiling, sqrt(score * value))
  expect_equal(row$r_corrected, row$r / row$ceiling)
  ratios <- vapply(1:n, function(k) {
    left <- (1:n)[-k]
    score <- stepped(by_lm(left, value = halves[[1]], score = halves[[2]]))
    value <- stepped(by_lm(left, value = halves[[3]], score = halves[[4]]))
    by_lm(left) / sqrt(score * value)
  }, 0)
  half <- qt(0.975, n - 1) * sqrt((n - 1)^2 / n * stats::var(ratios))
  expect_equal(row$r_corrected_low, row$r_corrected - half)
})
