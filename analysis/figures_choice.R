# The figures of the plain answer: whether a localizer picks better layers than its own shuffle,
# whether scores follow its values within facts, and what its use is worth. See figures.R.

# choice: `gain` with its interval over facts, and where 95 % of its shuffles lie.
choice_gain <- function(choice, study, score = "paraphrase_log_odds", localizer = NULL,
                        module = NULL, window = NULL) {
  columns <- c("low", "high", "shuffle_low", "shuffle_high", "p_adjusted", "estimand")
  answer_figure(
    choice, "choice", "gain", columns, study, score, localizer, module, window,
    list(
      title = "%s: does the localizer pick better layers than its own shuffle?",
      axis = "%s at the fact's own peak less that at another fact's", panel = 1.55,
      layers = function(rows) c(shuffle_bands(rows), told_dots(rows, "gain")),
      note = paste(
        "Point and 95 % interval over facts; grey: 95 % of shuffles of the facts; filled: adjusted",
        "p below .05."
      ),
      shows = paste(
        "What is gained of the %s by editing each fact at the layer where its own values peak,",
        "instead of where those of the other facts do: the same layers equally often, only the",
        "matching is broken."
      ),
      told = function(rows) told_words(rows, "gain"),
      see = paste(
        "Right of the grey, the localizer knows something about where each single fact should be",
        "edited; inside, that is not shown."
      )
    )
  )
}

# within: `r` with its interval over facts, and the `ceiling` that its reliabilities set.
within_facts <- function(within, study, score = "paraphrase_log_odds", localizer = NULL,
                         module = NULL, window = NULL) {
  columns <- c("low", "high", "bound", "ceiling", "p_adjusted", "estimand")
  answer_figure(
    within, "within", "r", columns, study, score, localizer, module, window,
    list(
      title = "%s: does it follow the localizer from layer to layer?",
      axis = "Correlation of %s and value within facts", panel = 1.55,
      layers = function(rows) c(ceiling_marks(rows), told_dots(rows, "r")),
      note = paste(
        "Point and 95 % interval over facts; filled: adjusted p below .05; bars: the ceiling of r",
        "by both reliabilities, where these could be had; dotted: an association below it counts",
        "as none."
      ),
      shows = paste(
        "How the %s and the localizer's value go together over the layers of a fact, the means of",
        "facts and of layers removed."
      ),
      told = function(rows) told_words(rows, "r"),
      see = paste(
        "A fact that is easy at all layers, or a layer that is good for all facts, makes no",
        "association here."
      )
    )
  )
}

# value: of each `strategy`, the score less that at the best fixed layer, with its interval.
value_of_use <- function(value, study, score = "paraphrase_log_odds", localizer = NULL,
                         module = NULL, window = NULL) {
  answer_figure(
    value, "value", "value", c("strategy", "low", "high", "estimand"), study, score, localizer,
    module, window,
    list(
      title = "%s: is the localizer worth using?",
      axis = "%s less that at the best fixed layer", panel = 1.9,
      layers = strategy_dots,
      note = paste(
        "Point and 95 % interval over facts, every choice made anew without each fact; 0: as good",
        "as one layer for all."
      ),
      shows = paste(
        "What is gained of the %s against the one layer that is best for other facts, by editing",
        "each fact where the localizer and other facts' scores say, where its own values peak, at",
        "a random layer, and at the best layer by half of its prompts, scored on the other half."
      ),
      told = strategy_words,
      see = paste(
        "Where its interval lies right of zero, the choice is worth its cost. The best layer by",
        "half of the prompts, scored by the other half, is a noisy lower bound of what could be",
        "gained."
      )
    )
  )
}

# ---- what they share -----------------------------------------------------------------------------

# One score at one place of a localizer: problems in panels, methods in rows. `form`: the texts,
# with %s for the score, and what is drawn.
answer_figure <- function(table, name, value, columns, study, score, localizer, module, window,
                          form) {
  named <- label_of(score, SCORES)
  title <- sprintf(form$title, named)
  chosen <- pick_answer(table, name, value, columns, score, localizer, module, window)
  if (!is.null(chosen$missing)) return(empty_figure(title, study, chosen$missing))
  rows <- chosen$rows
  panels <- nlevels(rows$problem)
  words <- list(
    shows = sprintf(form$shows, lower(named)), see = c(form$told(rows), form$see),
    alt = answer_alt(rows, value)
  )
  plot <- ggplot(rows, aes(.data[[value]], .data$method)) +
    geom_vline(xintercept = 0, colour = "grey40", linewidth = 0.3) +
    form$layers(rows) +
    absent_rows(without_any(rows, value)) +
    problem_panels(panels) +
    scale_y_discrete(limits = rev(levels(rows$method))) +
    scale_x_continuous(breaks = scales::breaks_pretty(3), labels = plain_numbers) +
    labs(x = capital(sprintf(form$axis, lower(named))), y = NULL, colour = NULL, shape = NULL)
  plot <- with_titles(
    plot, title, c(study, facts_words(rows$n_facts), chosen$words, estimand_words(rows)),
    c(form$note, reason_notes(without_any(rows, value))),
    problem_size(panels, form$panel), words
  )
  plot + legend_in_gap(panels)
}

pick_answer <- function(table, name, value, columns, score, localizer, module, window) {
  require_columns(table, c(setdiff(SETTING, "effect"), "n_facts", value, columns), name)
  place <- pick_trace(table, localizer, module, window)
  by_score <- pick(place$rows, "score", score)
  rows <- by_score$rows
  rows$problem <- labelled(rows$problem, PROBLEMS)
  rows$method <- labelled(rows$method, METHODS)
  rows$reason[is.na(rows$reason)] <- ""
  missing <- c(place$missing, by_score$missing)
  if (all(is.na(rows[[value]]))) {
    reasons <- setdiff(unique(rows$reason), "")
    missing <- c(missing, if (length(reasons) > 0) paste(reasons, collapse = "; "), "no number")
  }
  list(rows = rows, words = place$words, missing = missing[1])
}

