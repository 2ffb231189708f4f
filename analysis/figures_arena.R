# All localizers beside each other, and what a study can tell at all. See figures.R.

PANELS <- c(
  gain = "A: gain over\nits own shuffle", r = "B: correlation\nwithin facts",
  value = "C: value against\nbest fixed layer", found = "planted facts\nfound"
)

# A row for each localizer, sorted by `gain` (choice), with `r` and its `ceiling` (within), `value`
# (value), of a model with planted facts also `found`; filled: the panel's own adjusted p is below
# .05. Controls are grey. Of a localizer that has several places, that at `module` and `window`,
# else its first.
arena <- function(arena, study, problem = "error_injection", method = "ROME",
                  score = "paraphrase_log_odds", module = NULL, window = NULL) {
  title <- sprintf("Which localizer tells where to edit? %s", label_of(score, SCORES))
  require_columns(arena, c("window", "control", "n_layers", ARENA_COLUMNS), "arena")
  same <- arena$problem %in% problem & arena$method %in% method & arena$score %in% score
  arena <- arena[same, , drop = FALSE]
  table <- one_place(arena, module, window)
  shown <- intersect(names(PANELS), names(table))
  if (all(is.na(table$found))) shown <- setdiff(shown, "found")
  all <- do.call(rbind, lapply(shown, panel_rows, table = table))
  rows <- all[!is.na(all$estimate), , drop = FALSE]
  study <- c(study, sprintf(
    "%s with %s", lower(label_of(problem, PROBLEMS)), label_of(method, METHODS)
  ))
  if (nrow(rows) == 0) {
    reasons <- setdiff(unique(table$reason), "")
    reason <- c(if (length(reasons) > 0) paste(reasons, collapse = "; "), "no edit of this pair")
    return(empty_figure(title, study, reason[1]))
  }
  rows$colour <- localizer_colours(rows$localizer, table$localizer[table$control])
  rows <- sorted_rows(rows, unname(PANELS[shown]))
  with_titles(
    arena_plot(cut_rows(rows)), title, c(study, facts_words(table$n_facts)),
    c(arena_notes(table, rows), other_windows(table, arena), cut_notes(rows), gap_notes(all)),
    c(WIDTH, 1.8 + 0.27 * nlevels(rows$name)), arena_words(rows)
  )
}

ARENA_COLUMNS <- c(
  "gain", "gain_low", "gain_high", "gain_p_adjusted", "gain_reason", "shuffle_low", "shuffle_high",
  "r", "r_low", "r_high", "r_p_adjusted", "r_reason", "ceiling",
  "value", "value_low", "value_high", "value_p_adjusted", "value_reason"
)

one_place <- function(table, module, window) {
  own <- (is.null(module) | table$module %in% module) & (is.null(window) | table$window %in% window)
  table <- table[order(match(table$localizer, unique(table$localizer)), !own), , drop = FALSE]
  table[!duplicated(table$localizer), , drop = FALSE]
}

panel_rows <- function(name, table) {
  of <- function(end) table[[paste0(name, "_", end)]]
  none <- rep(NA_real_, nrow(table))
  band <- switch(name, gain = "shuffle", found = "found_shuffle", "")
  drawn <- function(end) if (band == "") none else table[[paste0(band, end)]]
  data.frame(
    panel = rep(PANELS[[name]], nrow(table)), localizer = table$localizer,
    place = brief_place(table$localizer, table$window),
    estimate = table[[name]], low = of("low"), high = of("high"),
    band_low = drawn("_low"), band_high = drawn("_high"), p = of("p_adjusted"),
    ceiling = if (name == "r") ifelse(table$r < 0, -1, 1) * table$ceiling else none,
    fewer = table$n_layers < max(0, table$n_layers), reason = of("reason")
  )
}

localizer_colours <- function(localizer, controls) {
  ifelse(localizer %in% controls, "grey45", OKABE_ITO[1])
}

# Panels in their order, localizers by the first of them.
sorted_rows <- function(rows, panels) {
  rows$panel <- factor(rows$panel, panels)
  gain <- rows[as.integer(rows$panel) == 1, , drop = FALSE]
  others <- setdiff(rows$place, gain$place)
  rows$name <- factor(rows$place, c(others, gain$place[order(gain$estimate)])) # largest on top
  rows
}

DRAWN <- c("estimate", "low", "high", "band_low", "band_high")

# Of rows at fewer layers, which are not to be compared, what lies beyond a panel's other rows goes
# to its edge: it would set the axis for all.
cut_rows <- function(rows) {
  for (panel in split(seq_len(nrow(rows)), rows$panel)) {
    fewer <- rows$fewer[panel]
    if (all(fewer)) next # no others
    ends <- range(0, rows$ceiling[panel], unlist(rows[panel[!fewer], DRAWN]), na.rm = TRUE)
    for (column in DRAWN) {
      x <- rows[panel, column]
      beyond <- which(fewer & (x < ends[1] | x > ends[2]))
      rows[panel[beyond], column] <- sign(x[beyond]) * Inf
    }
  }
  rows
}

