# The tables against lm, anova and cor.test, against designs whose R2 is known by hand, and where
# nothing can be fitted.

one <- function(table, ...) {
  wanted <- list(...)
  for (column in names(wanted)) table <- table[table[[column]] %in% wanted[[column]], ]
  expect_equal(nrow(table), 1)
  table
}

# Scores and effects with given numbers: one method, one problem, one window.
tables_of <- function(case, layer, score, tracing) {
  list(
    scores = data.frame(
      model = "m", dataset = "d", case_id = case, method = "ROME", problem = "error_injection",
      layer = layer, listed = TRUE, is_correct = TRUE, rewrite = score, status = "ok"
    ),
    effects = data.frame(
      model = "m", dataset = "d", case_id = case, localizer = "tracing", module = "mlp",
      window = 5L, layer = layer,
      value = tracing
    )
  )
}

r2_of <- function(tables, ...) r2_table(tables$scores, tables$effects, "rewrite", ...)

test_that("a balanced design has the R2 worked out by hand", {
  # y = layer effect (+-2) + tracing effect (+-1) + noise (+-0.5), all orthogonal over 8 rows:
  # sums of squares 32, 8 and 2 of 42.
  layer <- rep(c(0L, 7L), each = 4)
  tracing <- rep(c(-1, -1, 1, 1), 2)
  noise <- rep(c(-0.5, 0.5), 4)
  score <- ifelse(layer == 0, -2, 2) + tracing + noise
  row <- r2_of(tables_of(rep(cases(4), 2), layer, score, tracing))
  expect_equal(row$r2_layer, 32 / 42)
  expect_equal(row$r2_tracing, 8 / 42)
  expect_equal(row$r2_both, 40 / 42)
  expect_equal(row$diff, 8 / 42)
  # Two slopes more than the layer model, 8 rows less 4 coefficients: F = (8 / 2) / (2 / 4).
  expect_equal(c(row$f, row$df1, row$df2), c(8, 2, 4))
  expect_equal(row$p, pf(8, 2, 4, lower.tail = FALSE))
  expect_equal(c(row$rmse_both, row$mae_both), c(0.5, 0.5))
  expect_equal(row$rmse_layer, sqrt(10 / 8))
  expect_equal(c(row$n, row$n_facts, row$n_layers, row$n_dropped), c(8, 4, 2, 0))
  expect_equal(row$reason, "")
})

test_that("every number is lm's and anova's", {
  scores <- make_scores(facts = 15)
  scores$rewrite[c(3, 50)] <- NaN
  effects <- make_effects(facts = 15, windows = c(1, 10))
  table <- r2_table(scores, effects, c("rewrite", "overall"), measures = "fraction_last")
  row <- one(table, window = 10, problem = "fact_forcing", method = "MEMIT", score = "overall")

  rows <- scores[scores$problem == "fact_forcing" & scores$method == "MEMIT", ]
  rows <- merge(rows, effects[effects$window == 10, ], by = c("case_id", "layer"))
  by_layer <- lm(overall ~ factor(layer), rows)
  both <- lm(overall ~ factor(layer) * fraction_last, rows)
  test <- anova(by_layer, both)
  expect_equal(row$r2_layer, summary(by_layer)$r.squared)
  expect_equal(row$r2_tracing, summary(lm(overall ~ fraction_last, rows))$r.squared)
  expect_equal(row$r2_both, summary(both)$r.squared)
  expect_equal(c(row$f, row$p), c(test$F[2], test[2, "Pr(>F)"]))
  expect_equal(c(row$df1, row$df2), c(test$Df[2], test$Res.Df[2]))
  expect_equal(row$mae_layer, mean(abs(residuals(by_layer))))
  expect_equal(row$rmse_both, sqrt(mean(residuals(both)^2)))
})

test_that("a layer whose tracing effect is constant has no slope, as in lm", {
  set.seed(3)
  layer <- rep(c(1L, 4L, 9L), each = 6)
  tracing <- ifelse(layer == 4, 0.1 + 0.2, runif(18))
  tables <- tables_of(rep(cases(6), 3), layer, runif(18), tracing)
  row <- r2_of(tables)
  rows <- cbind(tables$scores, tracing = tracing)
  test <- anova(lm(rewrite ~ factor(layer), rows), lm(rewrite ~ factor(layer) * tracing, rows))
  expect_equal(c(row$f, row$df1, row$df2), c(test$F[2], 2, test$Res.Df[2]))
})

