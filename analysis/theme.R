# How figures look and how they are written to disk: the one place of their sizes. What things are
# called in them, and their colours, are LABELS: labels.yaml, which is loaded before this file.

suppressPackageStartupMessages(library(ggplot2))

# A kind's labels by name, in their order; `short`: the short ones, where there are any.
labels_of <- function(kind) vapply(LABELS[[kind]], `[[`, "", "label")
shorts_of <- function(kind) {
  vapply(LABELS[[kind]], function(entry) c(entry[["short"]], entry[["label"]])[1], "")
}

# A kind's colours by label, of those that have one.
colours_of <- function(kind) {
  names <- vapply(LABELS[[kind]], function(entry) c(entry[["colour"]], NA_character_)[1], "")
  colours <- stats::setNames(unlist(LABELS$colours)[names], labels_of(kind))
  colours[!is.na(names)]
}

PROBLEMS <- labels_of("problems")
METHODS <- labels_of("methods")
SCORES <- labels_of("scores")
MODULES <- shorts_of("modules")
NO_MODULE <- "none" # in the place of a module, of a localizer that looks at none
LOCALIZERS <- shorts_of("localizers")
EFFECTS <- labels_of("effects")
PREDICTORS <- labels_of("predictors")
STRATEGY_LABELS <- labels_of("strategies")
SUCCESS_LABELS <- labels_of("successes")

OKABE_ITO <- unlist(LABELS$colours, use.names = FALSE)
METHOD_COLOURS <- colours_of("methods")
PREDICTOR_COLOURS <- stats::setNames(colours_of("predictors"), names(PREDICTORS))
STRATEGY_COLOURS <- colours_of("strategies")
SHAPES <- c(16, 17, 15, 18, 6, 4, 8, 1, 0) # no "+": it vanishes in an interval

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
  unknown <- setdiff(levels(methods), names(METHOD_COLOURS))
  left <- setdiff(OKABE_ITO, METHOD_COLOURS)
  if (length(unknown) > length(left)) left <- c(left, scales::viridis_pal()(length(unknown)))
  c(METHOD_COLOURS, stats::setNames(left[seq_along(unknown)], unknown))[levels(methods)]
}

shapes_for <- function(values) rep(SHAPES, length.out = nlevels(values))

theme_locedit <- function() {
  theme_bw(base_size = 11) +
    theme(
      plot.title = element_text(face = "bold", size = rel(1.12)),
      plot.title.position = "plot",
      plot.subtitle = element_text(colour = "grey25", size = rel(0.9), lineheight = 1.1),
      plot.caption = element_text(colour = "grey25", size = rel(0.82), hjust = 0, lineheight = 1.1),
      plot.caption.position = "plot",
      plot.margin = margin(8, 12, 8, 8),
      panel.grid.minor = element_blank(),
      panel.spacing = unit(11, "pt"),
      panel.spacing.x = unit(16, "pt"), # between an axis's last number and the next one's first
      strip.background = element_blank(), strip.clip = "off", # a title may end beyond its panel
      strip.text = element_text(face = "bold", hjust = 0, vjust = 0, size = rel(0.9)),
      strip.text.y = element_text(hjust = 0.5, size = rel(0.8)),
      legend.position = "bottom",
      legend.title = element_text(size = rel(0.9)),
      legend.box.margin = margin(-4, 0, -4, 0)
    )
}

# ---- words ---------------------------------------------------------------------------------------

WIDTH <- 7.5 # inches: a page's text

# Title, subtitle (its parts) and note, wrapped to the figure's width (characters an inch of each
# font). Kept with the plot: its `size` (inches), which grows with the lines of text, and what a
# page says beside it. `words`: what the figure `shows`, what to `see` (sentences), and `alt` (one
# for a screen reader).
with_titles <- function(plot, title, subtitle, note, size, words) {
  words <- caption_words(title, subtitle, note, words)
  title <- wrapped(title, size[1] * 9.5)
  subtitle <- joined(subtitle, size[1] * 12.5)
  note <- if (length(note) > 0) wrapped(note, size[1] * 14)
  plot <- plot + labs(title = title, subtitle = subtitle, caption = note) + theme_locedit()
  lines <- sum(lengths(strsplit(c(title, subtitle, note), "\n", fixed = TRUE)) - 1L)
  attr(plot, "size") <- size + c(0, 0.17 * lines)
  attr(plot, "words") <- words
  plot
}