arena_plot <- function(rows) {
  points <- rows[is.finite(rows$estimate), , drop = FALSE]
  told <- points$p < 0.05
  ggplot(rows, aes(.data$estimate, .data$name)) +
    geom_linerange(aes(xmin = .data$band_low, xmax = .data$band_high),
      data = rows[!is.na(rows$band_low), ], linewidth = 4.5, colour = "grey85"
    ) +
    geom_vline(xintercept = 0, colour = "grey40", linewidth = 0.3) +
    geom_point(aes(.data$ceiling), data = rows[!is.na(rows$ceiling), ], shape = "|", size = 4) +
    geom_linerange(aes(xmin = .data$low, xmax = .data$high),
      data = rows[!is.na(rows$low), ], linewidth = 0.6, colour = rows$colour[!is.na(rows$low)]
    ) +
    geom_point(
      data = points, size = 2, shape = 21, colour = points$colour,
      fill = ifelse(told %in% TRUE, points$colour, "white")
    ) +
    facet_wrap(~panel, nrow = 1, scales = "free_x", drop = FALSE) +
    scale_x_continuous(breaks = scales::breaks_pretty(3), labels = plain_numbers) +
    # said, since ggplot2 sorts names by itself where the first layer has not all of them
    scale_y_discrete(limits = levels(rows$name)) +
    labs(x = NULL, y = NULL)
}

arena_notes <- function(table, rows) {
  most <- max(table$n_layers)
  fewer <- table[table$localizer %in% rows$localizer[rows$fewer], , drop = FALSE]
  c(
    paste(
      "Point and 95 % interval over facts (not seen where the point is wider), of controls in",
      "grey; filled: adjusted p below .05, by the panel's own measure; grey bands: 95 % of the",
      "localizer's own shuffles; bars: the largest |r| that reliability allows, on r's side, only",
      "where both reliabilities are known."
    ),
    brief_note(table$window),
    if (nrow(fewer) > 0) sprintf("At fewer layers, so not to be compared: %s.", listed(sprintf(
      "%s (%d of %d)", short_name(fewer$localizer), fewer$n_layers, most
    )))
  )
}

# Which windows of the localizers that have several are shown. `table`: what is shown of `all`.
other_windows <- function(table, all) {
  place <- function(rows) paste(rows$localizer, rows$window)
  others <- all[!place(all) %in% place(table), , drop = FALSE]
  if (nrow(others) == 0) return(NULL)
  shown <- table$window[table$localizer %in% others$localizer]
  sprintf(
    "Windows of %s are shown of the localizers that have several; those of %s are in the table.",
    window_numbers(shown), window_numbers(others$window)
  )
}

window_numbers <- function(windows) {
  windows <- sort(unique(windows))
  sprintf("%s layer%s", listed(windows), if (identical(as.integer(windows), 1L)) "" else "s")
}

# What cut_rows cuts, in numbers.
cut_notes <- function(rows) {
  edges <- is.infinite(as.matrix(cut_rows(rows)[c("estimate", "low", "high")]))
  cut <- rows[rowSums(edges) > 0, , drop = FALSE]
  interval <- sprintf(" (%s to %s)", short_number(cut$low, 2), short_number(cut$high, 2))
  sprintf(
    "Cut at the edge of %s: %s, %s%s.", panel_words(cut$panel), short_name(cut$localizer),
    short_number(cut$estimate, 2), ifelse(is.na(cut$low), "", interval)
  )
}

# Why a panel has no point, or a point without its interval.
gap_notes <- function(rows) {
  rows$gap <- ifelse(is.na(rows$estimate), "point", ifelse(is.na(rows$low), "interval", "none"))
  groups <- split_by(rows[rows$gap != "none", , drop = FALSE], c("panel", "gap", "reason"))
  vapply(groups, function(group) {
    reason <- sub(": no interval", "", group$keys$reason, fixed = TRUE) # which is said
    where <- sprintf("No %s in %s for %s", group$keys$gap, panel_words(group$keys$panel),
      listed(short_name(group$rows$localizer))
    )
    paste0(paste(c(where, setdiff(reason, "")), collapse = ": "), ".")
  }, "")
}

# "A", or the whole of a title that has no letter.
panel_words <- function(panel) gsub("\n", " ", sub(":.*", "", panel), fixed = TRUE)

arena_words <- function(rows) {
  gain <- rows[as.integer(rows$panel) == 1, , drop = FALSE]
  better <- sum(gain$estimate > 0 & gain$p < 0.05, na.rm = TRUE)
  list(
    shows = paste(
      "What each localizer gains by matching its peaks to facts, how its values and the score go",
      "together within facts, and what its use is worth against the best fixed layer."
    ),
    see = sprintf(
      "A localizer picks better layers than its shuffle, at an adjusted p below .05: %d of %d.",
      better, nrow(gain)
    ),
    alt = sprintf("%s panels of points with intervals for %s.",
      c("Three", "Four")[nlevels(rows$panel) - 2], count_of(nlevels(rows$name), "localizer")
    )
  )
}

