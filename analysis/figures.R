# What all figures share: the call that draws one by name, the rows and means they show, and the
# notes in their panels. Each figure is a function (figures_*.R) that takes data frames and `study`,
# the words for model and data set, and returns a plot with its size and words. A figure always
# comes out: a panel, or the whole of it, that has nothing to show says why. Layers arrive
# zero-based and are shown one-based.

# All but `figure`, `svg` and `png` goes to the figure's function. Returns its words: one row with
# title, caption and alt.
render <- function(..., figure, svg, png) {
  draw <- get0(figure, environment(render), mode = "function", inherits = FALSE) # none of R's own
  if (is.null(draw)) stop(sprintf("figure: there is no function '%s'", figure), call. = FALSE)
  plot <- draw(...)
  save_figure(plot, svg, png)
  attr(plot, "words")
}

# ---- rows ----------------------------------------------------------------------------------------

# The rows at one value of a column: the wanted one, otherwise `preferred`, otherwise the first.
# `missing` says why nothing is left.
pick <- function(frame, column, wanted = NULL, preferred = NULL) {
  present <- sort(unique(stats::na.omit(frame[[column]])), method = "radix")
  if (is.null(wanted)) wanted <- c(intersect(preferred, present), present)[1]
  rows <- frame[frame[[column]] %in% wanted, , drop = FALSE]
  missing <- if (nrow(frame) == 0) {
    "the table is empty"
  } else if (nrow(rows) == 0) {
    there <- if (length(present) > 0) toString(present) else "none"
    sprintf("no row with %s %s (there are: %s)", column, toString(wanted), there)
  }
  list(rows = rows, value = wanted, missing = missing)
}

# One module and one window of a localizer in a table, with the words for the subtitle.
pick_trace <- function(frame, localizer, module, window) {
  by_localizer <- pick(frame, "localizer", localizer, "tracing")
  by_module <- pick(by_localizer$rows, "module", module, "mlp")
  by_window <- pick(by_module$rows, "window", window, 5)
  list(
    rows = by_window$rows, localizer = by_localizer$value,
    missing = c(by_localizer$missing, by_module$missing, by_window$missing)[1],
    words = place_words(by_localizer$value, by_module$value, by_window$value)
  )
}

SETTING <- c(
  "localizer", "module", "window", "effect", "problem", "method", "score", "reason"
)

# One score, localizer, module, window and measure of a statistics' table; problems and methods
# become factors of their labels. `missing` says why not one of the `values` (columns) is known.
pick_setting <- function(table, name, values, columns, score, localizer, module, window, effect) {
  columns <- c(values, columns)
  require_columns(table, c(SETTING, columns), name)
  if ("subset" %in% names(table)) table <- pick(table, "subset", "all")$rows
  trace <- pick_trace(table, localizer, module, window)
  by_effect <- pick(trace$rows, "effect", effect)
  by_score <- pick(by_effect$rows, "score", score)
  rows <- by_score$rows
  rows$problem <- labelled(rows$problem, PROBLEMS)
  rows$method <- labelled(rows$method, METHODS)
  rows$reason[is.na(rows$reason)] <- ""
  words <- c(trace$words, if (effect != "value") effect_words(trace$localizer, effect))
  missing <- c(trace$missing, by_effect$missing, by_score$missing)
  if (all(is.na(rows[values]))) {
    reasons <- setdiff(unique(rows$reason), "")
    missing <- c(missing, if (length(reasons) > 0) paste(reasons, collapse = "; "), "no number")
  }
  list(rows = rows, localizer = trace$localizer, words = words, missing = missing[1])
}

# A measure's name among the labels: a localizer's own value has the localizer's.
effect_key <- function(localizer, effect) ifelse(effect %in% "value", localizer, effect)

# "probability restored at the best token": what tells one measure from another.
effect_words <- function(localizer, effect) {
  label_of(effect_key(localizer, effect), shorts_of("effects"))
}

# "Tracing effect (fraction restored at the best token)", the parenthesis on a line of its own.
axis_words <- function(localizer, effect) {
  sub(" (", "\n(", label_of(effect_key(localizer, effect), EFFECTS), fixed = TRUE)
}

# "Tracing effect"
effect_title <- function(localizer, effect) {
  capital(sub("\n.*", "", axis_words(localizer, effect)))
}

# ---- means and places ----------------------------------------------------------------------------

interval_words <- function(means) {
  if (all(is.na(means$low))) return("A single fact: no interval.")
  "Mean over facts with its 95 % interval."
}

mean_by <- function(frame, columns, value, interval = mean_interval) {
  groups <- split_by(frame, columns)
  rows <- lapply(groups, function(group) {
    cbind(group$keys, interval(group$rows[[value]]), row.names = NULL)
  })
  means <- do.call(rbind, rows)
  means[means$n > 0, , drop = FALSE]
}

