# What the figures share: how they look, what things are called in them, the rows and means they
# show, and how they are written to disk.

suppressPackageStartupMessages(library(ggplot2))

PROBLEMS <- c(
  error_injection = "Error injection", tracing_reversal = "Tracing reversal",
  fact_erasure = "Fact erasure", fact_amplification = "Fact amplification",
  fact_forcing = "Fact forcing"
)
METHODS <- c("FT-1" = "FT-1", "FT-5" = "FT-5", ROME = "ROME", MEMIT = "MEMIT")
SCORES <- c(
  rewrite = "Rewrite score", paraphrase = "Paraphrase score",
  neighbourhood = "Neighbourhood score", essence = "Essence score", overall = "Overall score",
  overall_essence = "Overall score with essence"
)
MODULES <- c(mlp = "MLP", attn = "Attention", hidden = "Hidden state")
EFFECTS <- c(
  fraction_max = "Tracing effect (fraction restored, best token)",
  fraction_last = "Tracing effect (fraction restored, last subject token)",
  effect_max = "Tracing effect (probability restored, best token)",
  effect_last = "Tracing effect (probability restored, last subject token)",
  zeroed = "Zeroing effect (share of the probability lost)"
)
PREDICTORS <- c(layer = "Edit layer", tracing = "Tracing effect", both = "Both")

OKABE_ITO <- c(
  "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000"
)

# The text for each name: from the table of known ones, otherwise the name itself.
label_of <- function(names, labels) {
  names <- as.character(names)
  ifelse(names %in% names(labels), labels[names], gsub("_", " ", names, fixed = TRUE))
}

# A factor of those texts: known names first, in the table's order, then the others by name.
labelled <- function(names, labels) {
  present <- sort(unique(as.character(names)), method = "radix")
  levels <- c(intersect(names(labels), present), setdiff(present, names(labels)))
  factor(label_of(names, labels), levels = unique(label_of(levels, labels)))
}

# One colour for each method whatever the others in the figure; unknown methods take what is left.
method_colours <- function(methods) {
  levels <- levels(methods)
  unknown <- setdiff(levels, METHODS)
  colours <- OKABE_ITO
  if (length(METHODS) + length(unknown) > length(colours)) {
    colours <- c(colours, scales::viridis_pal()(length(unknown)))
  }
  stats::setNames(colours, c(METHODS, unknown)[seq_along(colours)])[levels]
}

theme_locedit <- function() {
  theme_bw(base_size = 12) +
    theme(
      plot.title = element_text(face = "bold", size = rel(1.1)),
      plot.title.position = "plot",
      plot.subtitle = element_text(colour = "grey25", size = rel(0.88), lineheight = 1.1),
      plot.caption = element_text(colour = "grey25", size = rel(0.8), hjust = 0, lineheight = 1.1),
      plot.caption.position = "plot",
      plot.margin = margin(8, 12, 8, 8),
      panel.grid.minor = element_blank(),
      panel.spacing = unit(14, "pt"),
      panel.spacing.x = unit(24, "pt"), # between an axis's last number and the next one's first
      strip.background = element_blank(),
      strip.text = element_text(face = "bold", hjust = 0, size = rel(0.9)),
      legend.position = "bottom",
      legend.title = element_text(size = rel(0.9)),
      legend.box.margin = margin(-4, 0, -4, 0)
    )
}

# Title, subtitle and caption, wrapped to the figure's width (characters an inch of each font);
# `size` (inches) is kept with the plot and grows with the lines of text.
with_titles <- function(plot, title, subtitle, caption = NULL, size = c(7.5, 5)) {
  title <- wrapped(title, size[1] * 9)
  subtitle <- joined(subtitle, size[1] * 12)
  caption <- if (length(caption) > 0) wrapped(caption, size[1] * 14)
  plot <- plot + labs(title = title, subtitle = subtitle, caption = caption) + theme_locedit()
  lines <- sum(lengths(strsplit(c(title, subtitle, caption), "\n", fixed = TRUE)) - 1L)
  attr(plot, "size") <- size + c(0, 0.18 * lines)
  plot
}

wrapped <- function(text, width) {
  paste(vapply(text, function(line) paste(strwrap(line, width), collapse = "\n"), ""),
    collapse = "\n"
  )
}

# Parts in one line while they fit, the next part on a new line otherwise.
joined <- function(parts, width) {
  Reduce(function(text, part) {
    line <- sub(".*\n", "", text)
    paste(text, part, sep = if (nchar(line) + nchar(part) + 3 <= width) " \u00b7 " else "\n")
  }, vapply(parts, wrapped, "", width = width))
}

# A figure that cannot be drawn says why, in its place.
empty_figure <- function(title, model_label, reason) {
  text <- data.frame(x = 0, y = 0, label = wrapped(paste0("Nothing to show: ", reason), 60))
  plot <- ggplot(text, aes(.data$x, .data$y, label = .data$label)) +
    geom_text(size = 4.2, colour = "grey25") +
    labs(x = NULL, y = NULL)
  plot <- with_titles(plot, title, model_label)
  plot + theme(
    axis.text = element_blank(), axis.ticks = element_blank(), panel.grid = element_blank()
  )
}

