# The figures of edits: scores and success by edit layer. See figures.R.

# `localizer`: the one that the study shows, to compare with.
score_by_layer <- function(scores, study, score = "rewrite", problems = NULL,
                           correct_only = TRUE, localizer = "tracing") {
  check_scores(scores, score)
  name <- label_of(score, SCORES)
  title <- sprintf("%s by edit layer", name)
  scores <- facts_under_study(listed_edits(scores), correct_only)
  scores$value <- usable_score(scores, score)
  levels <- union(problems, unique(scores$problem))
  within <- all(scores$value >= 0 & scores$value <= 1, na.rm = TRUE)
  interval <- if (within) bounded_interval else mean_interval
  means <- if (nrow(scores) > 0) {
    mean_by(scores, c("problem", "method", "layer"), "value", interval)
  }
  if (is.null(means) || nrow(means) == 0) {
    reason <- sprintf("no usable %s among %s", lower(name), count_of(nrow(scores), "edit"))
    return(empty_figure(title, study, reason))
  }
  panels <- labelled(levels, PROBLEMS)
  means$problem <- factor(label_of(means$problem, PROBLEMS), levels = levels(panels))
  means$method <- labelled(means$method, METHODS)
  form <- score_form(means, score_notes(panels, means, scores))
  plot <- ggplot() +
    form$layers +
    labs(x = "Edit layer", y = name, colour = NULL, shape = NULL)
  plot <- with_titles(plot, title, c(study, facts_words(facts_by_problem(scores))),
    c(interval_words(means), form$notes, failed_words(scores, score)),
    problem_size(form$panels, form$row), score_words(means, lower(name), localizer, form$words)
  )
  plot + legend_in_gap(form$panels)
}

MOST_LINES <- 5L # in a panel: the intervals of more hide each other

# A panel for each problem with a line for each method, or, of many methods, the other way round.
# `notes`: why problems have no line, said in their panels or else below.
score_form <- function(means, notes) {
  if (nlevels(means$method) <= MOST_LINES) {
    panels <- nlevels(means$problem)
    return(list(
      layers = list(
        method_lines(means, "problem"),
        panel_notes(notes, means$layer + 1, c(means$mean, means$low, means$high)),
        problem_panels(panels)
      ),
      panels = panels, row = 2,
      words = "a panel for each editing problem and a colour for each method"
    ))
  }
  means$panel <- means$method
  means$method <- means$problem
  list(
    layers = list(
      method_lines(means, "panel", level_colours(means$problem)), facet_wrap(~panel, ncol = COLUMNS)
    ),
    notes = if (nrow(notes) > 0) sprintf("%s: %s.", notes$problem, notes$text),
    panels = nlevels(means$panel), row = 1.5,
    words = "a panel for each method and a colour for each editing problem"
  )
}

score_words <- function(means, name, localizer, form) {
  ends <- short_number(range(means$mean), 2)
  list(
    shows = sprintf(
      paste(
        "Mean %s of edits by edit layer (counted from one), %s. Higher is better; a method that",
        "edits a window of layers stands at its centre."
      ), name, form
    ),
    see = c(
      best_layers(means),
      sprintf(
        "See at which layers each method works best, and whether %s peaks there.",
        short_name(localizer)
      )
    ),
    alt = sprintf(
      "Lines of the mean %s by edit layer for %s, from %s to %s.", name,
      listed(levels(means$method)), ends[1], ends[2]
    )
  )
}

# The layer with the best mean over problems, for each method: of the layers that all problems have.
best_layers <- function(means) {
  groups <- split_by(means[order(means$method), , drop = FALSE], "method")
  best <- unlist(lapply(groups, function(group) {
    by_layer <- tapply(group$rows$mean, group$rows$layer, mean)
    by_layer <- by_layer[table(group$rows$layer) == length(unique(group$rows$problem))]
    if (length(by_layer) < 2) return(NULL) # nothing to choose among
    layer <- as.integer(names(by_layer)[which.max(by_layer)]) + 1L
    sprintf("%s for %s", layer_label(layer), group$keys$method)
  }))
  if (length(best) > 0) sprintf("Best edit layer over these problems: %s.", listed(best))
}

