# Hits of localizers on facts whose place is known, against loops over hand-made values.

made_effects <- function(peaks, places, layers = 0:5) {
  rows <- function(localizer, at) {
    grid <- expand.grid(layer = layers, case_id = names(at), stringsAsFactors = FALSE)
    data.frame(
      model = "m", dataset = "d", localizer = localizer, module = "mlp", window = 1L,
      case_id = grid$case_id, layer = grid$layer,
      value = as.numeric(grid$layer == at[grid$case_id]), stringsAsFactors = FALSE
    )
  }
  rbind(rows("planted", places), rows("tracing", peaks))
}

PLANTED_PLACES <- c(a = 0, b = 0, c = 3, d = 3, e = 5, f = 5)
PLANTED_PEAKS <- c(a = 0, b = 1, c = 3, d = 5, e = 4, f = 0, x = 5, y = 2)

test_that("hits, chance and placebo are those of loops", {
  table <- hits_table(made_effects(PLANTED_PEAKS, PLANTED_PLACES), permutations = 200L)
  expect_equal(table$localizer, "tracing")
  facts <- names(PLANTED_PLACES)
  near <- function(fact, other) abs(PLANTED_PEAKS[[fact]] - PLANTED_PLACES[[other]]) <= 1
  expect_equal(table$hits, mean(vapply(facts, function(f) near(f, f), TRUE)))
  others <- c()
  for (one in facts) for (other in setdiff(facts, one)) others <- c(others, near(one, other))
  expect_equal(table$chance, mean(others))
  placebo <- c()
  for (one in c("x", "y")) for (other in facts) placebo <- c(placebo, near(one, other))
  expect_equal(table$placebo, mean(placebo))
  expect_equal(table$n_facts, 6)
  expect_equal(table$n_placebo, 2)
  expect_equal(table$distance, mean(abs(PLANTED_PEAKS[facts] - PLANTED_PLACES)))
})

test_that("a layer at which a localizer has no value costs no fact", {
  whole <- made_effects(PLANTED_PEAKS, PLANTED_PLACES)
  without <- whole
  # nobody but y, a placebo fact, peaks there
  without$value[without$localizer == "tracing" & without$layer == 2] <- NA
  kept <- hits_table(without, permutations = 50L)
  expect_equal(kept[c("hits", "n_facts", "distance")],
    hits_table(whole, permutations = 50L)[c("hits", "n_facts", "distance")]
  )
})

test_that("p is that of all orders of the places", {
  places <- c(a = 0, b = 1, c = 2, d = 3, e = 4)
  table <- hits_table(made_effects(places, places, 0:4), within = 0L, permutations = 4000L)
  expect_equal(table$hits, 1)
  # two-sided: of 120 orders one has all five hits, 1 from its mean of 1/5 as far as no other
  expect_lt(abs(table$p - 1 / 120), 0.006)
})

test_that("an interval of a share stays inside and holds the share", {
  for (hits in 0:12) {
    ends <- unlist(score_interval(hits, 12))
    expect_true(ends[1] >= 0 && ends[2] <= 1)
    expect_true(ends[1] <= hits / 12 + 1e-12 && ends[2] >= hits / 12 - 1e-12)
    expect_equal(ends, stats::prop.test(hits, 12, correct = FALSE)$conf.int[1:2], tolerance = 1e-6)
  }
  for (n in 5:60) {
    expect_identical(score_interval(0, n)[[1]], 0)
    expect_identical(score_interval(n, n)[[2]], 1)
  }
})

test_that("without planted facts there is a reason and no number", {
  few <- made_effects(PLANTED_PEAKS, PLANTED_PLACES[1:3])
  table <- hits_table(few, permutations = 50L)
  expect_true(is.na(table$hits))
  expect_match(table$reason, "too few planted facts (3, at least 5)", fixed = TRUE)
  none <- few[few$localizer == "tracing", ]
  expect_true(all(is.na(hits_table(none, permutations = 50L)$hits)))
  expect_equal(nrow(hits_table(few[few$localizer == "planted", ], permutations = 50L)), 1)
})
