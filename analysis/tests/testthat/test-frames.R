# Frames made quickly: what data.frame(), cbind() and rbind() give.

test_that("values and frames stand side by side, a single value repeated", {
  left <- data.frame(a = 1:3, b = c("x", NA, "z"))
  expect_identical(
    beside(left, c = NA_real_, d = c(TRUE, FALSE, NA)),
    data.frame(left, c = NA_real_, d = c(TRUE, FALSE, NA))
  )
  expect_identical(beside(k = "x", left[1, ]), data.frame(k = "x", left[1, ]))
  expect_identical(beside(left, `a name` = 1L)[["a name"]], rep(1L, 3))
  expect_error(beside(left, c = 1:2), "different lengths")
})

test_that("rows of one kind are bound, whatever is missing in the first", {
  rows <- list(
    beside(a = NA, b = "x", c = NA_integer_), beside(a = 0.5, b = NA_character_, c = 2L)
  )
  expect_identical(bind_columns(rows), do.call(rbind, rows))
  expect_identical(bind_columns(rows[1]), rows[[1]])
})