failed_words <- function(scores, score) {
  without <- sum(is.na(scores$value))
  if (without == 0) return(NULL)
  sprintf(
    "%s without a usable %s left out.", capital(count_of(without, "edit")),
    lower(label_of(score, SCORES))
  )
}

facts_by_problem <- function(scores) {
  used <- scores[!is.na(scores$value), , drop = FALSE]
  vapply(split_by(used, "problem"), function(group) length(unique(group$rows$case_id)), 0L)
}

score_notes <- function(panels, means, scores) {
  absent <- setdiff(levels(panels), means$problem)
  edits <- vapply(absent, function(problem) sum(label_of(scores$problem, PROBLEMS) == problem), 0L)
  data.frame(
    problem = factor(absent, levels = levels(panels)),
    text = ifelse(edits == 0, "no edits", sprintf("no usable score in %d edits", edits)),
    row.names = NULL
  )
}

# ---- success -------------------------------------------------------------------------------------

# success: a row for each problem, method and layer with the rates of success and their harmonic
# mean.
success_by_layer <- function(success, study) {
  columns <- c("problem", "method", "layer", "n", "reason", names(SUCCESS_LABELS))
  require_columns(success, columns, "success")
  title <- "Edit success by layer"
  rows <- success_long(success)
  known <- rows[!is.na(rows$mean), , drop = FALSE]
  if (nrow(known) == 0) {
    return(empty_figure(title, study, c(unique(success$reason), "the table is empty")[1]))
  }
  plot <- ggplot() +
    method_lines(known, c("problem", "measure")) +
    success_notes(rows, known) +
    facet_grid(measure ~ problem, drop = FALSE, labeller = label_wrap_gen(12)) +
    scale_y_continuous(breaks = scales::breaks_pretty(3)) +
    labs(x = "Edit layer", y = "Share of prompts", colour = NULL, shape = NULL)
  with_titles(
    plot, title, c(study, facts_words(success$n)), c(
      "Success: the problem's target is likelier than its rival (neighbourhood: less likely).",
      absent_cells(success)
    ), c(WIDTH, 7), success_words(known)
  )
}

success_words <- function(known) {
  list(
    shows = paste(
      "Share of prompts on which an edit succeeds, by editing problem, method and edit layer:",
      "rewriting, paraphrases, neighbours left alone, and the harmonic mean of the three."
    ),
    see = paste(
      "A method that rewrites at every layer may still spare neighbours at few; the harmonic mean",
      "is high only where all three are."
    ),
    alt = sprintf(
      "Lines of edit success by layer; the harmonic mean runs from %s to %s.",
      success_end(known, min), success_end(known, max)
    )
  )
}

# Why rates are missing; what concerns other columns of the table does not concern this figure.
absent_cells <- function(success) {
  rows <- success[!stats::complete.cases(success[names(SUCCESS_LABELS)]), , drop = FALSE]
  rows$problem <- labelled(rows$problem, PROBLEMS)
  rows$method <- labelled(rows$method, METHODS)
  reason_notes(rows, "n/a")
}

success_long <- function(success) {
  problem <- labelled(success$problem, PROBLEMS)
  method <- labelled(success$method, METHODS)
  long <- do.call(rbind, lapply(names(SUCCESS_LABELS), function(name) {
    data.frame(
      problem = problem, method = method, layer = as.integer(success$layer),
      measure = rep(SUCCESS_LABELS[[name]], nrow(success)), mean = as.numeric(success[[name]]),
      low = rep(NA_real_, nrow(success)), high = rep(NA_real_, nrow(success))
    )
  }))
  long$measure <- factor(long$measure, levels = SUCCESS_LABELS)
  long$mean[!is.finite(long$mean)] <- NA
  long
}

success_notes <- function(rows, known) {
  keys <- unique(rows[c("problem", "measure")])
  have <- interaction(keys, drop = TRUE) %in% interaction(known[c("problem", "measure")])
  notes <- keys[!have, , drop = FALSE]
  notes$text <- rep("no numbers", nrow(notes))
  panel_notes(notes, known$layer + 1, known$mean, width = 12)
}

success_end <- function(known, end) {
  values <- known$mean[known$measure == SUCCESS_LABELS[["harmonic"]]]
  if (length(values) == 0) "unknown" else short_number(end(values), 2)
}
