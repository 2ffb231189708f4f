# The figures of explained variance: R2 of edit layer, a localizer's effect and both, in the sample
# and out of it. See figures.R.

R2S <- c("r2_layer", "r2_tracing", "r2_both")

# r2: the table of `r2_table`. `variant`: "window" or "effect", to be told in the title.
r2_by_problem <- function(r2, study, score = "rewrite", localizer = NULL, module = NULL,
                          window = NULL, effect = "value", variant = "") {
  chosen <- pick_setting(
    r2, "r2", R2S, c("n_facts", "diff"), score, localizer, module, window, effect
  )
  named <- effect_of(chosen$localizer)
  of <- switch(variant,
    window = window_words(window), effect = effect_words(localizer, effect)
  )
  title <- sprintf(
    "%s: variance explained%s", label_of(score, SCORES),
    if (is.null(of)) paste(" by edit layer and", named) else sprintf(" (%s)", of)
  )
  if (!is.null(chosen$missing)) return(empty_figure(title, study, chosen$missing))
  explained_variance(
    chosen, title, study, sprintf(
      paste(
        "R\u00b2 of three linear regressions of the %s, by editing problem and method: on the edit",
        "layer (a mean for each layer), on the %s at that layer, and on both with",
        "their interaction."
      ), lower(label_of(score, SCORES)), named
    ),
    "Above the bars: R\u00b2 of both minus R\u00b2 of the edit layer alone.",
    paste(
      "The paper's comparison. It mixes facts with layers: a fact that is easy everywhere and has",
      "large effects everywhere raises the third bar, and so do few facts, since it has the most",
      "coefficients."
    )
  )
}

# out_of_fold: as r2, with R2 of facts that were left out of the fit.
out_of_fold <- function(out_of_fold, study, score = "rewrite", localizer = NULL, module = NULL,
                        window = NULL, effect = "value") {
  title <- sprintf("%s of facts left out of the fit: variance explained", label_of(score, SCORES))
  columns <- c("n_facts", "diff")
  chosen <- pick_setting(
    out_of_fold, "out_of_fold", R2S, columns, score, localizer, module, window, effect
  )
  if (!is.null(chosen$missing)) return(empty_figure(title, study, chosen$missing))
  explained_variance(
    chosen, title, study, sprintf(
      paste(
        "Out-of-fold R\u00b2 of the %s: each fact is predicted by regressions fitted to all other",
        "facts, on the edit layer, on the %s, and on both."
      ), lower(label_of(score, SCORES)), effect_of(chosen$localizer)
    ),
    paste(
      "At the bars: R\u00b2 of both minus R\u00b2 of the edit layer alone.",
      "Below 0: worse than the mean."
    ),
    sprintf(
      paste(
        "Unlike R\u00b2 in the sample it does not grow with the number of coefficients: what %s",
        "adds here is what it tells about a fact that nobody has edited yet; the table says how",
        "much of it is about which facts, and how much about where."
      ), short_name(chosen$localizer)
    )
  )
}

explained_variance <- function(chosen, title, study, shows, note, advice) {
  rows <- chosen$rows
  bars <- r2_long(rows)
  panels <- nlevels(rows$problem)
  plot <- with_titles(
    r2_plot(rows, bars, chosen$localizer), title, c(study, facts_words(rows$n_facts), chosen$words),
    c(paste(c(note, cut_words(bars)), collapse = " "), reason_notes(rows)),
    problem_size(panels, 2.1 + method_angle(rows$method)$room),
    list(
      shows = shows, see = c(added_words(rows, chosen$localizer), advice),
      alt = r2_alt(rows, title, chosen$localizer)
    )
  )
  plot + legend_in_gap(panels)
}

r2_plot <- function(rows, bars, localizer) {
  known <- !is.na(rows$r2_layer) | !is.na(rows$r2_tracing)
  ggplot(mapping = aes(.data$method)) +
    geom_hline(yintercept = 0, colour = "grey40", linewidth = 0.3) +
    r2_bars(bars) + r2_absent(bars) + r2_differences(rows) +
    panel_notes(absent_panels(rows, known), c(1, nlevels(rows$method)), r2_limits(bars)) +
    problem_panels(nlevels(rows$problem), "free_x") +
    method_axis(rows$method) +
    scale_y_continuous(
      breaks = scales::breaks_pretty(5), limits = r2_limits(bars), expand = expansion(0)
    ) +
    scale_fill_manual(
      values = PREDICTOR_COLOURS, labels = predictor_labels(localizer), drop = FALSE
    ) +
    labs(x = NULL, y = "R\u00b2", fill = NULL)
}

