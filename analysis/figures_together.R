# The figure of facts that share an update: scores by edit layer and their number. See figures.R.

together_by_layer <- function(scores, study, problem, score_names, correct_only = TRUE) {
  require_columns(scores, c(SCORE_KEYS, "together", "listed", "status", score_names), "scores")
  title <- "Scores by edit layer and facts in an update"
  rows <- facts_under_study(listed_edits(scores), correct_only)
  rows <- rows[rows$problem %in% problem, , drop = FALSE]
  long <- do.call(rbind, lapply(score_names, function(score) {
    data.frame(rows[c("case_id", "method", "layer", "together")],
      score = rep(score, nrow(rows)), value = usable_score(rows, score)
    )
  }))
  keys <- c("score", "method", "together", "layer")
  means <- if (any(!is.na(long$value))) mean_by(long, keys, "value", bounded_interval)
  if (is.null(means)) {
    reason <- sprintf("no usable score among %s", count_of(nrow(rows), "edit"))
    return(empty_figure(title, study, reason))
  }
  means$methods <- labelled(means$method, METHODS)
  means$score <- factor(label_of(means$score, shorts_of("scores")),
    levels = label_of(score_names, shorts_of("scores"))
  )
  counts <- sort(unique(means$together))
  means$method <- factor(means$together, levels = counts) # a line for each number
  plot <- ggplot() +
    method_lines(means, c("score", "methods"), level_colours(means$method)) +
    facet_grid(score ~ methods) +
    labs(x = "Edit layer", y = "Score", colour = "Facts in an update", shape = "Facts in an update")
  with_titles(
    plot, title, c(study, lower(label_of(problem, PROBLEMS)), facts_words(means$n)),
    interval_words(means), c(WIDTH, 6), together_words(means, counts)
  )
}

together_words <- function(means, counts) {
  rewrite <- means[means$score == levels(means$score)[1], , drop = FALSE]
  ends <- short_number(range(rewrite$mean), 2)
  list(
    shows = paste(
      "Mean scores by edit layer (counted from one), a column for each method and a colour for",
      "each number of facts that share an update."
    ),
    see = paste(
      "Lines of one shape say that the best layer stays where it is when more is written; see how",
      "much is lost, and whether neighbours pay."
    ),
    alt = sprintf(
      "Lines of scores by edit layer for %s facts in an update; %s from %s to %s.",
      listed(counts), lower(levels(means$score)[1]), ends[1], ends[2]
    )
  )
}
