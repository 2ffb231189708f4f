# The power table against simulated tests, and its edges.

test_that("the formula's power is that of the test", {
  size <- c(40L, 6L)
  made <- simulated_studies(list(r = 0.35, ease = 0, ceiling = Inf), size[1], size[2], 150L, 7L)
  found <- choice_table(made$scores, made$effects, "score", permutations = 199L)
  observed <- mean(found$p < 0.05)
  many <- simulated_studies(SITUATIONS$null, 5000L, size[2], 1L, 1L)
  cell <- over_cells(many$scores, many$effects, "score", NULL, NULL, TRUE, function(cells) {
    expect_length(cells, 1)
    peaks <- peak_contrast(cells[[1]]$value)
    data.frame(cells[[1]]$keys, gain = peaks$gain, noise = peaks$noise)
  })
  # the measured score follows the measured value less: by the root of both reliabilities
  reliability <- 1 / (1 + 0.5^2 / 2)
  power <- choice_power(size[1], 0.35 * reliability, cell)
  expect_lt(abs(observed - power), 3 * sqrt(power * (1 - power) / 150) + 0.03)
})

test_that("the facts that are needed are the fewest with the wanted power", {
  contrast <- list(gain = 1.2, noise = 0.9)
  needed <- facts_for(0.8, 0.2, contrast)
  expect_gte(choice_power(needed, 0.2, contrast), 0.8)
  expect_lt(choice_power(needed - 1, 0.2, contrast), 0.8)
})

test_that("peaks that facts share need more facts; without values they are as if normal", {
  effects <- make_effects(facts = 30, windows = 5)
  table <- power_table(effects, list(localizer = "tracing", window = 5L), effect = 0.3)
  expect_setequal(table$source, "study")
  here <- power_table(effects, list(localizer = "tracing", window = 5L), effect = 0.3, edited = 0:3)
  expect_setequal(here$n_layers, c(table$n_layers, 4L))
  expect_equal(here[!here$n_layers %in% 4, "power"], table$power)
  expect_equal(
    here$power[here$n_layers %in% 4],
    choice_power(unique(here$n_facts), 0.3, contrast_at(
      localizers_of(effects[effects$window == 5, ])[[1]]$value, 1:4
    ))
  )
  none <- power_table(effects, list(localizer = "unknown"), effect = 0.3)
  expect_setequal(none$source, "normal")
  expect_true(all(none$reason != ""))
  own <- matrix(stats::rnorm(600), 100)
  shared <- own + rep(c(0, 1, 2, 2, 1, 0), each = 100)
  expect_gt(facts_for(0.8, 0.3, peak_contrast(shared)), facts_for(0.8, 0.3, peak_contrast(own)))
  expect_equal(nrow(power_table(effects[0, ])), 0)
  expect_equal(names(power_table(effects[0, ])), names(table))
})
