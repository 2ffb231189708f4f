# Success by probability and success by generation: do they rank editors alike? The one asks how far
# p(target) moved, the other whether what the model then writes has the target in it.

SAID_KINDS <- c("rewrite", "paraphrase")

# One row for each problem, kind of prompt, and two methods, in their order. `score`, `said`: means
# over the facts and layers that both were edited at, of the first method; `_rival`: of the second;
# `_diff`: their difference, a mean over facts of each fact's mean over layers, and its interval.
# `reversed`: the differences have opposite signs; `clear`: and neither interval holds 0.
said_table <- function(scores, problems = NULL, methods = NULL, correct_only = TRUE) {
  columns <- c(SAID_KINDS, paste0(SAID_KINDS, "_said"), paste0(SAID_KINDS, "_other_said"))
  check_scores(scores, columns)
  scores <- listed_edits(scores)
  rows <- lapply(split_by(scores, c("model", "dataset")), function(setting) {
    edits <- facts_under_study(setting$rows, correct_only)
    said_rows(edits, setting$keys, problems, methods)
  })
  rows <- do.call(rbind, rows)
  if (!is.null(rows)) return(rows)
  keys <- data.frame(
    model = "", dataset = "", problem = "", kind = "", method = "", rival = ""
  )
  cbind(keys, said_row(scores[0, ], "rewrite", c("", "")))[0, ]
}

said_rows <- function(edits, keys, problems, methods) {
  pairs <- pairs_of(union(methods, unique(edits$method)))
  cells <- expand.grid(
    kind = SAID_KINDS, pair = seq_along(pairs), problem = union(problems, unique(edits$problem)),
    stringsAsFactors = FALSE
  )
  done <- edits[edits$status %in% "ok", , drop = FALSE]
  do.call(rbind, lapply(seq_len(nrow(cells)), function(i) {
    cell <- cells[i, ]
    pair <- pairs[[cell$pair]]
    mine <- done[done$problem %in% cell$problem, , drop = FALSE]
    cbind(
      keys, problem = cell$problem, kind = cell$kind, method = pair[1], rival = pair[2],
      said_row(mine, cell$kind, pair), row.names = NULL
    )
  }))
}

pairs_of <- function(names) {
  if (length(names) < 2) return(list())
  utils::combn(names, 2, simplify = FALSE)
}

said_row <- function(edits, kind, pair) {
  answer <- data.frame(
    n_facts = 0L, score = NA_real_, score_rival = NA_real_, score_diff = NA_real_,
    score_diff_low = NA_real_, score_diff_high = NA_real_, said = NA_real_, said_rival = NA_real_,
    said_diff = NA_real_, said_diff_low = NA_real_, said_diff_high = NA_real_,
    other_said = NA_real_, other_said_rival = NA_real_, reversed = NA, clear = NA, reason = ""
  )
  both <- both_edited(edits, kind, pair)
  if (nrow(both) == 0) {
    answer$reason <- "no fact and layer at which both were edited and scored"
    return(answer)
  }
  answer$n_facts <- length(unique(both$case_id))
  for (name in c("score", "said", "other_said")) {
    answer[[name]] <- mean(both[[paste0(name, ".x")]])
    answer[[paste0(name, "_rival")]] <- mean(both[[paste0(name, ".y")]])
  }
  for (name in c("score", "said")) {
    difference <- both[[paste0(name, ".x")]] - both[[paste0(name, ".y")]]
    ends <- mean_interval(as.vector(tapply(difference, both$case_id, mean)))
    answer[paste0(name, "_diff", c("", "_low", "_high"))] <- ends[c("mean", "low", "high")]
  }
  answer$reversed <- answer$score_diff * answer$said_diff < 0
  apart <- function(name) {
    answer[[paste0(name, "_diff_low")]] * answer[[paste0(name, "_diff_high")]] > 0
  }
  answer$clear <- answer$reversed && apart("score") %in% TRUE && apart("said") %in% TRUE
  if (answer$n_facts == 1) answer$reason <- "a single fact: no interval"
  answer
}

# A row for each fact and layer that both methods have all three numbers of.
both_edited <- function(edits, kind, pair) {
  of <- function(method) {
    rows <- edits[edits$method %in% method, , drop = FALSE]
    found <- data.frame(
      case_id = as.character(rows$case_id), layer = as.integer(rows$layer),
      score = as.numeric(rows[[kind]]), said = as.numeric(rows[[paste0(kind, "_said")]]),
      other_said = as.numeric(rows[[paste0(kind, "_other_said")]])
    )
    found[stats::complete.cases(found), , drop = FALSE]
  }
  merge(of(pair[1]), of(pair[2]), by = c("case_id", "layer"))
}
