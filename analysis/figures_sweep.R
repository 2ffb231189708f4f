# The figure of the hyperparameter sweep. See figures.R.

# `sweep`: the table of settings. The argument is called as the table is.
sweep <- function(sweep, study) {
  columns <- c(
    "aim_low", "aim_high", "method", "problem", "setting", "rewrite", "neighbourhood", "objective",
    "admissible", "chosen", "n_facts", "layer"
  )
  require_columns(sweep, columns, "sweep")
  title <- "Settings tried for each method"
  finite <- is.finite(as.numeric(sweep$rewrite)) & is.finite(as.numeric(sweep$neighbourhood))
  rows <- sweep[finite, , drop = FALSE]
  if (nrow(rows) == 0) return(empty_figure(title, study, "no setting with finite scores"))
  rows$panel <- sweep_panels(rows)
  kinds <- c("rewrite score within the aim", "outside it")
  rows$kind <- factor(ifelse(rows$admissible %in% TRUE, kinds[1], kinds[2]), levels = kinds)
  chosen <- rows[rows$chosen %in% TRUE, , drop = FALSE]
  unsettled <- setdiff(levels(rows$panel), chosen$panel)
  beyond <- as.character(chosen$panel[!chosen$admissible %in% TRUE])
  with_titles(
    sweep_plot(rows, chosen), title,
    c(study, facts_words(rows$n_facts), sweep_layers(rows), sweep_aim(rows)), c(
      if (nrow(chosen) > 0) {
        "Circled: the setting chosen; on its dotted line the mean of both scores is the same."
      },
      if (length(beyond) > 0) {
        sprintf("No setting lies within the aim, and the nearest is chosen: %s.", toString(beyond))
      },
      if (length(unsettled) > 0) sprintf("No setting chosen: %s.", toString(unsettled))
    ), c(WIDTH, 1.8 + 1.9 * ceiling(nlevels(rows$panel) / 2)), sweep_words(rows)
  )
}

sweep_plot <- function(rows, chosen) {
  low <- rows$aim_low[1]
  high <- rows$aim_high[1]
  ggplot(rows, aes(.data$rewrite, .data$neighbourhood)) +
    annotate("rect", # an end that no setting lies beyond is the panel's
      xmin = if (low <= min(rows$rewrite)) -Inf else low,
      xmax = if (high >= max(rows$rewrite)) Inf else high,
      ymin = -Inf, ymax = Inf, fill = "grey92"
    ) +
    geom_abline(aes(slope = -1, intercept = 2 * .data$objective),
      data = chosen, linetype = "dotted", colour = "grey50"
    ) +
    geom_point(aes(shape = .data$kind), size = 2.4, colour = OKABE_ITO[1], alpha = 0.75) +
    geom_point(data = chosen, shape = 21, size = 4.6, stroke = 1.1, colour = OKABE_ITO[2]) +
    setting_label(chosen, rows) +
    facet_wrap(~panel, ncol = min(2L, length(unique(rows$problem)))) +
    scale_shape_manual(values = c(16, 1), drop = FALSE) +
    scale_x_continuous(expand = expansion(0.08)) +
    # room for a label below the lowest point, or above the highest
    scale_y_continuous(expand = expansion(c(0.4, if (all(has_room(chosen, rows))) 0.15 else 0.4))) +
    labs(x = SCORES[["rewrite"]], y = SCORES[["neighbourhood"]], shape = NULL)
}

sweep_words <- function(rows) {
  list(
    shows = paste(
      "Hyperparameters tried for each editing method and problem: mean rewrite and neighbourhood",
      "score over the tuning facts, a point for each setting."
    ),
    see = paste(
      "The chosen setting is the one with the highest mean of both scores among those whose mean",
      "rewrite score lies within the shaded aim. A method",
      "whose points fall steeply pays for success with damage to the subject's neighbours."
    ),
    alt = sprintf(
      "Scatter of neighbourhood against rewrite score for %s.", count_of(nrow(rows), "setting")
    )
  )
}

# Whether the chosen setting lies so far to the right that its name has room on the left.
has_room <- function(chosen, rows) {
  chosen$rewrite > min(rows$rewrite) + diff(range(rows$rewrite)) / 3
}

# The chosen setting's name, one parameter a line: below its dotted line where there is room on the
# left, else above it.
setting_label <- function(chosen, rows) {
  right <- has_room(chosen, rows)
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

sweep_aim <- function(rows) {
  sprintf("aim: mean rewrite score %s to %s", rows$aim_low[1], rows$aim_high[1])
}

sweep_layers <- function(rows) {
  sprintf("edit layer %s", toString(sort(unique(as.integer(rows$layer))) + 1L))
}
