# How well edits work: scores, successes and magnitudes by problem, method and edit layer, as the
# ROME suite's `summarize` prints them (Meng et al. 2022), with intervals over facts; and what else
# an edit's outcome can be measured by.

UNASKED <- "text" # without a value where a study does not ask for it, which is no reason
OUTCOMES <- c(
  "rewrite_log_odds", "paraphrase_log_odds", "neighbourhood_log_odds", "update_norm", "steps"
)
SUCCESSES <- c("rewrite_success", "paraphrase_success", "neighbourhood_success")
AVERAGED <- c(
  "rewrite_magnitude", "paraphrase_magnitude", "neighbourhood_magnitude",
  "ngram_entropy_before", "ngram_entropy_after"
)

# One row for each problem, method and layer where these were edited. `problems`, `methods`: the
# expected ones; a pair without any edit has a row for each layer that others have, which says so.
success_table <- function(scores, problems = NULL, methods = NULL, correct_only = TRUE) {
  check_scores(scores, c(SCORED, OUTCOMES, SUCCESSES, AVERAGED))
  scores <- listed_edits(scores)
  answers <- lapply(split_by(scores, c("model", "dataset")), function(setting) {
    cells <- success_cells(setting$rows, problems, methods)
    edits <- facts_under_study(setting$rows, correct_only)
    rows <- lapply(seq_len(nrow(cells)), function(i) {
      same <- edits$problem %in% cells$problem[i] & edits$method %in% cells$method[i] &
        edits$layer %in% cells$layer[i]
      success_row(edits[same, , drop = FALSE])
    })
    cbind(setting$keys, cells, do.call(rbind, rows), row.names = NULL)
  })
  if (length(answers) == 0) return(empty_success(scores))
  table <- do.call(rbind, answers)
  keys <- table[c("model", "dataset", "problem", "method", "layer")]
  table <- table[do.call(order, c(unname(as.list(keys)), method = "radix")), ]
  rownames(table) <- NULL
  table
}

success_cells <- function(edits, problems, methods) {
  cells <- expand.grid(
    layer = sort(unique(as.integer(edits$layer))), method = union(methods, unique(edits$method)),
    problem = union(problems, unique(edits$problem)), stringsAsFactors = FALSE
  )[c("problem", "method", "layer")]
  pair <- function(frame) paste(frame$problem, frame$method, sep = "\r")
  cell <- function(frame) paste(pair(frame), frame$layer, sep = "\r")
  cells[cell(cells) %in% cell(edits) | !pair(cells) %in% pair(edits), , drop = FALSE]
}

empty_success <- function(scores) {
  cell <- data.frame(model = "", dataset = "", problem = "", method = "", layer = 0L)
  cbind(cell, success_row(scores))[0, ]
}

success_row <- function(edits) {
  done <- edits[edits$status %in% "ok", , drop = FALSE]
  not_edited <- sum(startsWith(as.character(edits$status), "not edited"), na.rm = TRUE)
  means <- lapply(c(SCORED, OUTCOMES), function(score) {
    interval <- interval_of_mean(score)(as.numeric(done[[score]]))
    names(interval) <- paste0(score, c("_n", "", "_low", "_high"))
    interval
  })
  averages <- lapply(stats::setNames(nm = c(SUCCESSES, AVERAGED)), function(column) {
    finite_mean(done[[column]])
  })
  answer <- data.frame(
    n = nrow(done), n_failed = nrow(edits) - nrow(done) - not_edited, n_not_edited = not_edited,
    means, averages[SUCCESSES],
    harmonic = harmonic_mean(unlist(averages[SUCCESSES])), averages[AVERAGED]
  )
  named <- c(SCORED, OUTCOMES)
  answer[named] <- lapply(answer[named], function(mean) if (is.nan(mean)) NA_real_ else mean)
  answer$reason <- success_reason(answer, nrow(edits))
  answer
}

finite_mean <- function(values) {
  values <- as.numeric(values)
  values <- values[is.finite(values)]
  if (length(values) == 0) NA_real_ else mean(values)
}

# 0 where one of them is, as scipy's, which the suite uses.
harmonic_mean <- function(values) {
  if (anyNA(values)) return(NA_real_)
  if (any(values == 0)) return(0)
  length(values) / sum(1 / values)
}

success_reason <- function(answer, n_edits) {
  if (n_edits == 0) return("no edits of the facts under study")
  if (answer$n == 0) return(sprintf("none of %d edits could be scored", n_edits))
  named <- setdiff(c(SCORED, OUTCOMES), UNASKED)
  counted <- unlist(answer[paste0(named, "_n")])
  absent <- named[counted == 0]
  lost <- c(SUCCESSES, AVERAGED)[is.na(unlist(answer[c(SUCCESSES, AVERAGED)]))]
  joined_reasons(
    if (length(c(absent, lost)) > 0) sprintf("no value of %s", toString(c(absent, lost))),
    if (any(counted == 1)) "a single fact: no interval"
  )
}