caption_words <- function(title, subtitle, note, words) {
  setting <- paste0(capital(paste(subtitle, collapse = "; ")), ".")
  sentences <- gsub("\\s+", " ", c(words$shows, setting, note, words$see))
  data.frame(title = title, caption = paste(sentences, collapse = " "), alt = words$alt)
}

capital <- function(text) paste0(toupper(substr(text, 1, 1)), substring(text, 2))

# Only the first letter: "FT-1" and "R\u00b2" keep theirs.
lower <- function(text) paste0(tolower(substr(text, 1, 1)), substring(text, 2))

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
empty_figure <- function(title, study, reason) {
  reason <- paste0("Nothing to show: ", reason)
  text <- data.frame(x = 0, y = 0, label = wrapped(reason, 60))
  plot <- ggplot(text, aes(.data$x, .data$y, label = .data$label)) +
    geom_text(size = 4.2, colour = "grey25") +
    labs(x = NULL, y = NULL)
  sentence <- paste0(reason, ".")
  words <- list(shows = sentence, alt = sentence)
  plot <- with_titles(plot, title, study, NULL, c(WIDTH, 2.2), words)
  plot + theme(
    axis.text = element_blank(), axis.ticks = element_blank(), panel.grid = element_blank()
  )
}

count_of <- function(n, noun) sprintf("%d %s%s", n, noun, if (n == 1) "" else "s")

# "a, b and c"
listed <- function(words) {
  words <- as.character(words)
  if (length(words) < 2) return(words)
  paste(toString(words[-length(words)]), "and", words[length(words)])
}

# ".031"
short_number <- function(x, digits = 3) {
  text <- formatC(round(x, digits) + 0, format = "f", digits = digits) # + 0: no "-.00"
  sub("^(-?)0\\.", "\\1.", text)
}

# What is not zero is not called so: "<.001".
small_number <- function(x) {
  tiny <- x != 0 & abs(x) < 5e-4
  ifelse(tiny, ifelse(x > 0, "<.001", ">-.001"), short_number(x))
}

facts_words <- function(n_facts) {
  counts <- sort(unique(as.integer(n_facts[n_facts > 0]))) # what was not edited has a reason
  if (length(counts) == 0) return("no facts")
  if (length(counts) == 1) return(count_of(counts, "fact"))
  sprintf("%d to %d facts", counts[1], counts[length(counts)])
}

window_words <- function(window) {
  sprintf("windows of %s layer%s", window, ifelse(window %in% 1, "", "s"))
}

# "tracing, MLP, windows of 5 layers"; of a localizer that looks at no module, its name alone.
place_words <- function(localizer, module, window) {
  name <- short_name(localizer)
  if (module %in% NO_MODULE) return(name)
  sprintf("%s, %s, %s", name, module_words(module), window_words(window))
}

# "tracing": a localizer inside a sentence.
short_name <- function(localizer) label_of(localizer, LOCALIZERS)

# "tracing effect": the numbers of a localizer, whichever of its measures; without one, an effect.
effect_of <- function(localizer) {
  if (is.na(localizer)) "effect" else paste(short_name(localizer), "effect")
}

# A text that leaves the localizer's place open, filled in: labels.py does the same for pages.
of_localizer <- function(text, localizer) {
  gsub("<localizer>", short_name(localizer), text, fixed = TRUE)
}

# "tracing (5)" beside others: of several layers taken together, their number.
brief_place <- function(localizer, window) {
  name <- short_name(localizer)
  ifelse(window %in% c(1, NA), name, sprintf("%s (%s)", name, window))
}