count_of <- function(n, noun) sprintf("%d %s%s", n, noun, if (n == 1) "" else "s")

# Layers are zero-based in the data and one-based on every axis.
scale_x_layer <- function(layers, ...) {
  shown <- sort(unique(layers)) + 1
  breaks <- if (length(shown) <= 8) shown else whole_breaks(range(shown))
  scale_x_continuous(breaks = breaks, guide = guide_axis(check.overlap = TRUE), ...)
}

# The first layer, and round numbers up to the last.
whole_breaks <- function(range) {
  breaks <- pretty(range, 6)
  breaks <- breaks[breaks == round(breaks) & breaks > range[1] + 1 & breaks <= range[2]]
  c(range[1], breaks)
}

# ---- rows and means ------------------------------------------------------------------------------

# The rows at one value of a column: the wanted one, otherwise `preferred`, otherwise the first.
# `missing` says why nothing is left.
pick <- function(frame, column, wanted = NULL, preferred = NULL) {
  present <- sort(unique(stats::na.omit(frame[[column]])), method = "radix")
  if (is.null(wanted)) wanted <- c(intersect(preferred, present), present)[1]
  rows <- frame[frame[[column]] %in% wanted, , drop = FALSE]
  missing <- if (nrow(frame) == 0) {
    "the table is empty"
  } else if (nrow(rows) == 0) {
    sprintf("no row with %s %s (there are: %s)", column, toString(wanted), toString(present))
  }
  list(rows = rows, value = wanted, missing = missing)
}

# One module and one window of a tracing table, with the words for the subtitle.
pick_trace <- function(frame, module, window) {
  by_module <- pick(frame, "module", module, "mlp")
  by_window <- pick(by_module$rows, "window", window, 5)
  list(
    rows = by_window$rows, missing = c(by_module$missing, by_window$missing)[1],
    words = sprintf(
      "%s, %s", module_words(by_module$value), window_words(by_window$value)
    )
  )
}

window_words <- function(window) {
  sprintf("%s layer%s restored", window, ifelse(window %in% 1, "", "s"))
}

# "MLP" and "attention": a module's name inside a sentence.
module_words <- function(module) {
  ifelse(module %in% "mlp", "MLP", tolower(label_of(module, MODULES)))
}

# Mean with the 95 % interval of Student's t over facts; no interval for a single fact.
mean_interval <- function(values) {
  values <- values[is.finite(values)]
  n <- length(values)
  half <- if (n > 1) stats::qt(0.975, n - 1) * stats::sd(values) / sqrt(n) else NA_real_
  data.frame(n = n, mean = mean(values), low = mean(values) - half, high = mean(values) + half)
}

interval_words <- function(means) {
  if (all(is.na(means$low))) return("A single fact: no interval.")
  "Mean over facts with its 95 % interval."
}

mean_by <- function(frame, columns, value) {
  groups <- split_by(frame, columns)
  rows <- lapply(groups, function(group) {
    cbind(group$keys, mean_interval(group$rows[[value]]), row.names = NULL)
  })
  means <- do.call(rbind, rows)
  means[means$n > 0, , drop = FALSE]
}

# Words in the middle of panels: `notes` has the facet's columns and `text`.
panel_notes <- function(notes, x, y) {
  notes$x <- rep(mean(range(x, na.rm = TRUE)), nrow(notes))
  notes$y <- rep(mean(range(y, na.rm = TRUE)), nrow(notes))
  notes$text <- vapply(notes$text, wrapped, "", width = 24)
  geom_text(aes(.data$x, .data$y, label = .data$text),
    data = notes, inherit.aes = FALSE, size = 3.2, colour = "grey35", lineheight = 1
  )
}

short_number <- function(x, digits = 3) {
  text <- formatC(round(x, digits) + 0, format = "f", digits = digits) # + 0: no "-.00"
  sub("^(-?)0\\.", "\\1.", text)
}

# The rows of groups that have several: a line needs two points.
several <- function(frame, columns) {
  groups <- Filter(function(group) nrow(group$rows) > 1, split_by(frame, columns))
  if (length(groups) == 0) return(frame[0, , drop = FALSE])
  do.call(rbind, lapply(groups, `[[`, "rows"))
}

SHAPES <- c(16, 17, 15, 18, 3, 4, 8)
shapes_for <- function(values) rep(SHAPES, length.out = nlevels(values))

# ---- files ---------------------------------------------------------------------------------------

# Writes the figure as SVG and PNG. A device is closed even when drawing fails.
save_figure <- function(plot, svg, png, dpi = 200) {
  size <- attr(plot, "size")
  draw_on(svglite::svglite(svg, width = size[1], height = size[2], bg = "white"), plot)
  draw_on(open_png(png, size, dpi), plot)
}

# `device`: the call that opens it, evaluated here.
draw_on <- function(device, plot) {
  force(device)
  on.exit(grDevices::dev.off())
  print(plot)
  invisible(NULL)
}

open_png <- function(path, size, dpi) {
  if (requireNamespace("ragg", quietly = TRUE)) {
    ragg::agg_png(path, size[1], size[2], units = "in", res = dpi, background = "white")
  } else {
    grDevices::png(path, size[1], size[2], units = "in", res = dpi, type = "cairo", bg = "white")
  }
}
