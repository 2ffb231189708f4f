# The figures of score against a localizer's effect, one point for each fact: by edit layer for one
# problem, and for all problems at one layer; and their correlations by layer. See figures.R.

MOST_LAYERS <- 5L # panels in a row that can still be read

# One problem: a row for each method, a column for each edit layer.
rewrite_vs_effect <- function(scores, effects, study, problem = "error_injection", methods = NULL,
                              score = "rewrite", effect = "value", localizer = NULL,
                              module = NULL, window = NULL, layers = NULL, correct_only = TRUE) {
  name <- label_of(problem, PROBLEMS)
  found <- scatter_points(
    scores, effects, problem, methods, score, effect, localizer, module, window, correct_only
  )
  named <- effect_of(found$localizer)
  title <- sprintf("%s against %s: %s", label_of(score, SCORES), named, lower(name))
  points <- found$points
  shown <- if (is.null(layers)) spread_of(points$layer, MOST_LAYERS) else layers
  if (!any(points$layer %in% shown)) {
    reason <- c(found$missing, sprintf("no edit at layer %s", listed(shown + 1)))[1]
    return(empty_figure(title, study, reason))
  }
  all_layers <- length(unique(points$layer))
  points <- points[points$layer %in% shown, , drop = FALSE]
  points$row <- points$method
  points$column <- layer_panels(points$layer)
  effect_scatter(
    points, title, c(study, facts_words(length(unique(points$case_id))), found$words), score,
    found$localizer, effect, c(
      sprintf("The axes of %s differ.", named),
      if (all_layers > length(shown)) {
        sprintf("%d of %d edit layers shown.", length(shown), all_layers)
      }
    )
  )
}

# All problems at one edit layer (`layer`, zero-based; otherwise, of those that most problems were
# edited at, the one nearest the middle of the traced layers): a row for each problem, a column for
# each method.
rewrite_vs_effect_at_layer <- function(scores, effects, study, problems = NULL, layer = NULL,
                                       score = "rewrite", effect = "value", localizer = NULL,
                                       module = NULL, window = NULL, correct_only = TRUE) {
  found <- scatter_points(
    scores, effects, problems, NULL, score, effect, localizer, module, window, correct_only
  )
  named <- effect_of(found$localizer)
  title <- sprintf("%s against %s at one layer", label_of(score, SCORES), named)
  if (is.null(layer)) layer <- nearest_middle(found$points, effects$layer)
  points <- found$points[found$points$layer %in% layer, , drop = FALSE]
  if (nrow(points) == 0) {
    reason <- c(found$missing, sprintf("no edit at layer %d with both numbers", layer + 1L))[1]
    return(empty_figure(title, study, reason))
  }
  points$row <- labelled(points$problem, PROBLEMS)
  points$column <- points$method
  at <- sprintf("edit layer %d", layer + 1L)
  absent <- setdiff(problems, points$problem)
  effect_scatter(
    points, title, c(study, facts_words(length(unique(points$case_id))), at, found$words), score,
    found$localizer, effect, if (length(absent) > 0) {
      sprintf("Nothing to show for %s.", listed(lower(label_of(absent, PROBLEMS))))
    }
  )
}

nearest_middle <- function(points, traced) {
  if (nrow(points) == 0) return(NA_integer_)
  problems <- tapply(points$problem, points$layer, function(names) length(unique(names)))
  layers <- as.integer(names(problems))[problems == max(problems, 0)]
  layers[which.min(abs(layers - mean(range(traced))))][1]
}