# ---- planted facts -------------------------------------------------------------------------------

# hits: how often each localizer puts a planted fact where it was trained, against permuted places.
hits_by_localizer <- function(hits, study, module = NULL, window = NULL, controls = NULL) {
  columns <- c(
    "localizer", "window", "hits", "low", "high", "shuffle_low", "shuffle_high", "placebo",
    "chance", "p_adjusted"
  )
  require_columns(hits, columns, "hits")
  title <- "Which localizer finds planted facts?"
  rows <- one_place(hits[!is.na(hits$hits), , drop = FALSE], module, window)
  if (nrow(rows) == 0) {
    return(empty_figure(title, study, c(setdiff(unique(hits$reason), ""), "no localizer")[1]))
  }
  names <- brief_place(rows$localizer, rows$window)
  rows$name <- factor(names, unique(names[order(rows$hits)]))
  colours <- localizer_colours(rows$localizer, controls)
  plot <- ggplot(rows, aes(.data$hits, .data$name)) +
    geom_linerange(aes(xmin = .data$shuffle_low, xmax = .data$shuffle_high),
      linewidth = 4.5, colour = "grey85"
    ) +
    geom_linerange(aes(xmin = .data$low, xmax = .data$high), linewidth = 0.6, colour = colours) +
    geom_point(aes(.data$placebo), data = rows[!is.na(rows$placebo), ], shape = 4, size = 1.8) +
    geom_point(size = 2, colour = colours) +
    scale_x_continuous(limits = c(0, 1), labels = plain_numbers) +
    labs(x = "Share of facts found within one layer", y = NULL)
  better <- sum(rows$hits > rows$chance & rows$p_adjusted < 0.05, na.rm = TRUE)
  with_titles(
    plot, title, c(study, facts_words(rows$n_facts)),
    c(
      paste(
        "Point and 95 % interval, of controls in grey; grey bands: 95 % of the localizer's peaks",
        "with places permuted; crosses: placebo facts, which have no place of their own."
      ),
      brief_note(rows$window), other_windows(rows, hits)
    ),
    c(WIDTH, 1.8 + 0.27 * nrow(rows)),
    list(
      shows = "How often each localizer's peak lies within one layer of where a fact was trained.",
      see = sprintf(
        "A localizer finds them more often than by chance, at an adjusted p below .05: %d of %d.",
        better, nrow(rows)
      ),
      alt = sprintf("Points with intervals for %s.", count_of(nrow(rows), "localizer"))
    )
  )
}

# ---- power ---------------------------------------------------------------------------------------

# power: of the test that the localizer picks better layers than its shuffle, by facts and layers.
power_by_facts <- function(power, study) {
  require_columns(power, c("n_layers", "n_facts", "power", "wanted", "effect", "source"), "power")
  title <- "How many facts and layers would tell?"
  power <- power[!is.na(power$power), , drop = FALSE]
  if (nrow(power) == 0) return(empty_figure(title, study, "no localizer's values to go by"))
  power$layers <- factor(power$n_layers)
  source <- if (all(power$source %in% "study")) "by this study's peaks" else "as if peaks were even"
  plot <- ggplot(power, aes(.data$n_facts, .data$power, colour = .data$layers)) +
    geom_hline(yintercept = unique(power$wanted), linetype = "dotted", colour = "grey40") +
    geom_line(linewidth = 0.55) +
    geom_point(aes(shape = .data$layers), size = 1.8) +
    scale_x_log10(breaks = sort(unique(power$n_facts))) +
    scale_y_continuous(limits = c(0, 1), labels = plain_numbers) +
    scale_colour_manual(values = OKABE_ITO[seq_len(nlevels(power$layers))]) +
    scale_shape_manual(values = shapes_for(power$layers)) +
    labs(x = "Facts", y = "Power", colour = "Edited layers", shape = "Edited layers")
  needed <- unique(power[c("n_layers", "facts_needed")])
  with_titles(
    plot, title, c(study, source), "Dotted: the power that is wanted.", c(WIDTH, 3.2),
    list(
      shows = sprintf(
        paste(
          "The power of the test that a localizer picks better layers than its own shuffle, at",
          "5 %%, if scores follow its values within facts with a correlation of %s."
        ), short_number(power$effect[1], 2)
      ),
      see = sprintf("Facts that are needed: %s.", listed(sprintf(
        "%s with %s layers", needed$facts_needed, needed$n_layers
      ))),
      alt = "Lines of power that rise with the number of facts, one for each number of layers."
    )
  )
}
