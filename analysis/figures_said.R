# The figure of success by generation, by edit layer. See figures.R.

SAID_PANELS <- c(
  rewrite_said = "Target, prompt", paraphrase_said = "Target, paraphrases",
  rewrite_other_said = "Other object, prompt", paraphrase_other_said = "Other, paraphrases"
)

said_by_layer <- function(scores, study, problems = NULL, correct_only = TRUE) {
  check_scores(scores, names(SAID_PANELS))
  title <- "What edited models say, by edit layer"
  rows <- facts_under_study(listed_edits(scores), correct_only)
  long <- do.call(rbind, lapply(names(SAID_PANELS), function(name) {
    data.frame(rows[c("case_id", "problem", "method", "layer")],
      measure = rep(SAID_PANELS[[name]], nrow(rows)), value = usable_score(rows, name)
    )
  }))
  keys <- c("measure", "problem", "method", "layer")
  means <- if (any(!is.na(long$value))) mean_by(long, keys, "value", bounded_interval)
  if (is.null(means)) {
    reason <- sprintf("no continuation among %s", count_of(nrow(rows), "edit"))
    return(empty_figure(title, study, reason))
  }
  panels <- labelled(union(problems, unique(rows$problem)), PROBLEMS)
  means$problem <- factor(label_of(means$problem, PROBLEMS), levels = levels(panels))
  means$method <- labelled(means$method, METHODS)
  means$measure <- factor(means$measure, levels = SAID_PANELS)
  plot <- ggplot() +
    method_lines(means, c("problem", "measure")) +
    facet_grid(measure ~ problem, drop = FALSE, labeller = label_wrap_gen(12)) +
    labs(x = "Edit layer", y = "Share of continuations", colour = NULL, shape = NULL)
  with_titles(plot, title, study, c(
    interval_words(means), "In erasure the target is what should not be said any more."
  ), c(WIDTH, 7), said_words(means))
}

said_words <- function(means) {
  on_prompt <- means$mean[means$measure == SAID_PANELS[["rewrite_said"]]]
  ends <- c("unknown", "unknown")
  if (length(on_prompt) > 0) ends <- short_number(range(on_prompt), 2)
  list(
    shows = paste(
      "Share of greedy continuations that have the target in them (erasure: lack it), and share",
      "that have the other object, behind the prompt and behind its paraphrases, by editing",
      "problem, method and edit layer."
    ),
    see = paste(
      "A method that makes the target likely need not have it said; where the other object is",
      "still said, the edit was not heard."
    ),
    alt = sprintf(
      "Lines of what is said by layer; the target behind the prompt from %s to %s.",
      ends[1], ends[2]
    )
  )
}
