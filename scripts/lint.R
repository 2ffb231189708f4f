# Lints the R code: Rscript scripts/lint.R
#
# The helpers of the tests, with the labels, and all files of analysis/ are read first, as the
# workflow reads them, so that a name is known to be defined in another file, and one that is
# defined nowhere is found.

if (!requireNamespace("lintr", quietly = TRUE)) {
  message("R is not linted: there is no lintr here (Debian: r-cran-lintr)")
  quit(status = 0)
}
suppressPackageStartupMessages(library(testthat))
helpers <- list.files("analysis/tests/testthat", "^helper.*[.]R$", full.names = TRUE)
for (file in helpers) sys.source(file, globalenv(), chdir = TRUE)
for (file in list.files("analysis", "[.]R$", full.names = TRUE)) sys.source(file, globalenv())

lints <- lintr::lint_dir(
  "analysis",
  linters = lintr::linters_with_defaults(
    line_length_linter = lintr::line_length_linter(100),
    object_name_linter = lintr::object_name_linter(c("snake_case", "SNAKE_CASE", "symbols"))
  )
)
lints <- c(lints, lintr::lint("scripts/lint.R", lintr::line_length_linter(100)))
for (one in lints) {
  cat(sprintf("%s:%d: %s [%s]\n", one$filename, one$line_number, one$message, one$linter))
}
quit(status = as.integer(length(lints) > 0))
