# The figures of a localizer: its effect by layer, the layers where it peaks, and how reliable it
# is. See figures.R.

LOCATED <- c("case_id", "localizer", "module", "window", "layer")

tracing_effect_by_layer <- function(effects, study, effect = "value", localizer = NULL,
                                    module = NULL) {
  require_columns(effects, c(LOCATED, effect), "effects")
  effects <- effects[is.finite(as.numeric(effects[[effect]])), , drop = FALSE]
  by_localizer <- pick(effects, "localizer", localizer, "tracing")
  effects <- by_localizer$rows
  title <- paste(effect_title(by_localizer$value, effect), "by layer")
  if (!is.null(module)) effects <- pick(effects, "module", module)$rows
  if (nrow(effects) == 0) {
    return(empty_figure(title, study, sprintf("no finite %s in the table", effect)))
  }
  means <- mean_by(effects, c("module", "window", "layer"), effect)
  means$module <- labelled(means$module, MODULES)
  means$window <- factor(means$window, levels = sort(unique(means$window)))
  with_titles(
    effect_plot(means, axis_words(by_localizer$value, effect)), title,
    c(study, facts_words(length(unique(effects$case_id)))),
    interval_words(means), c(WIDTH, 4.6), effect_of_layer_words(means, by_localizer$value)
  )
}

effect_plot <- function(means, axis) {
  words <- "Layers in the window"
  ggplot(means, aes(.data$layer + 1, .data$mean, group = .data$window)) +
    geom_ribbon(aes(ymin = .data$low, ymax = .data$high, fill = .data$window),
      data = means[!is.na(means$low), , drop = FALSE], alpha = 0.18
    ) +
    geom_line(aes(colour = .data$window),
      data = several(means, c("module", "window")), linewidth = 0.8
    ) +
    geom_point(aes(colour = .data$window, shape = .data$window), size = 1.6) +
    facet_wrap(~module) +
    scale_x_layer(means$layer) +
    scale_colour_viridis_d(end = 0.85, aesthetics = c("colour", "fill")) +
    scale_shape_manual(values = shapes_for(means$window)) +
    labs(
      x = "Layer (centre of the window)", y = axis, colour = words,
      fill = words, shape = words
    )
}

effect_of_layer_words <- function(means, localizer) {
  shows <- if (localizer %in% "tracing") {
    paste(
      "How much of the true object's probability returns when clean activations are restored at",
      "one token, in a window of layers centred at each layer"
    )
  } else {
    sprintf("What %s says of a window of layers centred at each layer", located_by(localizer))
  }
  list(
    shows = paste0(shows, "; a line for each width of the window."),
    see = c(peak_of_means(means), "See whether the peak moves with the width of the window."),
    alt = sprintf(
      "Lines of the mean effect by layer, %s, the highest mean %s.",
      listed(unique(window_words(means$window))), short_number(max(means$mean), 2)
    )
  )
}

# "representation zeroing": a localizer inside a sentence.
located_by <- function(localizer) lower(label_of(localizer, labels_of("localizers")))

peak_of_means <- function(means) {
  peaks <- vapply(split_by(means, c("module", "window")), function(group) {
    row <- group$rows[which.max(group$rows$mean), ]
    sprintf(
      "layer %d with %s (%s, %s)", row$layer + 1L, window_words(row$window), row$module,
      short_number(row$mean, 2)
    )
  }, "")
  sprintf("The mean is largest at %s.", listed(peaks))
}

# ---- peaks ---------------------------------------------------------------------------------------

# `usual`: the layers (zero-based) that methods are usually edited at, by method.
tracing_peaks <- function(effects, study, effect = "value", localizer = NULL, module = NULL,
                          usual = list()) {
  require_columns(effects, c(LOCATED, effect), "effects")
  by_localizer <- pick(effects, "localizer", localizer, "tracing")
  named <- effect_title(by_localizer$value, effect)
  title <- sprintf("Layer with the largest %s, by fact", lower(named))
  chosen <- pick(by_localizer$rows, "module", module, "mlp")
  peaks <- peak_layers(chosen$rows, effect)
  if (nrow(peaks) == 0) {
    reason <- c(by_localizer$missing, chosen$missing, "no fact has an effect above zero")[1]
    return(empty_figure(title, study, reason))
  }
  bars <- peak_counts(peaks)
  usual <- usual_layers(usual, max(bars$count))
  without <- length(unique(chosen$rows$case_id)) - length(unique(peaks$case_id))
  with_titles(
    peaks_plot(bars, usual, chosen$rows$layer), title,
    c(
      study, facts_words(length(unique(peaks$case_id))), module_words(chosen$value),
      effect_words(by_localizer$value, effect)
    ),
    c(
      if (nrow(usual) > 0) "Marks above: the layers usually edited.",
      if (without > 0) paste(count_of(without, "fact"), "without an effect above zero left out.")
    ),
    c(WIDTH, 1.5 + 1.8 * ceiling(nlevels(bars$panel) / 2)), peaks_words(bars, peaks, usual)
  )
}