test_that("failed edits, missing scores and unknown facts are left out and counted", {
  scores <- make_scores(facts = 10, methods = "ROME", problems = "fact_erasure")
  scores$status[1] <- "diverged"
  scores$rewrite[2] <- NaN
  scores$rewrite[4] <- NA
  scores$is_correct[scores$case_id == "case10"] <- FALSE
  effects <- make_effects(facts = 10, windows = 5)
  effects <- effects[effects$case_id != "case09", ] # not traced: cannot be used either
  row <- r2_table(scores, effects, "rewrite")
  expect_equal(c(row$n, row$n_dropped, row$n_facts), c(21, 6, 8))
  everyone <- r2_table(scores, effects, "rewrite", correct_only = FALSE)
  expect_equal(c(everyone$n, everyone$n_facts), c(24, 9))
})

test_that("what cannot be fitted is a row with its reason", {
  expect_reason <- function(row, reason, empty = c("r2_layer", "r2_tracing", "r2_both", "f", "p")) {
    expect_match(row$reason, reason, fixed = TRUE)
    expect_true(all(is.na(row[empty])))
    expect_false(any(is.na(row[setdiff(c("r2_layer", "r2_tracing", "r2_both"), empty)])))
  }
  layer <- rep(c(1L, 5L), each = 6)
  case <- rep(cases(6), 2)
  score <- c(0.1, 0.5, 0.2, 0.9, 0.3, 0.4, 0.8, 0.1, 0.7, 0.2, 0.6, 0.5)
  tracing <- rev(score)^2

  expect_reason(
    r2_of(tables_of(case[1:4], layer[1:4], score[1:4], tracing[1:4])), "too few rows (4"
  )
  expect_reason(r2_of(tables_of(case, layer, 2e-8, tracing)), "score has no variance")
  expect_reason(r2_of(tables_of(case, layer, NaN, tracing)), "no usable score in 12 rows")
  expect_reason(
    r2_of(tables_of(case, layer, score, 0)), "effect has no variance",
    c("r2_tracing", "r2_both", "f", "p")
  )
  expect_reason(
    r2_of(tables_of(case[1:6], 3L, score[1:6], tracing[1:6])), "a single edit layer",
    c("r2_layer", "r2_both", "f", "p")
  )
  expect_reason(
    r2_of(tables_of("a", 1:6, score[1:6], tracing[1:6])), "too few rows for the layer model",
    c("r2_layer", "r2_both", "f", "p")
  )
  expect_reason(
    r2_of(tables_of(case[c(1:3, 1:3)], rep(1:3, each = 2), score[1:6], tracing[1:6])),
    "6 rows, 6 coefficients", c("r2_both", "f", "p")
  )
  expect_reason(
    r2_of(tables_of(case, layer, score, layer / 10)), "no variance within any layer", c("f", "p")
  )
  expect_reason(
    r2_of(tables_of(case, layer, layer + 3 * tracing, tracing)), "fit exactly", c("f", "p")
  )
  no_effects <- tables_of(case, layer, score, tracing)
  no_effects$effects <- no_effects$effects[0, ]
  row <- r2_of(no_effects)
  expect_reason(row, "no effect at the edit layers", c("r2_tracing", "r2_both", "f", "p"))
  expect_true(is.na(row$module) && is.na(row$window))
})

test_that("expected problems and methods without edits have rows", {
  table <- r2_table(
    make_scores(methods = "ROME", problems = "fact_forcing"), make_effects(windows = 5),
    "rewrite",
    problems = c("fact_forcing", "fact_erasure"), methods = c("ROME", "MEMIT")
  )
  expect_equal(nrow(table), 4)
  missing <- one(table, problem = "fact_erasure", method = "ROME")
  expect_equal(c(missing$n, missing$n_dropped), c(0, 0))
  expect_match(missing$reason, "no edits")
})

