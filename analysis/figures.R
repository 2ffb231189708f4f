# The figures: each function takes data frames and the model's name and returns a plot; `render`
# draws one by name and writes it. A figure always comes out: a panel, or the whole of it, that has
# nothing to show says why in words. Layers arrive zero-based and are shown one-based.

FIGURES <- c(
  "r2_by_problem", "tracing_effect_by_layer", "tracing_peaks", "score_by_layer",
  "rewrite_vs_effect", "heatmap", "sweep"
)

# All but `figure`, `svg` and `png` goes to the figure's function. Returns no value.
render <- function(..., figure, svg, png) {
  require_choice(figure, FIGURES, "figure")
  plot <- get(figure, mode = "function")(...)
  save_figure(plot, svg, png)
}

# ---- R2 by problem -------------------------------------------------------------------------------

# r2: the table of `r2_table`.
r2_by_problem <- function(r2, model_label, score = "rewrite", module = NULL, window = NULL,
                          tracing = "fraction_max") {
  columns <- c(
    "module", "window", "tracing", "problem", "method", "score", "n_facts", "r2_layer",
    "r2_tracing", "r2_both", "diff", "reason"
  )
  require_columns(r2, columns, "r2")
  title <- sprintf(
    "%s: variance explained by edit layer and by tracing effect", label_of(score, SCORES)
  )
  trace <- pick_trace(r2, module, window)
  rows <- pick(pick(trace$rows, "score", score)$rows, "tracing", tracing)$rows
  if (nrow(rows) == 0) {
    reason <- c(trace$missing, sprintf("no row with score %s and tracing %s", score, tracing))[1]
    return(empty_figure(title, model_label, reason))
  }
  rows$problem <- labelled(rows$problem, PROBLEMS)
  rows$method <- labelled(rows$method, METHODS)
  bars <- r2_long(rows)
  height <- if (all(is.na(bars$r2))) 1 else max(bars$r2, na.rm = TRUE)
  methods <- levels(rows$method)
  longest <- max(nchar(methods))
  plot <- ggplot(mapping = aes(.data$method)) +
    r2_bars(bars) + r2_absent(bars) + r2_differences(rows) +
    r2_notes(rows, bars, height) +
    facet_wrap(~problem, ncol = 3, scales = "free_x") +
    scale_x_discrete(
      limits = methods, guide = guide_axis(angle = if (longest > 7) 40)
    ) +
    scale_y_continuous(
      breaks = scales::breaks_pretty(5), limits = c(0, height), expand = expansion(c(0, 0.16))
    ) +
    scale_fill_manual(values = unname(OKABE_ITO[c(1, 5, 3)]), drop = FALSE) +
    labs(x = NULL, y = "R\u00b2", fill = NULL)
  with_titles(plot, title, c(model_label, facts_words(rows$n_facts), trace$words), c(
    "Above the bars: R\u00b2 of both minus R\u00b2 of the edit layer alone.", r2_reasons(rows)
  ), size = c(
    max(8.5, 1 + 1.8 * length(methods)),
    1.6 + (2.2 + if (longest > 7) 0.05 * longest else 0) * ceiling(nlevels(rows$problem) / 3)
  ))
}

facts_words <- function(n_facts) {
  counts <- sort(unique(n_facts))
  if (length(counts) == 1) return(count_of(counts, "fact"))
  sprintf("%d to %d facts", counts[1], counts[length(counts)])
}

BAR_WIDTH <- 0.8

r2_long <- function(rows) {
  long <- do.call(rbind, lapply(names(PREDICTORS), function(predictor) {
    data.frame(rows[c("problem", "method")],
      predictor = PREDICTORS[[predictor]], r2 = rows[[paste0("r2_", predictor)]]
    )
  }))
  long$predictor <- factor(long$predictor, levels = PREDICTORS)
  long
}

r2_bars <- function(bars) {
  geom_col(aes(y = .data$r2, fill = .data$predictor),
    data = bars, width = BAR_WIDTH, position = position_dodge(BAR_WIDTH), na.rm = TRUE
  )
}

r2_absent <- function(bars) {
  bars$text <- ifelse(is.na(bars$r2), "n/a", "") # a text for every bar: they keep their places
  geom_text(aes(y = 0, label = .data$text, group = .data$predictor),
    data = bars, angle = 90, hjust = -0.2, size = 2.8, colour = "grey40",
    position = position_dodge(BAR_WIDTH)
  )
}

