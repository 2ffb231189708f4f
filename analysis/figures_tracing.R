# The figures of causal tracing: its effect by layer, the layers where it peaks, and the heat map of
# one fact. See figures.R.

# ---- tracing -------------------------------------------------------------------------------------

tracing_effect_by_layer <- function(effects, model_label, effect = "fraction_max", module = NULL) {
  require_columns(effects, c("case_id", "module", "window", "layer", effect), "effects")
  title <- "Tracing effect by layer"
  effects <- effects[is.finite(as.numeric(effects[[effect]])), , drop = FALSE]
  if (!is.null(module)) effects <- pick(effects, "module", module)$rows
  if (nrow(effects) == 0) {
    return(empty_figure(title, model_label, sprintf("no finite %s in the table", effect)))
  }
  means <- mean_by(effects, c("module", "window", "layer"), effect)
  means$module <- labelled(means$module, MODULES)
  means$window <- factor(means$window, levels = sort(unique(means$window)))
  plot <- ggplot(means, aes(.data$layer + 1, .data$mean, group = .data$window)) +
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
    window_labels() +
    labs(x = "Layer (centre of the restored window)", y = axis_words(effect))
  size <- c(max(7.5, 1.5 + 3 * nlevels(means$module)), 5)
  with_titles(plot, title, c(model_label, count_of(length(unique(effects$case_id)), "fact")),
    interval_words(means),
    size = size
  )
}

axis_words <- function(effect) sub(" (", "\n(", label_of(effect, EFFECTS), fixed = TRUE)

window_labels <- function() {
  words <- "Layers restored"
  labs(colour = words, fill = words, shape = words)
}

tracing_peaks <- function(effects, model_label, effect = "fraction_max", module = NULL) {
  require_columns(effects, c("case_id", "module", "window", "layer", effect), "effects")
  title <- "Layer with the largest tracing effect, by fact"
  chosen <- pick(effects, "module", module, "mlp")
  peaks <- peak_layers(chosen$rows, effect)
  if (nrow(peaks) == 0) {
    reason <- c(chosen$missing, "no fact has a tracing effect above zero")[1]
    return(empty_figure(title, model_label, reason))
  }
  windows <- sort(unique(peaks$window))
  peaks$panel <- factor(window_words(peaks$window), levels = window_words(windows))
  bars <- as.data.frame(table(layer = peaks$layer, panel = peaks$panel), stringsAsFactors = FALSE)
  bars$panel <- factor(bars$panel, levels = levels(peaks$panel))
  bars$layer <- as.integer(bars$layer)
  range <- range(chosen$rows$layer) + 1
  plot <- ggplot(bars[bars$Freq > 0, ], aes(.data$layer + 1, .data$Freq)) +
    geom_col(width = 0.85, fill = OKABE_ITO[1]) +
    facet_wrap(~panel, ncol = 2) +
    scale_x_layer(chosen$rows$layer, limits = range + c(-0.6, 0.6), expand = expansion(0)) +
    scale_y_continuous(
      breaks = function(limits) unique(floor(pretty(limits, 5))),
      expand = expansion(c(0, 0.08))
    ) +
    labs(x = "Layer (centre of the restored window)", y = "Facts")
  without <- length(unique(chosen$rows$case_id)) - length(unique(peaks$case_id))
  with_titles(plot, title,
    c(
      model_label, count_of(length(unique(peaks$case_id)), "fact"), module_words(chosen$value),
      tolower(label_of(effect, EFFECTS))
    ),
    if (without > 0) paste(count_of(without, "fact"), "without an effect above zero left out."),
    size = c(7.5, 1.7 + 1.9 * ceiling(length(windows) / 2))
  )
}

# Each fact's peak in each window; the lowest layer where several share it, none if nothing is > 0.
peak_layers <- function(effects, effect) {
  value <- as.numeric(effects[[effect]])
  positive <- effects[is.finite(value) & value > 0, , drop = FALSE]
  positive <- positive[order(-positive[[effect]], positive$layer), , drop = FALSE]
  positive[!duplicated(positive[c("case_id", "window")]), c("case_id", "window", "layer")]
}

# ---- one fact's restoration ----------------------------------------------------------------------

# `fact_label`: words that tell the reader which fact it is; the case id otherwise.
heatmap <- function(cells, model_label, case_id = NULL, module = NULL, window = NULL,
                    fact_label = NULL) {
  columns <- c(
    "case_id", "module", "window", "token", "token_text", "is_subject", "layer", "p_clean",
    "p_corrupted", "p_restored"
  )
  require_columns(cells, columns, "cells")
  title <- "Probability of the true object, one token restored at a time"
  fact <- pick(cells, "case_id", case_id)
  trace <- pick_trace(fact$rows, module, window)
  rows <- trace$rows[is.finite(as.numeric(trace$rows$p_restored)), , drop = FALSE]
  if (nrow(rows) == 0) {
    reason <- c(fact$missing, trace$missing, "no finite probability for this fact")[1]
    return(empty_figure(title, model_label, reason))
  }
  tokens <- token_labels(rows)
  plot <- ggplot(rows, aes(.data$layer + 1, factor(.data$token, levels = rev(tokens$token)))) +
    geom_tile(aes(fill = .data$p_restored)) +
    scale_y_discrete(labels = stats::setNames(tokens$text, tokens$token), expand = expansion(0)) +
    scale_x_layer(seq(min(rows$layer), max(rows$layer)), expand = expansion(0)) +
    scale_fill_viridis_c(
      option = "mako", direction = -1, limits = range(rows$p_restored, rows$p_corrupted[1]),
      breaks = scales::breaks_pretty(4),
      guide = guide_colourbar(barheight = unit(1.6, "in"))
    ) +
    labs(
      x = "Layer (centre of the restored window)", y = NULL, fill = "Restored\nprobability"
    )
  if (is.null(fact_label)) fact_label <- paste("fact", fact$value)
  plot <- with_titles(plot, title, c(
    model_label, fact_label, trace$words, sprintf("clean %s", short_number(rows$p_clean[1])),
    sprintf("corrupted %s", short_number(rows$p_corrupted[1]))
  ), "* subject tokens, whose embeddings are corrupted.",
  size = c(7.5, max(3.2, 1.9 + 0.26 * nrow(tokens))))
  plot + theme(panel.grid = element_blank(), legend.position = "right")
}

token_labels <- function(rows) {
  tokens <- unique(rows[order(rows$token), c("token", "token_text", "is_subject")])
  text <- trimws(gsub("\n", "\\n", tokens$token_text, fixed = TRUE), whitespace = " ")
  text <- ifelse(nchar(text) > 18, paste0(substr(text, 1, 17), "\u2026"), text)
  star <- ifelse(tokens$is_subject %in% TRUE, "*", "")
  data.frame(token = tokens$token, text = paste0(text, star))
}
