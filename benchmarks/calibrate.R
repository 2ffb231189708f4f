# Calibrates the statistics on made-up studies: Rscript benchmarks/calibrate.R STUDIES TABLE.csv
#
# Writes the table of sizes, powers and coverages, and fails where one is not what it should be.

script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
folder <- file.path(dirname(script), "..", "analysis")
for (file in c(
  "frames.R", "groups.R", "reliability.R", "grids.R", "shuffles.R", "multiplicity.R", "choice.R",
  "within.R", "value.R", "simulate.R"
)) {
  source(file.path(folder, file), encoding = "UTF-8")
}
arguments <- commandArgs(trailingOnly = TRUE)
table <- calibration_table(studies = as.integer(arguments[1]))
shown <- table
numbers <- c("size", "power", "coverage")
shown[numbers] <- lapply(table[numbers], function(column) {
  ifelse(is.na(column), "", sprintf("%.3f", column))
})
utils::write.csv(shown, arguments[2], row.names = FALSE, quote = FALSE, eol = "\n")
print(shown, row.names = FALSE)
failing <- uncalibrated(table)
if (nrow(failing) > 0) {
  message(sprintf("%d rows have a size above %g or a coverage below %g", nrow(failing),
    LARGEST_SIZE, LEAST_COVERAGE
  ))
  quit(status = 1)
}