r2_differences <- function(rows) {
  known <- rows[!is.na(rows$diff), , drop = FALSE]
  known$top <- pmax(known$r2_layer, known$r2_both, known$r2_tracing, na.rm = TRUE)
  known$text <- ifelse(known$diff < 5e-4, "<.001", paste0("+", short_number(known$diff)))
  geom_text(aes(y = .data$top, label = .data$text),
    data = known, vjust = -0.5, size = 3, colour = "grey25"
  )
}

# A problem without a single number says why in its panel.
r2_notes <- function(rows, bars, height) {
  empty <- Filter(
    function(group) all(is.na(bars$r2[bars$problem %in% group$keys$problem])),
    split_by(rows, "problem")
  )
  words <- vapply(empty, function(group) paste(unique(group$rows$reason), collapse = "; "), "")
  notes <- data.frame(
    problem = factor(vapply(empty, function(group) as.character(group$keys$problem), ""),
      levels = levels(rows$problem)
    ),
    text = words
  )
  panel_notes(notes, c(1, nlevels(rows$method)), c(0, height))
}

# Why numbers are missing, each reason once with the cells it holds for.
r2_reasons <- function(rows) {
  rows <- rows[!rows$reason %in% c("", NA), , drop = FALSE]
  vapply(unique(rows$reason), function(reason) {
    cells <- rows[rows$reason == reason, , drop = FALSE]
    places <- vapply(split(cells, cells$problem, drop = TRUE), function(cell) {
      if (nrow(cell) == nlevels(rows$method)) return(as.character(cell$problem[1]))
      sprintf("%s (%s)", cell$problem[1], toString(sort(cell$method)))
    }, "")
    sprintf("n/a, %s: %s.", reason, paste(places, collapse = "; "))
  }, "", USE.NAMES = FALSE)
}

# ---- scores by edit layer ------------------------------------------------------------------------

score_by_layer <- function(scores, model_label, score = "rewrite", problems = NULL,
                           correct_only = TRUE) {
  check_scores(scores, score)
  title <- sprintf("%s by edit layer", label_of(score, SCORES))
  scores <- facts_under_study(scores, correct_only)
  scores$value <- usable_score(scores, score)
  levels <- union(problems, unique(scores$problem))
  means <- if (nrow(scores) > 0) mean_by(scores, c("problem", "method", "layer"), "value")
  if (is.null(means) || nrow(means) == 0) {
    reason <- sprintf(
      "no usable %s among %s", tolower(label_of(score, SCORES)), count_of(nrow(scores), "edit")
    )
    return(empty_figure(title, model_label, reason))
  }
  panels <- labelled(levels, PROBLEMS)
  means$problem <- factor(label_of(means$problem, PROBLEMS), levels = levels(panels))
  means$method <- labelled(means$method, METHODS)
  means$x <- means$layer + 1 + side_by_side(means$layer, means$method)
  plot <- ggplot(means, aes(.data$x, .data$mean, colour = .data$method)) +
    geom_line(data = several(means, c("problem", "method")), linewidth = 0.6) +
    geom_linerange(aes(ymin = .data$low, ymax = .data$high), linewidth = 0.6, na.rm = TRUE) +
    geom_point(aes(shape = .data$method), size = 2) +
    panel_notes(
      score_notes(panels, means, scores), means$layer + 1, c(means$mean, means$low, means$high)
    ) +
    facet_wrap(~problem, ncol = 3, drop = FALSE) +
    scale_x_layer(means$layer, expand = expansion(0.07)) +
    scale_colour_manual(values = method_colours(means$method)) +
    scale_shape_manual(values = shapes_for(means$method)) +
    labs(x = "Edit layer", y = label_of(score, SCORES), colour = NULL, shape = NULL)
  with_titles(plot, title, c(model_label, facts_words(facts_by_problem(scores))),
    interval_words(means),
    size = c(8.5, 1.6 + 2.2 * ceiling(nlevels(panels) / 3))
  )
}