predictor_labels <- function(localizer) {
  stats::setNames(capital(of_localizer(PREDICTORS, localizer)), names(PREDICTORS))
}

added_words <- function(rows, localizer) {
  known <- rows[!is.na(rows$diff), , drop = FALSE]
  if (nrow(known) == 0) return(NULL)
  sprintf(
    "%s adds most for %s and least for %s.", capital(short_name(localizer)),
    place_of(known, "diff"), place_of(known, "diff", which.min)
  )
}

r2_alt <- function(rows, title, localizer) {
  known <- rows[!is.na(rows$diff), , drop = FALSE]
  if (nrow(known) == 0) return(paste0("Bars: ", lower(title), "; no number could be had."))
  sprintf(
    "Bars of R\u00b2: the edit layer explains %s to %s of the variance, %s adds %s to %s.",
    short_number(min(known$r2_layer)), short_number(max(known$r2_layer)), short_name(localizer),
    small_number(min(known$diff)), small_number(max(known$diff))
  )
}

# ---- bars ----------------------------------------------------------------------------------------

BAR_WIDTH <- 0.8
LOWEST_R2 <- -1 # bars below are cut, or one of them would flatten all others

r2_long <- function(rows) {
  long <- do.call(rbind, lapply(names(PREDICTORS), function(predictor) {
    data.frame(rows[c("problem", "method")],
      predictor = predictor, r2 = rows[[paste0("r2_", predictor)]]
    )
  }))
  long$predictor <- factor(long$predictor, levels = names(PREDICTORS))
  long$shown <- pmax(long$r2, LOWEST_R2)
  long
}

cut_words <- function(bars) {
  n <- sum(bars$r2 < LOWEST_R2, na.rm = TRUE)
  if (n == 0) return(NULL)
  sprintf("Cut at %d: %s, down to %.3g.", LOWEST_R2, count_of(n, "bar"), min(bars$r2, na.rm = TRUE))
}

r2_limits <- function(bars) {
  range <- range(0, bars$shown, na.rm = TRUE)
  range + c(if (range[1] < 0) -0.04, if (range[1] == 0) 0, 0.16) * max(diff(range), 1e-3)
}

method_angle <- function(methods) {
  longest <- max(nchar(levels(methods)))
  long <- longest > 7 || nlevels(methods) > 4
  list(angle = if (long) 40, room = if (long) 0.06 * longest else 0)
}

method_axis <- function(methods) {
  scale_x_discrete(
    limits = levels(methods), guide = guide_axis(angle = method_angle(methods)$angle)
  )
}

r2_bars <- function(bars) {
  geom_col(aes(y = .data$shown, fill = .data$predictor),
    data = bars, width = BAR_WIDTH, position = position_dodge(BAR_WIDTH), na.rm = TRUE
  )
}

r2_absent <- function(bars) {
  bars$text <- ifelse(is.na(bars$r2), "n/a", "") # a text for every bar: they keep their places
  geom_text(aes(y = 0, label = .data$text, group = .data$predictor),
    data = bars, angle = 90, hjust = -0.2, size = 2.6, colour = "grey40",
    position = position_dodge(BAR_WIDTH)
  )
}

r2_differences <- function(rows) {
  known <- rows[!is.na(rows$diff), , drop = FALSE]
  known$top <- pmax(0, known$r2_layer, known$r2_both, known$r2_tracing, na.rm = TRUE)
  sign <- ifelse(known$diff < 0, "\u2212", "+")
  size <- ifelse(abs(known$diff) < 5e-4, "<.001", short_number(abs(known$diff)))
  known$text <- ifelse(abs(known$diff) < 5e-4, size, paste0(sign, size))
  geom_text(aes(y = .data$top, label = .data$text),
    data = known, vjust = -0.5, size = 2.7, colour = "grey25"
  )
}
