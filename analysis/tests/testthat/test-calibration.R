# The statistics on made-up studies of a known truth: a small part of `make calibrate`.

STUDIES <- 60L

test_that("tests keep their size and intervals their coverage, with few studies of each kind", {
  table <- calibration_table(
    studies = STUDIES, permutations = 99L, splits = 6L, seed = 1L, sizes = SIZES[1:2]
  )
  expect_setequal(table$situation, c("null", "confounded", "ceiling", "strong"))
  expect_setequal(paste(table$facts, table$layers), c("11 3", "40 6"))
  # so few studies: what is not far beyond the bounds (three standard errors) may be chance
  expect_true(all(table$size < 0.05 + 3 * sqrt(0.05 * 0.95 / STUDIES), na.rm = TRUE))
  expect_true(all(table$coverage > 0.95 - 3 * sqrt(0.05 * 0.95 / STUDIES), na.rm = TRUE))
})

test_that("a size or a coverage beyond the bounds is found, and one that there is none of", {
  table <- data.frame(
    statistic = c("A", "A", EQUIVALENCE, CORRECTED, "B", "B"),
    size = c(0.09, 0.08, 0.05, NA, NA, 0.05), power = NA,
    coverage = c(0.95, 0.9, NA, 0.89, 0.95, NaN)
  )
  expect_equal(rownames(uncalibrated(table)), c("1", "4", "5", "6"))
})

test_that("a made-up study has the association that it is made with", {
  truth <- true_values(list(r = 0.6, ease = 0, ceiling = Inf), 4L, 1L)
  reliability <- 1 / (1 + 0.5^2 / 2)
  expect_equal(truth$r, 0.6 * reliability, tolerance = 0.02)
})

test_that("the table that the docs show is a whole one, and within the bounds", {
  shown <- utils::read.csv(file.path("..", "..", "..", "docs", "explanation", "calibration.csv"))
  settings <- unique(shown[c("situation", "facts", "layers")])
  expect_setequal(settings$situation, names(SITUATIONS))
  expect_equal(nrow(settings), length(SITUATIONS) * length(SIZES))
  expect_true(all(table(shown$statistic) == nrow(settings)))
  expect_true(all(shown$studies >= 400))
  expect_equal(nrow(uncalibrated(shown)), 0)
})
