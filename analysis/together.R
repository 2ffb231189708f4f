# Does the best edit layer move when more facts are written at once? The layers' mean scores for
# each number of facts that share an update, against those for the fewest.

# One row for each problem, method, score and number of facts together. `best_layer`, `mean`: the
# layer with the best mean score, and that; `mean_first`: the mean at the layer that is best for the
# fewest together; `gain`: the score at the best layer less that at the fewest's best, each fact's
# two layers chosen by the other half of the facts, so that no fact flatters its own choice, and
# chosen anew in its interval, as in value.R; `r`: correlation over layers with the means of the
# fewest. Facts with a score at every layer and number.
together_table <- function(scores, score_names, problems = NULL, methods = NULL,
                           correct_only = TRUE, splits = 20L, seed = 0L) {
  keys <- c(SCORE_KEYS, "together")
  require_columns(scores, c(keys, "listed", "is_correct", "status", score_names), "scores")
  require_unique(scores, keys, "scores")
  scores <- in_layers(listed_edits(scores))
  deal <- dealt_of(study_facts(scores), splits, seed)
  counts <- sort(unique(as.integer(scores$together)))
  rows <- list()
  for (setting in split_by(scores, c("model", "dataset"))) {
    for (edit in edit_groups(setting$rows, problems, methods, correct_only)) {
      for (score in score_names) {
        cell <- cbind(setting$keys, edit$keys, score = score, row.names = NULL)
        answers <- together_rows(edit$rows, score, counts, deal)
        rows[[length(rows) + 1]] <- cbind(cell, answers, row.names = NULL)
      }
    }
  }
  if (length(rows) == 0) return(empty_together())
  table <- do.call(rbind, rows)
  by <- table[c("model", "dataset", "problem", "method", "score", "together")]
  table <- table[do.call(order, c(unname(as.list(by)), method = "radix")), ]
  rownames(table) <- NULL
  table
}

empty_together <- function() {
  keys <- data.frame(model = "", dataset = "", problem = "", method = "", score = "")
  cbind(keys, together_row("", NULL, NULL, 1L, "nothing", NULL))[0, ]
}

together_rows <- function(rows, score, counts, deal) {
  cells <- together_cells(rows, score, counts)
  do.call(rbind, lapply(seq_along(counts), function(i) {
    together_row(score, cells$scores[[i]], cells$scores[[1]], counts[i], cells$reason, deal)
  }))
}

# [facts, layers] of each number together, of the same facts and layers in all.
together_cells <- function(rows, score, counts) {
  if (nrow(rows) == 0) {
    nothing <- vector("list", length(counts))
    return(list(scores = nothing, reason = "no edits of the facts under study"))
  }
  facts <- sort(unique(as.character(rows$case_id)), method = "radix")
  layers <- sort(unique(as.integer(rows$layer)))
  scores <- lapply(counts, function(n) {
    mine <- rows[rows$together %in% n, , drop = FALSE]
    cells_of(mine, facts, layers)(usable_score(mine, score))
  })
  whole <- Reduce(`&`, lapply(scores, stats::complete.cases))
  reason <- if (!any(whole)) "no fact with a usable score at every layer and number" else ""
  list(scores = lapply(scores, function(cells) cells[whole, , drop = FALSE]), reason = reason)
}

together_row <- function(score, cells, first, n, reason, deal) {
  answer <- data.frame(
    together = n, n_facts = NROW(cells), n_layers = NCOL(cells), best_layer = NA_integer_,
    mean = NA_real_, mean_low = NA_real_, mean_high = NA_real_, mean_first = NA_real_,
    gain = NA_real_, gain_low = NA_real_, gain_high = NA_real_, r = NA_real_, reason = reason
  )
  if (NROW(cells) == 0) return(answer)
  means <- colMeans(cells)
  best <- which.max(means)
  answer$best_layer <- as.integer(colnames(cells)[best])
  answer[c("mean", "mean_low", "mean_high")] <- interval_of_mean(score)(cells[, best])[-1]
  answer$mean_first <- means[[which.max(colMeans(first))]]
  if (ncol(cells) < 2 || nrow(cells) < MIN_ROWS) {
    answer$reason <- "too few facts or layers to compare"
    return(answer)
  }
  gains <- crossed_gains(cells, first, deal(rownames(cells)))
  answer$gain <- gains[1]
  answer[c("gain_low", "gain_high")] <- jackknife_interval(gains[1], gains[-1])[ENDS]
  if (is.na(answer$gain_low) && !identical(cells, first)) {
    answer$reason <- "the same gain whichever fact is left out: no interval"
  }
  before <- colMeans(first)
  if (!no_variance(means) && !no_variance(before)) answer$r <- stats::cor(means, before)
  answer
}

# The mean score at the layer that is best for the other half of the facts, less that at the layer
# that is best for them in `first`: of all facts and without each group, averaged over halvings.
crossed_gains <- function(cells, first, dealt) {
  gains <- lapply(seq_len(ncol(dealt$first)), function(split) {
    fits <- lapply(list(cells, first), function(scores) {
      cross_fit(scores, scores * NA, dealt$first[, split], dealt$group)
    })
    scores <- lapply(fits, function(fit) at_layers(cells, fit$fixed))
    left <- fits[[1]]$left
    colSums((scores[[1]] - scores[[2]]) * left) / colSums(left)
  })
  unname(Reduce(`+`, gains) / length(gains))
}