peaks_plot <- function(bars, usual, layers) {
  range <- range(layers, usual$layer) + 1
  colours <- method_colours(usual$method)
  ggplot(bars, aes(.data$layer + 1, .data$count)) +
    geom_col(width = 0.85, fill = "grey45") +
    usual_marks(usual, range) +
    facet_wrap(~panel, ncol = 2) +
    scale_x_layer(layers) +
    coord_cartesian(xlim = range + c(-0.6, 0.6), expand = FALSE, clip = "off") +
    scale_y_continuous(
      breaks = whole_counts(max(bars$count)),
      limits = c(0, max(1.08 * bars$count, usual$y + usual$height))
    ) +
    scale_fill_manual(values = colours, drop = FALSE, guide = "none") +
    scale_colour_manual(values = colours, drop = FALSE, guide = "none") +
    labs(x = "Layer (centre of the window)", y = "Facts")
}

peaks_words <- function(bars, peaks, usual) {
  most <- bars[which.max(bars$count), ]
  list(
    shows = paste(
      "Where the localizer places each fact: the layer with the largest effect, the lowest where",
      "several share it, counted over facts; a panel for each width of the window."
    ),
    see = c(usual_words(peaks, usual), paste(
      "A wide histogram means that facts differ in where they are found, which the regressions",
      "need."
    )),
    alt = sprintf(
      "Histograms of the layer where the effect peaks; the highest bar is %s at layer %d with %s.",
      facts_words(most$count), most$layer + 1L, most$panel
    )
  )
}

# Each fact's peak in each window; the lowest layer where several share it, none if nothing is > 0.
peak_layers <- function(effects, effect) {
  value <- as.numeric(effects[[effect]])
  positive <- effects[is.finite(value) & value > 0, , drop = FALSE]
  positive <- positive[order(-positive[[effect]], positive$layer), , drop = FALSE]
  positive[!duplicated(positive[c("case_id", "window")]), c("case_id", "window", "layer")]
}

peak_counts <- function(peaks) {
  bars <- do.call(rbind, lapply(split_by(peaks, c("window", "layer")), function(group) {
    cbind(group$keys, count = nrow(group$rows))
  }))
  windows <- sort(unique(bars$window))
  bars$panel <- factor(window_words(bars$window), levels = window_words(windows))
  bars
}

whole_counts <- function(most) {
  breaks <- pretty(c(0, most), 4)
  breaks[breaks == round(breaks) & breaks <= most]
}

# A row for each method and layer, at a height of its own above the highest bar.
usual_layers <- function(usual, highest) {
  usual <- usual[lengths(usual) > 0]
  rows <- data.frame(
    method = rep(as.character(names(usual)), lengths(usual)),
    layer = as.integer(unlist(usual)), stringsAsFactors = FALSE
  )
  rows$y <- highest * (1.02 + 0.14 * match(rows$method, names(usual)))
  rows$height <- rep(0.07 * highest, nrow(rows))
  rows$method <- labelled(rows$method, METHODS)
  rows
}

usual_marks <- function(usual, range) {
  names <- usual[!duplicated(usual$method), , drop = FALSE]
  ends <- vapply(names$method, function(m) max(usual$layer[usual$method == m]), 0L)
  starts <- vapply(names$method, function(m) min(usual$layer[usual$method == m]), 0L)
  right <- ends + 1 < mean(range) # the side with more room
  names$x <- ifelse(right, ends + 1.8, starts + 0.2)
  names$side <- as.numeric(!right)
  list(
    geom_tile(
      aes(.data$layer + 1, .data$y,
        fill = .data$method, colour = .data$method, height = .data$height
      ),
      data = usual, width = 1, linewidth = 0.2
    ),
    geom_text(
      aes(.data$x, .data$y, label = .data$method, colour = .data$method, hjust = .data$side),
      data = names, size = 2.8, fontface = "bold"
    )
  )
}

usual_words <- function(peaks, usual) {
  vapply(split_by(usual, "method"), function(group) {
    layers <- group$rows$layer
    inside <- vapply(split_by(peaks[order(peaks$window), ], "window"), function(window) {
      n <- sum(window$rows$layer %in% layers)
      sprintf("%d of %d with %s", n, nrow(window$rows), window_words(window$keys$window))
    }, "")
    sprintf(
      "Facts that peak at %s's usual layers (%s): %s.", group$keys$method,
      toString(sort(layers) + 1L), listed(inside)
    )
  }, "")
}

# ---- reliability ---------------------------------------------------------------------------------