scatter_points <- function(scores, effects, problems, methods, score, effect, localizer, module,
                           window, correct_only) {
  check_scores(scores, score)
  check_effects(effects, effect)
  trace <- pick_trace(effects, localizer, module, window)
  scores <- facts_under_study(listed_edits(scores), correct_only)
  if (!is.null(problems)) scores <- scores[scores$problem %in% problems, , drop = FALSE]
  if (!is.null(methods)) scores <- scores[scores$method %in% methods, , drop = FALSE]
  points <- data.frame(
    case_id = as.character(scores$case_id), problem = as.character(scores$problem),
    method = as.character(scores$method), layer = as.integer(scores$layer),
    score = usable_score(scores, score), tracing = effect_at_layer(scores, trace$rows, effect)
  )
  points <- points[stats::complete.cases(points), , drop = FALSE]
  points$method <- labelled(points$method, METHODS)
  missing <- if (nrow(points) == 0) {
    c(trace$missing, sprintf(
      "no edit%s with both numbers",
      if (length(problems) == 1) paste(" for", lower(label_of(problems, PROBLEMS))) else ""
    ))[1]
  }
  list(points = points, localizer = trace$localizer, words = trace$words, missing = missing)
}

# points: score, tracing, method and the panel's `row` and `column`, factors.
effect_scatter <- function(points, title, subtitle, score, localizer, effect, note) {
  lines <- panel_lines(points)
  name <- label_of(score, SCORES)
  named <- effect_of(localizer)
  note <- paste(c("One point a fact; r: Pearson's correlation in the panel.", note), collapse = " ")
  words <- list(
    shows = sprintf(
      paste(
        "Each fact's %s after an edit against its %s at the edited layer, with the",
        "least-squares line of each panel."
      ), lower(name), named
    ),
    see = c(
      correlation_words(lines),
      "A line rises also where facts that are easy everywhere have large effects everywhere."
    ),
    alt = sprintf(
      "Scatter plots of %s against %s in %s.", lower(name), named, count_of(nrow(lines), "panel")
    )
  )
  axis <- sub("\n", " ", axis_words(localizer, effect))
  plot <- scatter_plot(points, lines) + labs(x = axis, y = name)
  with_titles(plot, title, subtitle, note, c(WIDTH, 1.5 + 1.35 * nlevels(points$row)), words)
}

scatter_plot <- function(points, lines) {
  ggplot(points, aes(.data$tracing, .data$score)) +
    geom_point(aes(colour = .data$method),
      alpha = if (nrow(points) > 2000) 0.25 else 0.55, size = 1.4, show.legend = FALSE
    ) +
    geom_segment(aes(.data$x0, .data$y0, xend = .data$x1, yend = .data$y1),
      data = lines[!is.na(lines$x0), , drop = FALSE], linewidth = 0.7
    ) +
    geom_text(aes(Inf, Inf, label = .data$text),
      data = lines, hjust = 1.06, vjust = 1.6, size = 2.7
    ) +
    facet_grid(row ~ column, scales = "free_x", labeller = label_wrap_gen(14)) +
    scale_colour_manual(values = method_colours(points$method)) +
    scale_x_continuous(
      breaks = scales::breaks_pretty(2), labels = plain_numbers, expand = expansion(0.08)
    ) +
    scale_y_continuous(breaks = breaks_within(points$score), expand = expansion(c(0.05, 0.28)))
}

correlation_words <- function(lines) {
  r <- lines$r[!is.na(lines$r)]
  if (length(r) == 0) return("No panel has enough facts that differ for a correlation.")
  sprintf(
    "r is positive in %d of %s and lies between %s and %s.", sum(r > 0),
    count_of(length(r), "panel"), short_number(min(r), 2), short_number(max(r), 2)
  )
}

layer_panels <- function(layers) {
  factor(sprintf("Layer %d", layers + 1L), levels = sprintf("Layer %d", sort(unique(layers)) + 1L))
}

# At most `most` of the layers, evenly spread, the first and the last among them.
spread_of <- function(layers, most) {
  layers <- sort(unique(layers))
  layers[unique(round(seq(1, length(layers), length.out = min(most, length(layers)))))]
}

# Round numbers up to the data's largest, not into the room kept free above it.
breaks_within <- function(values) {
  breaks <- pretty(values, 3)
  breaks[breaks <= max(values) + 0.05 * diff(range(values)) + 1e-9]
}

