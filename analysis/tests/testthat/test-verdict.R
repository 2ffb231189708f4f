# What may be said at the report's head.

primary <- list(localizer = "localizer", module = "mlp", window = 1L, problem = "error_injection",
  method = "editor", score = "score"
)
verdict_of <- function(situation, facts, layers, scores = identity, effects = identity) {
  made <- simulated_studies(situation, facts, layers, 1L, 9L)
  made$scores <- scores(made$scores)
  made$effects <- effects(made$effects)
  verdict_table(
    choice_table(made$scores, made$effects, "score", primary = primary, permutations = 199L),
    within_table(made$scores, made$effects, "score", primary = primary),
    value_table(made$scores, made$effects, "score", primary = primary, splits = 5L),
    power_table(made$effects, primary), primary
  )
}

test_that("strong information is told, none is told as equivalent or not at all", {
  strong <- verdict_of(SITUATIONS$strong, 60L, 6L)
  expect_equal(c(strong$verdict, strong$reason), c("better", ""))
  expect_true(strong$use %in% c("better", "undecided"))
  opposite <- verdict_of(list(r = -0.6, ease = 0, ceiling = Inf), 60L, 6L)
  expect_equal(opposite$verdict, "worse")
  none <- verdict_of(SITUATIONS$null, 60L, 6L)
  expect_true(none$verdict %in% c("equivalent", "undecided"))
  expect_equal(none$verdict == "equivalent", none$equivalent)
})

test_that("with too few facts, or peaks not edited, nothing is said but what would answer", {
  few <- verdict_of(SITUATIONS$strong, 30L, 6L)
  expect_equal(c(few$verdict, few$reason), c("cannot_say", "30 facts, at least 40"))
  expect_true(is.na(few$use))
  expect_gt(few$facts_needed, 30)
  expect_equal(few$layers_needed, 6)
  far <- verdict_of(SITUATIONS$strong, 60L, 6L, effects = function(effects) {
    deep <- effects[effects$layer == 1, ]
    rbind(effects, transform(deep, layer = 20L, value = rep(c(100, 100, -100), 20)))
  })
  expect_equal(far$verdict, "cannot_say")
  expect_match(far$reason, "33.3 % of facts peak at an edited layer")
})

test_that("a primary comparison that was not run is said to be so", {
  unrun <- verdict_of(SITUATIONS$null, 60L, 6L, scores = function(scores) {
    transform(scores, status = "failed: diverged")
  })
  expect_equal(c(unrun$verdict, unrun$reason), c("not_run", "no usable score in 360 rows"))
  absent <- verdict_of(SITUATIONS$null, 60L, 6L, scores = function(scores) {
    transform(scores, method = "another")
  })
  expect_equal(c(absent$verdict, absent$reason),
    c("not_run", "no edits of the primary comparison")
  )
})
