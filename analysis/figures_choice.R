# The figures of the plain answer: what tracing adds, with its uncertainty, and what is lost by
# choosing the edit layer by it. See figures.R.

# diff_intervals: `diff` with its interval (diff_low, diff_high), the `bound` and the `verdict`.
diff_intervals <- function(diff_intervals, study, score = "rewrite", localizer = NULL,
                           module = NULL, window = NULL, effect = "value") {
  title <- sprintf("%s: what tracing adds to the edit layer", label_of(score, SCORES))
  columns <- c("n_facts", "diff_low", "diff_high", "bound", "verdict")
  chosen <- pick_setting(
    diff_intervals, "diff_intervals", "diff", columns, score, localizer, module, window, effect
  )
  if (!is.null(chosen$missing)) return(empty_figure(title, study, chosen$missing))
  rows <- chosen$rows
  rows$verdict <- verdict_labels(rows$verdict)
  panels <- nlevels(rows$problem)
  plot <- with_titles(
    diff_plot(rows), title, c(study, facts_words(rows$n_facts), chosen$words),
    c(bound_words(rows$bound), reason_notes(rows)), problem_size(panels, 1.55),
    diff_words(rows, score)
  )
  plot + legend_in_gap(panels)
}

diff_plot <- function(rows) {
  bounds <- unique(rows[!is.na(rows$bound), c("problem", "bound")])
  ggplot(rows, aes(.data$diff, .data$method)) +
    geom_vline(xintercept = 0, colour = "grey40", linewidth = 0.3) +
    geom_vline(aes(xintercept = .data$bound),
      data = bounds, linetype = "dashed", colour = OKABE_ITO[2]
    ) +
    interval_dots(rows) +
    absent_rows(rows[is.na(rows$diff), , drop = FALSE]) +
    problem_panels(nlevels(rows$problem)) +
    scale_y_discrete(limits = rev(levels(rows$method))) +
    scale_x_continuous(breaks = scales::breaks_pretty(3), labels = plain_numbers) +
    scale_colour_manual(values = verdict_colours(rows$verdict)) +
    scale_shape_manual(values = shapes_for(rows$verdict)) +
    labs(
      x = "R\u00b2 of both minus R\u00b2 of the edit layer", y = NULL, colour = NULL, shape = NULL
    )
}

bound_words <- function(bound) {
  bound <- unique(stats::na.omit(bound))
  known <- length(bound) == 1
  sprintf(
    "Point and 95 %% interval over facts%s.",
    if (known) sprintf("; dashed: the bound of equivalence, %s", short_number(bound)) else ""
  )
}

diff_words <- function(rows, score) {
  list(
    shows = sprintf(
      paste(
        "What the tracing effect adds to the edit layer in explaining the %s: difference of",
        "R\u00b2 with its cluster-bootstrap interval, facts resampled."
      ), lower(label_of(score, SCORES))
    ),
    see = c(verdict_words(rows), paste(
      "An interval left of the dashed line says that tracing adds nothing that matters; one that",
      "crosses it leaves the question open. The verdict is that of two one-sided tests at 5 %, by",
      "the 90 % interval."
    )),
    alt = added_alt(rows)
  )
}

verdict_labels <- function(verdict) {
  labelled(ifelse(verdict %in% c("", NA), "no_verdict", verdict), VERDICTS)
}

# Known verdicts keep their colours; others are grey.
verdict_colours <- function(verdicts) {
  colours <- VERDICT_COLOURS[levels(verdicts)]
  stats::setNames(ifelse(is.na(colours), "grey55", colours), levels(verdicts))
}

interval_dots <- function(rows) {
  known <- rows[!is.na(rows$diff), , drop = FALSE]
  list(
    geom_linerange(aes(xmin = .data$diff_low, xmax = .data$diff_high, colour = .data$verdict),
      data = known[!is.na(known$diff_low), , drop = FALSE], linewidth = 0.7
    ),
    geom_point(aes(colour = .data$verdict, shape = .data$verdict), data = known, size = 2)
  )
}

absent_rows <- function(absent) {
  absent$text <- rep("n/a", nrow(absent))
  geom_text(aes(0, .data$method, label = .data$text),
    data = absent, inherit.aes = FALSE, hjust = -0.3, size = 2.6, colour = "grey40"
  )
}

verdict_words <- function(rows) {
  known <- rows[!is.na(rows$diff), , drop = FALSE]
  if (nrow(known) == 0) return(NULL)
  counts <- table(known$verdict)
  counts <- counts[counts > 0]
  row <- known[which.max(known$diff), ]
  interval <- if (is.na(row$diff_low)) {
    "no interval"
  } else {
    sprintf("interval %s to %s", small_number(row$diff_low), small_number(row$diff_high))
  }
  sprintf(
    "Largest: %s, %s. Verdicts: %s.", place_of(known, "diff"), interval,
    listed(sprintf("%s in %d", lower(names(counts)), as.integer(counts)))
  )
}