# A small shift for each method, the same in all panels, so that intervals do not hide each other.
side_by_side <- function(layer, method) {
  gap <- min(c(diff(sort(unique(layer))), 4))
  places <- seq_len(nlevels(method)) - (nlevels(method) + 1) / 2
  0.09 * gap * places[as.integer(method)]
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

# ---- score against tracing effect ----------------------------------------------------------------

MOST_LAYERS <- 6L # panels in a row that can still be read

rewrite_vs_effect <- function(scores, effects, model_label, problem = "error_injection",
                              methods = NULL, score = "rewrite", effect = "fraction_max",
                              module = NULL, window = NULL, layers = NULL, correct_only = TRUE) {
  check_scores(scores, score)
  check_effects(effects, effect)
  title <- sprintf(
    "%s against tracing effect: %s", label_of(score, SCORES), tolower(label_of(problem, PROBLEMS))
  )
  trace <- pick_trace(effects, module, window)
  points <- scatter_points(scores, trace$rows, problem, methods, score, effect, correct_only)
  if (nrow(points) == 0) {
    reason <- c(trace$missing, sprintf("no edit for %s with both numbers", problem))[1]
    return(empty_figure(title, model_label, reason))
  }
  shown <- if (is.null(layers)) spread_of(points$layer, MOST_LAYERS) else layers
  if (!any(points$layer %in% shown)) {
    reason <- sprintf("no edit at layers %s (zero-based)", toString(shown))
    return(empty_figure(title, model_label, reason))
  }
  all_layers <- length(unique(points$layer))
  points <- points[points$layer %in% shown, , drop = FALSE]
  points$method <- labelled(points$method, METHODS)
  points$panel <- factor(sprintf("Edit layer %d", points$layer + 1L),
    levels = sprintf("Edit layer %d", sort(unique(points$layer)) + 1L)
  )
  lines <- within_layer_lines(points)
  plot <- ggplot(points, aes(.data$tracing, .data$score)) +
    geom_point(aes(colour = .data$method), alpha = 0.55, size = 1.7, show.legend = FALSE) +
    geom_segment(aes(.data$x0, .data$y0, xend = .data$x1, yend = .data$y1),
      data = lines[!is.na(lines$x0), , drop = FALSE], linewidth = 0.7
    ) +
    geom_text(aes(Inf, Inf, label = .data$text),
      data = lines, hjust = 1.08, vjust = 1.7, size = 3.1
    ) +
    facet_grid(method ~ panel, scales = "free_x") +
    scale_colour_manual(values = method_colours(points$method)) +
    scale_x_continuous(breaks = scales::breaks_pretty(2), expand = expansion(0.08)) +
    scale_y_continuous(breaks = breaks_within(points$score), expand = expansion(c(0.05, 0.22))) +
    labs(x = sub("\n", " ", axis_words(effect)), y = label_of(score, SCORES))
  with_titles(plot, title,
    c(model_label, count_of(length(unique(points$case_id)), "fact"), trace$words),
    c(
      "One point a fact; r: Pearson's correlation within the layer.",
      if (all_layers > length(shown)) {
        sprintf("%d of %d edit layers shown.", length(shown), all_layers)
      }
    ),
    size = c(
      max(7.5, 1 + 1.5 * nlevels(points$panel)), 1.9 + 1.6 * nlevels(points$method)
    )
  )
}

scatter_points <- function(scores, effects, problem, methods, score, effect, correct_only) {
  scores <- facts_under_study(scores, correct_only)
  scores <- scores[scores$problem %in% problem, , drop = FALSE]
  if (!is.null(methods)) scores <- scores[scores$method %in% methods, , drop = FALSE]
  points <- data.frame(
    case_id = as.character(scores$case_id), method = as.character(scores$method),
    layer = as.integer(scores$layer), score = usable_score(scores, score),
    tracing = effect_at_layer(scores, effects, effect)
  )
  points[stats::complete.cases(points), , drop = FALSE]
}

# At most `most` of the layers, evenly spread, the first and the last among them.
spread_of <- function(layers, most) {
  layers <- sort(unique(layers))
  layers[unique(round(seq(1, length(layers), length.out = min(most, length(layers)))))]
}

# Round numbers up to the data's largest, not into the room kept free above it.
breaks_within <- function(values) {
  breaks <- pretty(values, 4)
  breaks[breaks <= max(values) + 0.05 * diff(range(values)) + 1e-9]
}

within_layer_lines <- function(points) {
  rows <- lapply(split_by(points, c("method", "panel")), function(group) {
    cbind(group$keys, line_and_words(group$rows$tracing, group$rows$score), row.names = NULL)
  })
  do.call(rbind, rows)
}

line_and_words <- function(x, y) {
  none <- data.frame(x0 = NA_real_, y0 = NA_real_, x1 = NA_real_, y1 = NA_real_)
  n <- length(x)
  if (n < MIN_ROWS) return(cbind(none, text = sprintf("n = %d: too few", n)))
  if (no_variance(x) || no_variance(y)) return(cbind(none, text = sprintf("n = %d: constant", n)))
  slope <- stats::cov(x, y) / stats::var(x)
  ends <- range(x)
  heights <- mean(y) + slope * (ends - mean(x))
  data.frame(
    x0 = ends[1], y0 = heights[1], x1 = ends[2], y1 = heights[2],
    text = sprintf("r = %s, n = %d", short_number(stats::cor(x, y), 2), n)
  )
}

# ---- hyperparameter sweep ------------------------------------------------------------------------

# `sweep`: the table of settings. The argument is called as the table is.
sweep <- function(sweep, model_label) {
  columns <- c(
    "method", "problem", "setting", "rewrite", "neighbourhood", "objective", "admissible", "chosen",
    "n_facts", "layer"
  )
  require_columns(sweep, columns, "sweep")
  title <- "Settings tried for each method"
  finite <- is.finite(as.numeric(sweep$rewrite)) & is.finite(as.numeric(sweep$neighbourhood))
  rows <- sweep[finite, , drop = FALSE]
  if (nrow(rows) == 0) return(empty_figure(title, model_label, "no setting with finite scores"))
  rows$panel <- sweep_panels(rows)
  kinds <- c("admissible", "rewrite score above the limit")
  rows$kind <- factor(ifelse(rows$admissible %in% TRUE, kinds[1], kinds[2]), levels = kinds)
  chosen <- rows[rows$chosen %in% TRUE, , drop = FALSE]
  plot <- ggplot(rows, aes(.data$rewrite, .data$neighbourhood)) +
    geom_abline(aes(slope = -1, intercept = 2 * .data$objective),
      data = chosen, linetype = "dotted", colour = "grey50"
    ) +
    geom_point(aes(shape = .data$kind), size = 2.4, colour = OKABE_ITO[1], alpha = 0.75) +
    geom_point(data = chosen, shape = 21, size = 4.6, stroke = 1.1, colour = OKABE_ITO[2]) +
    setting_label(chosen, rows) +
    facet_wrap(~panel, ncol = min(2L, length(unique(rows$problem)))) +
    scale_shape_manual(values = c(16, 1), drop = FALSE) +
    scale_x_continuous(expand = expansion(0.08)) +
    scale_y_continuous(expand = expansion(0.15)) +
    labs(x = SCORES[["rewrite"]], y = SCORES[["neighbourhood"]], shape = NULL)
  unsettled <- setdiff(levels(rows$panel), chosen$panel)
  with_titles(plot, title, c(model_label, facts_words(rows$n_facts), sweep_layers(rows)), c(
    if (nrow(chosen) > 0) {
      "Circled: the setting chosen; on its dotted line the mean of both scores is the same."
    },
    if (length(unsettled) > 0) sprintf("No setting chosen: %s.", toString(unsettled))
  ), size = c(7.5, 1.8 + 1.9 * ceiling(nlevels(rows$panel) / 2)))
}

# The chosen setting's name, one parameter a line, on the side of its dotted line with more room.
setting_label <- function(chosen, rows) {
  right <- chosen$rewrite > mean(range(rows$rewrite))
  chosen$text <- gsub(",", "\n", chosen$setting, fixed = TRUE)
  step <- 0.05 * max(diff(range(rows$neighbourhood)), 0.01)
  chosen$y <- chosen$neighbourhood + ifelse(right, -step, step)
  geom_text(aes(y = .data$y, label = .data$text),
    data = chosen, colour = "#A84300", size = 3.2, lineheight = 0.95,
    hjust = ifelse(right, 1.1, -0.1), vjust = ifelse(right, 1, 0)
  )
}

sweep_panels <- function(rows) {
  method <- labelled(rows$method, METHODS)
  problem <- labelled(rows$problem, PROBLEMS)
  panel <- sprintf("%s: %s", method, tolower(as.character(problem)))
  factor(panel, levels = unique(panel[order(method, problem)]))
}

sweep_layers <- function(rows) {
  sprintf("edit layer %s", toString(sort(unique(as.integer(rows$layer))) + 1L))
}
