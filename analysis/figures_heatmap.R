# The heat map of one fact: what each restored token and layer brings back. See figures.R.

# cells: one fact's traced cells, a panel for each module. `fact_label`: words that tell the reader
# which fact it is; the case id otherwise.
heatmap <- function(cells, study, case_id = NULL, window = NULL, fact_label = NULL) {
  columns <- c(
    "case_id", "module", "window", "token", "token_text", "is_subject", "layer", "p_clean",
    "p_corrupted", "p_restored", "status"
  )
  require_columns(cells, columns, "cells")
  title <- "Probability of the true object, one token restored at a time"
  fact <- pick(cells, "case_id", case_id)
  at <- pick(fact$rows, "window", window, 5)
  rows <- at$rows[is.finite(as.numeric(at$rows$p_restored)), , drop = FALSE]
  if (nrow(rows) == 0) {
    failed <- setdiff(stats::na.omit(at$rows$status), "ok")
    reason <- c(fact$missing, at$missing, failed, "no finite probability for this fact")[1]
    return(empty_figure(title, study, reason))
  }
  tokens <- token_labels(rows)
  rows$module <- labelled(rows$module, MODULES)
  if (is.null(fact_label)) fact_label <- paste("fact", drawable(fact$value))
  plot <- with_titles(heatmap_tiles(rows, tokens), title,
    c(
      study, fact_label, window_words(at$value),
      sprintf("clean %s", small_number(rows$p_clean[1])),
      sprintf("corrupted %s", small_number(rows$p_corrupted[1]))
    ),
    c("* subject tokens, whose embeddings are corrupted.", absent_modules(rows)),
    c(WIDTH, max(3.2, 1.75 + 0.2 * nrow(tokens))), heatmap_words(rows)
  )
  plot + theme(panel.grid = element_blank(), legend.position = "right")
}

heatmap_words <- function(rows) {
  list(
    shows = paste(
      "Causal tracing of one fact: the probability of the true object when the subject's",
      "embeddings are corrupted and clean activations are restored at one token (rows) in a window",
      "of layers (columns: its centre, counted from one); a panel for each kind of activation."
    ),
    see = c(best_cells(rows), paste(
      "A cell as dark as the clean value restores the fact entirely; look for the early site at",
      "the subject's last token and the late site at the prompt's last token."
    )),
    alt = sprintf(
      "Heat maps by token and layer for %s; the highest restored probability is %s.",
      listed(lower_module(levels(rows$module))), small_number(max(rows$p_restored))
    )
  )
}

heatmap_tiles <- function(rows, tokens) {
  ggplot(rows, aes(.data$layer + 1, factor(.data$token, levels = rev(tokens$token)))) +
    geom_tile(aes(fill = .data$p_restored)) +
    facet_wrap(~module, nrow = 1) +
    scale_y_discrete(labels = stats::setNames(tokens$text, tokens$token), expand = expansion(0)) +
    scale_x_layer(seq(min(rows$layer), max(rows$layer)), expand = expansion(0)) +
    scale_fill_viridis_c(
      option = "mako", direction = -1, limits = range(rows$p_restored, rows$p_corrupted[1]),
      breaks = scales::breaks_pretty(4), guide = guide_colourbar(barheight = unit(1.5, "in"))
    ) +
    labs(x = "Layer (centre of the restored window)", y = NULL, fill = "Restored\nprobability")
}

token_labels <- function(rows) {
  tokens <- unique(rows[order(rows$token), c("token", "token_text", "is_subject")])
  text <- gsub("\n", "\\n", tokens$token_text, fixed = TRUE)
  text <- trimws(drawable(text), whitespace = " ")
  text <- ifelse(nchar(text) > 14, paste0(substr(text, 1, 13), "\u2026"), text)
  star <- ifelse(tokens$is_subject %in% TRUE, "*", "")
  data.frame(token = tokens$token, text = paste0(text, star))
}

# What no SVG may hold (control characters, two of Unicode's), by Unicode's stand-in for it.
drawable <- function(text) gsub("[[:cntrl:]\ufffe\uffff]", "\ufffd", text)

absent_modules <- function(rows) {
  modules <- MODULES[names(MODULES) != NO_MODULE] # which no tracing looks at
  absent <- setdiff(modules, levels(rows$module))
  if (length(absent) > 0) sprintf("Not traced: %s.", toString(lower_module(absent)))
}

best_cells <- function(rows) {
  best <- vapply(split_by(rows[order(rows$module), , drop = FALSE], "module"), function(group) {
    cell <- group$rows[which.max(group$rows$p_restored), ]
    sprintf(
      "%s at layer %d of \u201c%s\u201d for %s", small_number(cell$p_restored), cell$layer + 1L,
      trimws(cell$token_text), lower_module(cell$module)
    )
  }, "")
  sprintf("Most comes back: %s.", listed(best))
}

lower_module <- function(label) ifelse(label == "MLP", "MLP", lower(as.character(label)))