RELIABILITIES <- c(
  spearman_brown = "all facts and layers", spearman_brown_within = "facts within a layer",
  spearman_brown_edited = "edited layers within a fact"
)

# reliability: split-half correlations of a localizer's effect over random draws, and the
# reliability of the whole by Spearman and Brown's formula, for each module, window and measure.
reliability <- function(reliability, study, localizer = NULL) {
  columns <- c(
    "localizer", "module", "window", "effect", names(RELIABILITIES), "n_facts", "reason"
  )
  require_columns(reliability, columns, "reliability")
  by_localizer <- pick(reliability, "localizer", localizer, "tracing")
  reliability <- by_localizer$rows
  title <- sprintf(
    "Reliability of the %s over %s", effect_of(by_localizer$value),
    if (of_noise(by_localizer$value)) "noise" else "draws"
  )
  rows <- reliability_long(reliability)
  known <- rows[!is.na(rows$value), , drop = FALSE]
  if (nrow(known) == 0) {
    reason <- c(by_localizer$missing, setdiff(reliability$reason, c("", NA)))[1]
    return(empty_figure(title, study, reason))
  }
  plot <- with_titles(
    reliability_plot(known), title, c(study, facts_words(reliability$n_facts)),
    reliability_notes(reliability), c(WIDTH, 1.8 + 1.7 * nlevels(known$module)),
    reliability_words(known, by_localizer$value)
  )
  plot + theme(strip.text.x = element_text(size = rel(0.72)))
}

reliability_plot <- function(known) {
  ggplot(known, aes(.data$window, .data$value, colour = .data$kind, shape = .data$kind)) +
    geom_hline(yintercept = 1, colour = "grey40", linewidth = 0.3) +
    geom_point(size = 2.4, position = position_dodge(0.4)) +
    facet_grid(module ~ effect) +
    scale_y_continuous(breaks = scales::breaks_pretty(4)) +
    scale_colour_manual(values = unname(OKABE_ITO[1:3]), drop = FALSE) +
    scale_shape_manual(values = SHAPES[1:3], drop = FALSE) +
    labs(x = "Layers in the window", y = "Reliability", colour = NULL, shape = NULL)
}

# Whether what a localizer draws at random is noise; of others it may be anything.
of_noise <- function(localizer) localizer %in% c("tracing", "placebo", NA)

reliability_words <- function(known, localizer) {
  ends <- short_number(range(known$value), 2)
  named <- effect_of(localizer)
  drawn <- if (of_noise(localizer)) c("noise rows", "rows") else c("random draws", "draws")
  list(
    shows = sprintf(
      paste(
        "Split-half reliability of the %s: the effect from one half of the %s is",
        "correlated with that from the other half, and raised to all %s by the Spearman-Brown",
        "formula."
      ), named, drawn[1], drawn[2]
    ),
    see = c(lowest_reliability(known), sprintf(
      paste(
        "No regression on the %s can explain more than its reliability: near 1, a small",
        "R\u00b2 is not the noise's fault."
      ), named
    )),
    alt = sprintf("Dots of the reliability of the %s, from %s to %s.", named, ends[1], ends[2])
  )
}

reliability_long <- function(table) {
  long <- do.call(rbind, lapply(names(RELIABILITIES), function(name) {
    data.frame(table[c("localizer", "module", "window", "effect")],
      value = as.numeric(table[[name]]), kind = rep(RELIABILITIES[[name]], nrow(table))
    )
  }))
  long$value[!is.finite(long$value)] <- NA
  long$module <- labelled(long$module, MODULES)
  long$window <- factor(long$window, levels = sort(unique(long$window)))
  keys <- effect_key(long$localizer, long$effect)
  measures <- c(intersect(names(EFFECTS), keys), setdiff(keys, names(EFFECTS)))
  panel <- function(key) capital(sub(" at ", "\nat ", label_of(key, shorts_of("effects"))))
  long$effect <- factor(panel(keys), levels = panel(measures))
  long$kind <- factor(long$kind, levels = RELIABILITIES)
  long
}

reliability_notes <- function(table) {
  rows <- table[!table$reason %in% c("", NA), , drop = FALSE]
  vapply(unique(rows$reason), function(reason) {
    cells <- rows[rows$reason == reason, , drop = FALSE]
    sprintf(
      "n/a, %s: %s.", reason,
      toString(unique(sprintf("%s, %s", module_words(cells$module), window_words(cells$window))))
    )
  }, "", USE.NAMES = FALSE)
}

lowest_reliability <- function(known) {
  row <- known[which.min(known$value), ]
  sprintf(
    "Lowest: %s (%s, %s, %s, %s).", short_number(row$value, 2), row$module,
    window_words(row$window), lower(sub("\n", " ", row$effect)), row$kind
  )
}