test_that("every combination has one row, in a fixed order, whatever the input's order", {
  scores <- make_scores(facts = 6)
  effects <- make_effects(facts = 6, windows = c(10, 1), modules = c("mlp", "attn"))
  names <- c("rewrite", "essence")
  tracing <- c("value", "effect_last")
  table <- r2_table(scores, effects, names, tracing)
  expect_equal(nrow(table), 2 * 2 * 2 * 5 * 4 * 2)
  set.seed(9)
  shuffle <- function(frame) frame[sample(nrow(frame)), ]
  expect_equal(r2_table(shuffle(scores), shuffle(effects), names, tracing), table)
})

test_that("empty tables give the same columns and no rows", {
  full <- r2_table(make_scores(), make_effects(), "rewrite")
  empty <- r2_table(make_scores()[0, ], make_effects()[0, ], "rewrite")
  expect_equal(nrow(empty), 0)
  expect_equal(names(empty), names(full))
  full <- correlation_table(make_scores(), make_effects(), "rewrite")
  empty <- correlation_table(make_scores()[0, ], make_effects()[0, ], "rewrite")
  expect_equal(names(empty), names(full))
})

test_that("wrong tables are refused in words", {
  expect_error(
    r2_table(make_scores()[c("model", "layer")], make_effects(), "rewrite"),
    "scores: missing columns dataset, case_id, method.*it has: model, layer"
  )
  expect_error(
    r2_table(make_scores(), make_effects(), "rewrite", measures = "peak"),
    "effects: missing column peak"
  )
  expect_error(r2_table(NULL, make_effects(), "rewrite"), "scores: expected a data frame, got NULL")
  expect_error(
    r2_table(make_scores()[c(1, 1, 2), ], make_effects(), "rewrite"),
    "scores: 1 row repeated; the first is model=tiny.*case_id=case01"
  )
})

test_that("correlations within a layer are cor.test's", {
  scores <- make_scores(facts = 15)
  effects <- make_effects(facts = 15, windows = 5)
  table <- correlation_table(scores, effects, "rewrite")
  expect_equal(nrow(table), 5 * 4 * 3)
  row <- one(table, problem = "error_injection", method = "ROME", layer = 10)
  rows <- subset(scores, problem == "error_injection" & method == "ROME" & layer == 10)
  rows <- merge(rows, effects, by = c("case_id", "layer"))
  pearson <- cor.test(rows$rewrite, rows$value)
  expect_equal(c(row$pearson, row$pearson_p), c(pearson$estimate[[1]], pearson$p.value))
  expect_equal(c(row$pearson_low, row$pearson_high), c(pearson$conf.int))
  spearman <- cor.test(rows$rewrite, rows$value, method = "spearman", exact = FALSE)
  expect_equal(c(row$spearman, row$spearman_p), c(spearman$estimate[[1]], spearman$p.value))
  half <- 1.959964 * sqrt((1 + row$spearman^2 / 2) / 12) # 15 facts
  ends <- tanh(atanh(row$spearman) + c(-half, half))
  expect_equal(c(row$spearman_low, row$spearman_high), ends, tolerance = 1e-6)
})

test_that("Spearman's interval covers the truth as often as it says", {
  set.seed(12)
  covered <- replicate(2000, {
    x <- rnorm(40)
    y <- 0.5 * x + sqrt(0.75) * rnorm(40)
    ends <- spearman_interval(cor(x, y, method = "spearman"), 40)
    true <- 6 / pi * asin(0.5 / 2) # of the normal distribution with correlation .5
    ends[1] < true && true < ends[2]
  })
  expect_equal(mean(covered), 0.95, tolerance = 0.015)
})

test_that("a correlation that cannot be had is a row with its reason", {
  scores <- make_scores(facts = 6, methods = "ROME", problems = "fact_forcing")
  scores$rewrite[scores$layer == 2] <- 1
  scores$status[scores$layer == 10] <- "diverged"
  table <- correlation_table(scores, make_effects(facts = 6, windows = 5), "rewrite",
    methods = c("ROME", "MEMIT")
  )
  expect_match(one(table, layer = 2)$reason, "score has no variance")
  expect_match(one(table, layer = 10)$reason, "no usable score in 6 rows")
  expect_equal(one(table, layer = 20)$reason, "")
  expect_match(one(table, method = "MEMIT")$reason, "no edits")
})