# Whether the peaks are those of the whole model, or of what was edited.
estimand_words <- function(rows) {
  estimand <- unique(stats::na.omit(rows$estimand))
  if (identical(estimand, "own peak")) return("all peaks edited")
  if (length(estimand) > 0) "peaks among the edited layers"
}

# Problems and methods without any number, one row each.
without_any <- function(rows, value) {
  groups <- split_by(rows, c("problem", "method"))
  empty <- Filter(function(group) all(is.na(group$rows[[value]])), groups)
  if (length(empty) == 0) return(rows[0, , drop = FALSE])
  do.call(rbind, lapply(empty, function(group) group$rows[1, , drop = FALSE]))
}

absent_rows <- function(absent) {
  absent$text <- rep("n/a", nrow(absent))
  geom_text(aes(0, .data$method, label = .data$text),
    data = absent, inherit.aes = FALSE, hjust = -0.3, size = 2.6, colour = "grey40"
  )
}

shuffle_bands <- function(rows) {
  list(geom_linerange(aes(xmin = .data$shuffle_low, xmax = .data$shuffle_high),
    data = rows[!is.na(rows$shuffle_low), , drop = FALSE], linewidth = 4.5, colour = "grey85"
  ))
}

# The bound of equivalence, dotted, and a bar at the ceiling on the side of r.
ceiling_marks <- function(rows) {
  bounds <- unique(data.frame(
    problem = rep(rows$problem, 2), bound = c(rows$bound, -rows$bound)
  ))
  known <- rows[!is.na(rows$ceiling) & !is.na(rows$r), , drop = FALSE]
  known$at <- ifelse(known$r < 0, -1, 1) * known$ceiling
  list(
    geom_vline(aes(xintercept = .data$bound),
      data = bounds, linetype = "dotted", colour = "grey40", linewidth = 0.4
    ),
    geom_point(aes(.data$at, .data$method), data = known, shape = "|", size = 4)
  )
}

# Filled where the adjusted p is below .05.
told_dots <- function(rows, value) {
  known <- rows[!is.na(rows[[value]]), , drop = FALSE]
  told <- known$p_adjusted < 0.05
  list(
    geom_linerange(aes(xmin = .data$low, xmax = .data$high),
      data = known[!is.na(known$low), , drop = FALSE], linewidth = 0.6, colour = OKABE_ITO[1]
    ),
    geom_point(
      data = known, size = 2, shape = 21, colour = OKABE_ITO[1],
      fill = ifelse(told %in% TRUE, OKABE_ITO[1], "white")
    )
  )
}

told_words <- function(rows, value) {
  known <- rows[!is.na(rows$p_adjusted), , drop = FALSE]
  if (nrow(known) == 0) return(NULL)
  told <- known$p_adjusted < 0.05
  sprintf(
    "Told from none after adjustment: %d of %d, %d above zero and %d below.", sum(told),
    nrow(known), sum(told & known[[value]] > 0), sum(told & known[[value]] < 0)
  )
}

strategy_dots <- function(rows) {
  rows$strategy <- labelled(rows$strategy, STRATEGY_LABELS)
  rows$place <- factor(rows$strategy, rev(levels(rows$strategy))) # the first on top
  known <- rows[!is.na(rows$value), , drop = FALSE]
  apart <- position_dodge(0.65)
  draw <- aes(colour = .data$strategy, group = .data$place)
  list(
    geom_linerange(utils::modifyList(draw, aes(xmin = .data$low, xmax = .data$high)),
      data = known, linewidth = 0.6, position = apart, na.rm = TRUE
    ),
    geom_point(utils::modifyList(draw, aes(shape = .data$strategy)),
      data = known, size = 1.8, position = apart
    ),
    scale_colour_manual(values = strategy_colours(rows$strategy)),
    scale_shape_manual(values = shapes_for(rows$strategy)),
    if (legend_below(nlevels(rows$problem))) { # in one row the names are wider than the figure
      guides(colour = guide_legend(nrow = 2), shape = guide_legend(nrow = 2))
    }
  )
}

strategy_colours <- function(strategies) {
  colours <- STRATEGY_COLOURS[levels(strategies)]
  unknown <- is.na(colours)
  colours[unknown] <- rep(OKABE_ITO[c(4, 6, 7)], length.out = sum(unknown))
  stats::setNames(unname(colours), levels(strategies))
}

# Each strategy's mean value over the problems and methods that all of those with any number have.
mean_values <- function(rows) {
  strategy <- labelled(rows$strategy, STRATEGY_LABELS)
  cells <- tapply(rows$value, list(paste(rows$problem, rows$method), strategy), mean)
  cells <- cells[, colSums(!is.na(cells)) > 0, drop = FALSE]
  colMeans(cells[stats::complete.cases(cells), , drop = FALSE])
}

strategy_words <- function(rows) {
  means <- mean_values(rows)
  if (length(means) == 0 || anyNA(means)) return(NULL)
  sprintf(
    "Mean over problems and methods: %s.",
    listed(sprintf("%s %s", lower(names(means)), short_number(means)))
  )
}

answer_alt <- function(rows, value) {
  known <- rows[[value]][!is.na(rows[[value]])]
  sprintf(
    "Points with intervals for each problem and method, from %s to %s.",
    small_number(min(known)), small_number(max(known))
  )
}