added_alt <- function(rows) {
  known <- rows[!is.na(rows$diff), , drop = FALSE]
  if (nrow(known) == 0) return("No difference of R\u00b2 could be had.")
  sprintf(
    "Points with intervals of what tracing adds to R\u00b2, from %s to %s.",
    small_number(min(known$diff)), small_number(max(known$diff))
  )
}

# ---- regret --------------------------------------------------------------------------------------

# regret: mean score lost (`regret`, with its interval) by each `strategy` against each fact's best
# layer.
regret <- function(regret, study, score = "rewrite", localizer = NULL, module = NULL,
                   window = NULL, effect = "value") {
  name <- lower(label_of(score, SCORES))
  title <- sprintf("Does localization inform editing? %s lost by layer choice", capital(name))
  columns <- c("strategy", "regret_low", "regret_high", "n_facts")
  chosen <- pick_setting(
    regret, "regret", "regret", columns, score, localizer, module, window, effect
  )
  if (!is.null(chosen$missing)) return(empty_figure(title, study, chosen$missing))
  rows <- chosen$rows
  rows <- rows[!rows$strategy %in% "oracle", , drop = FALSE] # each fact's best layer loses nothing
  rows$strategy <- labelled(rows$strategy, STRATEGY_LABELS)
  panels <- nlevels(rows$problem)
  plot <- with_titles(
    regret_plot(rows, name), title, c(study, facts_words(rows$n_facts), chosen$words),
    c("Mean over facts with its 95 % interval; 0: no layer is better.", reason_notes(rows)),
    problem_size(panels, 1.75), regret_words(rows, name)
  )
  plot + legend_in_gap(panels)
}

regret_plot <- function(rows, name) {
  ggplot(rows, aes(.data$regret, .data$method, group = rev_levels(.data$strategy))) +
    geom_vline(xintercept = 0, colour = "grey40", linewidth = 0.3) +
    regret_dots(rows) +
    absent_rows(regret_absent(rows)) +
    problem_panels(nlevels(rows$problem)) +
    scale_y_discrete(limits = rev(levels(rows$method))) +
    scale_x_continuous(breaks = scales::breaks_pretty(3), labels = plain_numbers) +
    scale_colour_manual(values = strategy_colours(rows$strategy)) +
    scale_shape_manual(values = shapes_for(rows$strategy)) +
    labs(
      x = sprintf("%s below each fact's best layer", capital(name)), y = NULL, colour = NULL,
      shape = NULL
    )
}

regret_words <- function(rows, name) {
  list(
    shows = sprintf(
      paste(
        "What is lost of the %s, on its own scale, by editing each fact at the layer where its",
        "tracing peaks, at the layer that was best for other facts, or at a random layer, against",
        "the best layer of the fact itself."
      ), name
    ),
    see = c(
      loss_words(rows),
      "If localization informed editing, the layer of the tracing peak would lose least."
    ),
    alt = regret_alt(rows, name)
  )
}

rev_levels <- function(values) factor(values, levels = rev(levels(values)))

strategy_colours <- function(strategies) {
  colours <- STRATEGY_COLOURS[levels(strategies)]
  unknown <- is.na(colours)
  colours[unknown] <- rep(OKABE_ITO[c(4, 6, 7)], length.out = sum(unknown))
  stats::setNames(unname(colours), levels(strategies))
}

regret_dots <- function(rows) {
  known <- rows[!is.na(rows$regret), , drop = FALSE]
  apart <- position_dodge(0.6)
  list(
    geom_linerange(aes(xmin = .data$regret_low, xmax = .data$regret_high, colour = .data$strategy),
      data = known, linewidth = 0.6, position = apart, na.rm = TRUE
    ),
    geom_point(aes(colour = .data$strategy, shape = .data$strategy),
      data = known, size = 1.8, position = apart
    )
  )
}

# Problems and methods without any strategy's regret.
regret_absent <- function(rows) {
  groups <- split_by(rows, c("problem", "method"))
  empty <- Filter(function(group) all(is.na(group$rows$regret)), groups)
  if (length(empty) == 0) return(rows[0, , drop = FALSE])
  do.call(rbind, lapply(empty, function(group) group$rows[1, , drop = FALSE]))
}

# Each strategy's mean regret over the problems and methods that all of them have.
mean_regrets <- function(rows) {
  key <- paste(rows$problem, rows$method)
  rows <- rows[!key %in% key[is.na(rows$regret)], , drop = FALSE]
  tapply(rows$regret, droplevels(rows$strategy), mean)
}

loss_words <- function(rows) {
  means <- mean_regrets(rows)
  if (length(means) == 0) return(NULL)
  sprintf(
    "Mean loss over problems and methods: %s.",
    listed(sprintf("%s %s", lower(names(means)), short_number(means)))
  )
}

regret_alt <- function(rows, name) {
  means <- mean_regrets(rows)
  if (length(means) == 0) return(sprintf("No loss of %s could be had.", name))
  sprintf(
    "Dots of the %s lost by each choice of layer; on average %s.", name,
    listed(sprintf("%s %s", short_number(means), paste("by the", lower(names(means)))))
  )
}
