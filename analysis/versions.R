# What the statistics and figures were made with.

# R and the packages, one row each: `name`, `version`; packages that are not installed are left out.
used_versions <- function(packages) {
  found <- Filter(function(name) nzchar(system.file(package = name)), packages)
  data.frame(
    name = c("R", found),
    version = c(
      paste(R.version$major, R.version$minor, sep = "."),
      vapply(found, function(name) as.character(utils::packageVersion(name)), "")
    )
  )
}
