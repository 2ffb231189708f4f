# Edits that were not made, from the scores to the figures' words, in every problem: a fact that is
# not edited, one that fails in one cell, one that fails in all, a cell and a study in which all
# fail; and edits at facts' own peaks, of which a fact without a peak has none.

NUMBERS <- c(
  "rewrite", "paraphrase", "neighbourhood", "essence", "text", "overall", "overall_essence",
  "rewrite_log_odds", "paraphrase_log_odds", "neighbourhood_log_odds",
  "ngram_entropy_before", "ngram_entropy_after", "update_norm", "steps"
)

# As the workflow stores them: every cell of such a row is empty, text too.
without <- function(scores, at, status) {
  scores[at, NUMBERS] <- NA_real_
  scores$target[at] <- NA_character_
  scores$status[at] <- status
  scores
}

BAD <- "failed: a singular matrix"

# Edits at facts' own peaks beside those of all facts, as the workflow's: without a layer, and not
# edited, where a fact peaks nowhere.
with_peaks <- function(scores, peakless) {
  own <- scores[scores$layer == 10, ]
  own[c("listed", "at_peak")] <- list(FALSE, TRUE)
  own$layer <- 14L + match(own$case_id, cases(8)) %% 3L
  own$layer[own$case_id %in% peakless] <- NA_integer_
  own$at_peak <- !is.na(own$layer)
  own <- without(own, is.na(own$layer), "not edited: no layer has an effect above zero")
  rbind(scores, own)
}

LOST <- list(
  "a fact not edited" = function(s) without(s, s$case_id == "case02", "not edited: p(o_true)"),
  "a fact that fails in one cell" = function(s) {
    without(s, s$case_id == "case02" & s$method == "ROME" & s$layer == 10, BAD)
  },
  "a fact that fails in all cells" = function(s) without(s, s$case_id == "case02", BAD),
  "a cell in which all fail" = function(s) without(s, s$method == "ROME" & s$layer == 10, BAD),
  "too few facts left for an interval" = function(s) without(s, !s$case_id %in% cases(4), BAD),
  "a method that fails" = function(s) without(s, s$method == "ROME", BAD),
  "a study in which all fail" = function(s) without(s, rep(TRUE, nrow(s)), BAD),
  "a fact without a peak" = function(s) with_peaks(s, "case02"),
  "no fact with a peak" = function(s) with_peaks(s, cases(8))
)

with_successes <- function(scores) {
  for (kind in c("rewrite", "paraphrase", "neighbourhood")) {
    scores[[paste0(kind, "_success")]] <- as.numeric(scores[[kind]] > 0.5)
    scores[[paste0(kind, "_magnitude")]] <- scores[[kind]]
  }
  scores
}

expect_reasons <- function(table, info) {
  optional <- c(PUBLISHED, "best_layer", "slope")
  numbers <- vapply(table, is.numeric, TRUE) & !names(table) %in% optional
  lacking <- rowSums(is.na(table[numbers])) > 0
  expect_true(all(table$reason[lacking] != ""), info = info)
}

expect_plain <- function(plot, info) {
  expect_silent(built <- ggplot2::ggplot_build(plot))
  words <- paste(words_of(plot, built), toString(unlist(attr(plot, "words"))))
  expect_no_match(words, "\\b(NaN|NA|Inf)\\b", info = info)
  expect_drawn(plot, built)
}

test_that("tables and figures of all problems hold without the edits that were not made", {
  effects <- make_effects(facts = 8, windows = 5)
  full <- make_scores(facts = 8, methods = c("ROME", "MEMIT"))
  for (case in names(LOST)) {
    scores <- with_successes(LOST[[case]](full))
    tables <- lapply(c(ALL, CHOSEN), function(f) f(scores, effects, "rewrite"))
    tables$success <- success_table(scores)
    for (name in names(tables)) expect_reasons(tables[[name]], paste(case, name))
    counted <- tables$success$n + tables$success$n_failed + tables$success$n_not_edited
    expect_equal(counted, rep(8, 6 * length(PROBLEMS)), info = case)
    plots <- list(
      r2_by_problem(tables$r2, "Model"), out_of_fold(tables$out_of_fold, "Model"),
      choice_gain(tables$choice, "Model", "rewrite"),
      within_facts(tables$within, "Model", "rewrite"),
      value_of_use(tables$value, "Model", "rewrite"),
      arena(tables$arena, "Model", score = "rewrite"),
      correlations_by_layer(tables$correlations, "Model"),
      success_by_layer(tables$success, "Model"), score_by_layer(scores, "Model"),
      rewrite_vs_effect(scores, effects, "Model", "fact_erasure"),
      rewrite_vs_effect_at_layer(scores, effects, "Model")
    )
    for (plot in plots) expect_plain(plot, case)
  }
})

test_that("what is lost changes no number of what is left", {
  effects <- make_effects(facts = 8, windows = 5)
  full <- make_scores(facts = 8, methods = c("ROME", "MEMIT"), problems = "fact_erasure")
  gone <- full$case_id == "case02"
  all <- c(ALL, CHOSEN["within"]) # others draw for all facts of the study
  for (name in names(all)) {
    lost <- all[[name]](without(full, gone, BAD), effects, "rewrite")
    never <- all[[name]](full[!gone, ], effects, "rewrite")
    counted <- setdiff(names(lost), "n_dropped")
    expect_equal(lost[counted], never[counted], info = name)
    expect_true(all(lost$n_dropped > never$n_dropped), info = name)
  }
})

test_that("a fact without a peak is missing among the edits at peaks alone", {
  effects <- make_effects(facts = 8, windows = 5)
  full <- make_scores(facts = 8, methods = c("ROME", "MEMIT"), problems = "fact_erasure")
  for (name in c("choice", "within", "arena")) {
    tables <- lapply(list(character(), "case02", cases(8)), function(peakless) {
      CHOSEN[[name]](with_peaks(full, peakless), effects, "rewrite")
    })
    expect_equal(tables[[2]], tables[[1]], info = name)
    expect_equal(tables[[3]], tables[[1]], info = name)
  }
  value <- value_table(with_peaks(full, "case02"), effects, "rewrite", splits = 2L)
  never <- with_peaks(full, "case02")
  never <- value_table(never[!is.na(never$layer), ], effects, "rewrite", splits = 2L)
  expect_equal(value, never)
})

test_that("a study of peaks alone, which no fact has, says that no score is usable", {
  effects <- make_effects(facts = 8, windows = 5)
  full <- make_scores(facts = 8, methods = "ROME", problems = "fact_erasure")
  scores <- with_peaks(full, cases(8))
  scores <- scores[!scores$listed, ]
  for (name in names(CHOSEN)) {
    table <- CHOSEN[[name]](scores, effects, "rewrite")
    expect_true(all(grepl("no usable score in 8 rows", table$reason)), info = name)
    expect_true(all(table$n_dropped == 8), info = name)
  }
})