# What the number is, where there is one.
brief_note <- function(window) {
  if (any(window > 1, na.rm = TRUE)) "In brackets: how many layers are taken together."
}

# "MLP" and "attention": a module's name inside a sentence.
module_words <- function(module) {
  ifelse(module %in% "mlp", "MLP", tolower(label_of(module, MODULES)))
}

# ---- axes and panels -----------------------------------------------------------------------------

# Layers are zero-based in the data and one-based on every axis. At 0 then stands the embedding.
scale_x_layer <- function(layers, ...) {
  shown <- sort(unique(layers)) + 1
  scale_x_continuous(
    breaks = layer_breaks(shown), labels = layer_label,
    guide = guide_axis(check.overlap = TRUE), ...
  )
}

layer_label <- function(shown) ifelse(shown %in% 0, "embedding", shown)

# Of few layers all, of many neighbours round numbers, of others some; none so near to the one
# before that their numbers would read as one.
layer_breaks <- function(shown) {
  if (length(shown) < 2) return(shown)
  many <- length(shown) > 8
  neighbours <- all(diff(shown) == 1)
  breaks <- if (many && neighbours) whole_breaks(range(shown)) else shown
  apart <- diff(range(shown)) / (if (many && !neighbours) 7 else 10)
  Reduce(function(kept, one) if (one - tail(kept, 1) < apart) kept else c(kept, one), breaks)
}

# The first layer, and round numbers up to the last.
whole_breaks <- function(range) {
  breaks <- pretty(range, 6)
  breaks <- breaks[breaks == round(breaks) & breaks > range[1] + 1 & breaks <= range[2]]
  c(range[1], breaks)
}

# "0", "0.005", "0.01": no digit more than it takes.
plain_numbers <- function(x) {
  ifelse(is.na(x), NA, format(x, drop0trailing = TRUE, trim = TRUE, scientific = FALSE))
}

COLUMNS <- 3L # of panels in a row

# A panel for each problem, three in a row; the legend stands in the cell that they leave free.
problem_panels <- function(n, scales = "fixed") {
  facet_wrap(~problem, ncol = COLUMNS, drop = FALSE, scales = scales)
}

legend_below <- function(n) n < COLUMNS || n %% COLUMNS == 0 # no cell is free for it

legend_in_gap <- function(n) {
  rows <- ceiling(n / COLUMNS)
  if (legend_below(n)) return(theme())
  theme(
    legend.position = c(1 - 0.5 / COLUMNS, 0.5 / rows), legend.direction = "vertical",
    legend.background = element_blank()
  )
}

problem_size <- function(n, row = 2) {
  rows <- ceiling(n / COLUMNS)
  c(WIDTH, 1.3 + (if (rows > 1 && n %% COLUMNS > 0) 0 else 0.35) + row * rows)
}

# ---- files ---------------------------------------------------------------------------------------

# Writes the figure as SVG and PNG. It is laid out once, which takes as long as drawing it: text has
# the same size on both devices. A device is closed even when drawing fails.
save_figure <- function(plot, svg, png, dpi = 200) {
  size <- attr(plot, "size")
  grobs <- draw_on(
    svglite::svglite(svg, width = size[1], height = size[2], bg = "white"),
    ggplot2::ggplotGrob(plot)
  )
  draw_on(open_png(png, size, dpi), grobs)
}

# `device`: the call that opens it; `grobs`: what is drawn there, and returned. Both are evaluated
# here.
draw_on <- function(device, grobs) {
  force(device)
  on.exit(grDevices::dev.off())
  grid::grid.newpage()
  grid::grid.draw(grobs)
  invisible(grobs)
}

open_png <- function(path, size, dpi) {
  if (requireNamespace("ragg", quietly = TRUE)) {
    ragg::agg_png(path, size[1], size[2], units = "in", res = dpi, background = "white")
  } else {
    grDevices::png(path, size[1], size[2], units = "in", res = dpi, type = "cairo", bg = "white")
  }
}