# The rows of groups that have several: a line needs two points.
several <- function(frame, columns) {
  groups <- Filter(function(group) nrow(group$rows) > 1, split_by(frame, columns))
  if (length(groups) == 0) return(frame[0, , drop = FALSE])
  do.call(rbind, lapply(groups, `[[`, "rows"))
}

# "fact forcing with ROME (.031)": where a column is largest (`which.max`) or smallest.
place_of <- function(rows, column, which = which.max) {
  row <- rows[which(rows[[column]]), , drop = FALSE]
  sprintf(
    "%s with %s (%s)", lower(as.character(row$problem)), row$method, small_number(row[[column]])
  )
}

# ---- notes ---------------------------------------------------------------------------------------

# Words in the middle of panels: `notes` has the facet's columns and `text`.
panel_notes <- function(notes, x, y, width = 24) {
  middle <- function(v) if (all(is.na(v))) 0 else mean(range(v, na.rm = TRUE))
  notes$x <- rep(middle(x), nrow(notes))
  notes$y <- rep(middle(y), nrow(notes))
  notes$text <- vapply(notes$text, wrapped, "", width = width)
  geom_text(aes(.data$x, .data$y, label = .data$text),
    data = notes, inherit.aes = FALSE, size = 3, colour = "grey35", lineheight = 1
  )
}

# A panel (problem) without a single number says why.
absent_panels <- function(rows, known) {
  empty <- Filter(function(group) !any(known[rows$problem %in% group$keys$problem]),
    split_by(rows, "problem")
  )
  problems <- vapply(empty, function(group) as.character(group$keys$problem), "")
  reasons <- vapply(empty, function(group) {
    paste(setdiff(unique(group$rows$reason), ""), collapse = "; ")
  }, "")
  data.frame(problem = factor(problems, levels = levels(rows$problem)), text = reasons)
}

MOST_REASONS <- 4L

# Why numbers are missing, each reason once with the cells it holds for.
reason_notes <- function(rows, absent = "n/a") {
  rows <- rows[!rows$reason %in% c("", NA), , drop = FALSE]
  reasons <- unique(rows$reason)
  notes <- vapply(utils::head(reasons, MOST_REASONS), function(reason) {
    cells <- rows[rows$reason == reason, , drop = FALSE]
    places <- vapply(split(cells, cells$problem, drop = TRUE), function(cell) {
      methods <- sort(unique(cell$method))
      if (length(methods) == nlevels(rows$method)) return(as.character(cell$problem[1]))
      sprintf("%s (%s)", cell$problem[1], toString(methods))
    }, "")
    sprintf("%s, %s: %s.", absent, reason, paste(places, collapse = "; "))
  }, "", USE.NAMES = FALSE)
  more <- length(reasons) - length(notes)
  c(notes, if (more > 0) sprintf("%s more in the table.", count_of(more, "reason")))
}

# ---- lines by layer ------------------------------------------------------------------------------

# A line for each method with points and intervals, side by side. `rows`: layer, method (or what
# else has a line each, and `colours` of its own), mean, low, high and the columns of the panels.
method_lines <- function(rows, panels, colours = method_colours(rows$method)) {
  rows$x <- rows$layer + 1 + side_by_side(rows$layer, rows$method)
  draw <- aes(.data$x, .data$mean, colour = .data$method)
  list(
    geom_line(draw, data = several(rows, c(panels, "method")), linewidth = 0.55),
    geom_linerange(aes(.data$x, ymin = .data$low, ymax = .data$high, colour = .data$method),
      data = rows[!is.na(rows$low), , drop = FALSE], linewidth = 0.55
    ),
    geom_point(aes(.data$x, .data$mean, colour = .data$method, shape = .data$method),
      data = rows, size = 1.8
    ),
    scale_x_layer(rows$layer, expand = expansion(0.07)),
    scale_colour_manual(values = colours),
    scale_shape_manual(values = shapes_for(rows$method))
  )
}

# Of what is neither a method nor has a colour of its own.
level_colours <- function(values) {
  stats::setNames(rep(OKABE_ITO, length.out = nlevels(values)), levels(values))
}

# A small shift for each method, the same in all panels, so that intervals do not hide each other:
# a fiftieth of a long axis, if all stay nearer to their layer than to the next.
side_by_side <- function(layer, method) {
  gap <- min(c(diff(sort(unique(layer))), 4))
  places <- seq_len(nlevels(method)) - (nlevels(method) + 1) / 2
  step <- min(max(0.09 * gap, diff(range(layer)) / 50), 0.8 * gap / nlevels(method))
  step * places[as.integer(method)]
}
