# Two editors by probability and by what is said, by hand.

spoken <- function(facts = 6) {
  scores <- make_scores(facts, methods = c("ROME", "MEMIT"), problems = "error_injection")
  rome <- scores$method == "ROME"
  scores$rewrite <- ifelse(rome, 0.9, 0.4) + as.integer(factor(scores$case_id)) / 100
  scores$rewrite_said <- as.numeric(!rome)
  scores$rewrite_said[rome & scores$case_id == "case01"] <- 1
  scores$paraphrase_said <- 0.5
  scores$rewrite_other_said <- as.numeric(rome)
  scores$paraphrase_other_said <- 0
  scores
}

test_that("a pair whose order is reversed is told", {
  table <- said_table(spoken(), methods = c("ROME", "MEMIT"))
  row <- table[table$kind == "rewrite", ]
  expect_equal(c(row$method, row$rival), c("ROME", "MEMIT"))
  expect_equal(row$score_diff, 0.5)
  expect_equal(row$said_diff, -5 / 6)
  expect_equal(c(row$other_said, row$other_said_rival), c(1, 0))
  expect_true(row$reversed)
  expect_true(row$clear)
  expect_false(table$reversed[table$kind == "paraphrase"])
})

test_that("only facts and layers of both are compared", {
  scores <- spoken()
  scores$status[scores$method == "ROME" & scores$layer == 2] <- "failed: why"
  table <- said_table(scores)
  expect_equal(unique(table$n_facts), 6L)
  alone <- said_table(scores[scores$method == "ROME", ], methods = c("ROME", "KN"))
  expect_equal(unique(alone$reason), "no fact and layer at which both were edited and scored")
  expect_equal(names(said_table(scores[0, ])), names(table))
})

test_that("the figure draws what is said, or says why not", {
  plot <- said_by_layer(spoken(), "tiny", c("error_injection", "fact_erasure"))
  expect_match(attr(plot, "words")$alt, "behind the prompt from")
  file <- withr::local_tempfile(fileext = ".png")
  expect_no_error(suppressWarnings(ggsave(file, plot, width = 7, height = 7)))
  empty <- spoken()
  empty$rewrite_said <- empty$paraphrase_said <- NA_real_
  empty$rewrite_other_said <- empty$paraphrase_other_said <- NA_real_
  words <- attr(said_by_layer(empty, "tiny"), "words")
  expect_match(words$alt, "Nothing to show: no continuation")
})