panel_lines <- function(points) {
  rows <- lapply(split_by(points, c("row", "column")), function(group) {
    cbind(group$keys, line_and_words(group$rows$tracing, group$rows$score), row.names = NULL)
  })
  do.call(rbind, rows)
}

line_and_words <- function(x, y) {
  none <- data.frame(x0 = NA_real_, y0 = NA_real_, x1 = NA_real_, y1 = NA_real_, r = NA_real_)
  n <- length(x)
  if (n < MIN_ROWS) return(cbind(none, text = sprintf("n = %d: too few", n)))
  if (no_variance(x) || no_variance(y)) return(cbind(none, text = sprintf("n = %d: constant", n)))
  slope <- stats::cov(x, y) / stats::var(x)
  ends <- range(x)
  heights <- mean(y) + slope * (ends - mean(x))
  r <- stats::cor(x, y)
  data.frame(
    x0 = ends[1], y0 = heights[1], x1 = ends[2], y1 = heights[2], r = r,
    text = sprintf("r = %s, n = %d", short_number(r, 2), n)
  )
}

# ---- correlations --------------------------------------------------------------------------------

# correlations: the table of `correlation_table`, a row for each edit layer.
correlations_by_layer <- function(correlations, study, score = "rewrite", localizer = NULL,
                                  module = NULL, window = NULL, effect = "value") {
  columns <- c("layer", "n", "pearson_low", "pearson_high")
  chosen <- pick_setting(
    correlations, "correlations", "pearson", columns, score, localizer, module, window, effect
  )
  title <- sprintf(
    "Correlation of %s and %s, by layer", lower(label_of(score, SCORES)),
    effect_of(chosen$localizer)
  )
  if (!is.null(chosen$missing)) return(empty_figure(title, study, chosen$missing))
  rows <- chosen$rows
  known <- rows[!is.na(rows$pearson), , drop = FALSE]
  panels <- nlevels(rows$problem)
  plot <- with_titles(
    correlation_plot(rows, known), title, c(study, facts_words(known$n), chosen$words),
    c(
      "Pearson's correlation over facts with its 95 % interval.",
      reason_notes(rows, "n/a at some layers")
    ),
    problem_size(panels), sign_words(known, score, chosen$localizer)
  )
  plot + legend_in_gap(panels)
}

correlation_plot <- function(rows, known) {
  lines <- data.frame(known[c("problem", "method", "layer")],
    mean = known$pearson, low = known$pearson_low, high = known$pearson_high
  )
  ggplot() +
    geom_hline(yintercept = 0, colour = "grey40", linewidth = 0.3) +
    method_lines(lines, "problem") +
    panel_notes(absent_panels(rows, !is.na(rows$pearson)), lines$layer + 1, lines$mean) +
    problem_panels(nlevels(rows$problem)) +
    labs(x = "Edit layer", y = "Pearson's correlation", colour = NULL, shape = NULL)
}

sign_words <- function(known, score, localizer) {
  ends <- short_number(range(known$pearson), 2)
  list(
    shows = sprintf(
      paste(
        "Correlation of each fact's %s with its %s at the edited layer (counted from",
        "one), by editing problem and method."
      ), lower(label_of(score, SCORES)), effect_of(localizer)
    ),
    see = sprintf(
      paste(
        "The whole interval lies above zero for %d of %s and below it for %d; of a hundred",
        "correlations that are zero, five are expected to do so by chance. Above zero, the facts",
        "%s at a layer are those that edit well there."
      ),
      sum(known$pearson_low > 0, na.rm = TRUE), count_of(nrow(known), "correlation"),
      sum(known$pearson_high < 0, na.rm = TRUE), strong_words(localizer)
    ),
    alt = sprintf("Lines of Pearson's correlation by edit layer, from %s to %s.", ends[1], ends[2])
  )
}

# "that trace strongly": of facts.
strong_words <- function(localizer) {
  if (localizer %in% "tracing") return("that trace strongly")
  sprintf("whose %s is large", effect_of(localizer))
}
