# Every figure comes out, also of little, broken or no data; its words say what it lacks.

expect_words <- function(plot, words) {
  expect_s3_class(plot, "ggplot")
  expect_match(gsub("\\s+", " ", words_of(plot)), words)
}

# Those of the last layer of points that is drawn.
points_of <- function(plot) {
  drawn <- ggplot2::ggplot_build(plot)$data
  drawn[[length(drawn)]]
}

scores <- make_scores()
effects <- make_effects()

# Every figure, by its function's name. `tables`: those of the statistics.
figures_of <- function(scores, effects, cells, settings, tables) {
  list(
    r2_by_problem = r2_by_problem(r2_table(scores, effects, "rewrite"), "Model"),
    out_of_fold = out_of_fold(tables$out_of_fold, "Model"),
    tracing_effect_by_layer = tracing_effect_by_layer(effects, "Model"),
    tracing_peaks = tracing_peaks(effects, "Model", usual = list(ROME = 5L, MEMIT = 3:8)),
    reliability = reliability(tables$reliability, "Model"),
    score_by_layer = score_by_layer(scores, "Model", "essence"),
    success_by_layer = success_by_layer(tables$success, "Model"),
    rewrite_vs_effect = rewrite_vs_effect(scores, effects, "Model"),
    rewrite_vs_effect_at_layer = rewrite_vs_effect_at_layer(scores, effects, "Model"),
    correlations_by_layer = correlations_by_layer(
      correlation_table(scores, effects, "rewrite"), "Model"
    ),
    choice_gain = choice_gain(tables$choice, "Model", "rewrite"),
    within_facts = within_facts(tables$within, "Model", "rewrite"),
    value_of_use = value_of_use(tables$value, "Model", "rewrite"),
    arena = arena(tables$arena, "Model", score = "rewrite"),
    hits_by_localizer = hits_by_localizer(tables$hits, "Model"),
    power_by_facts = power_by_facts(tables$power, "Model"),
    heatmap = heatmap(cells, "Model"),
    sweep = sweep(settings, "Model")
  )
}

CHOSEN_TABLES <- make_chosen()
tables_of <- function(scores, ..., chosen = CHOSEN_TABLES) {
  c(list(
    out_of_fold = make_out_of_fold(...), reliability = make_reliability(),
    success = make_success(scores)
  ), chosen)
}

# Figures by their table, where their names differ.
FIGURE_OF <- c(
  success = "success_by_layer", choice = "choice_gain", within = "within_facts",
  value = "value_of_use", hits = "hits_by_localizer"
)

test_that("all figures are drawn, without a warning, and say whose they are", {
  figures <- figures_of(scores, effects, make_cells(), make_sweep(), tables_of(scores))
  for (plot in figures) {
    expect_words(plot, "Model")
    expect_drawn(plot)
  }
})

test_that("every figure function has its test here", {
  here <- names(figures_of(scores, effects, make_cells(), make_sweep(), tables_of(scores)))
  files <- list.files(file.path("..", ".."), "^figures_.*[.]R$", full.names = TRUE)
  code <- unlist(lapply(files, readLines))
  heads <- grep("^[a-z_0-9]+ <- function\\(.*\\bstudy", code, value = TRUE)
  defined <- sub(" <-.*", "", heads)
  own_files <- c("said_by_layer", "together_by_layer") # test-said.R and test-together.R
  expect_setequal(setdiff(defined, c("explained_variance", "answer_figure", own_files)), here)
})

test_that("a figure is written as SVG and as PNG, and returns its words", {
  svg <- withr::local_tempfile()
  png <- withr::local_tempfile()
  words <- render(make_sweep(), c("Model", "data set x"), figure = "sweep", svg = svg, png = png)
  expect_match(readLines(svg, 1), "xml")
  expect_equal(readBin(png, "raw", 4)[2:4], charToRaw("PNG"))
  expect_named(words, c("title", "caption", "alt"))
  aim <- "aim: mean rewrite score 0 to 0\\.99\\."
  expect_match(words$caption, paste("Model; data set x; 12 facts; edit layer 11;", aim))
})

test_that("the sweep says where no setting lies within the aim", {
  settings <- make_sweep(c("FT-1", "ROME"))
  expect_no_match(words_of(sweep(settings, "Model")), "within the aim, and")
  settings$admissible[settings$method == "ROME"] <- FALSE
  expect_words(sweep(settings, "Model"), "the nearest is chosen: ROME: error injection\\.")
})

test_that("all figures have a caption and an alternative text of whole sentences", {
  figures <- figures_of(scores, effects, make_cells(), make_sweep(), tables_of(scores))
  for (name in names(figures)) {
    words <- attr(figures[[name]], "words")
    expect_equal(nrow(words), 1, info = name)
    expect_match(words$caption, "^[A-Z].*Model.*\\.$", info = name)
    expect_match(words$alt, "^[A-Z][^.].*\\.$", info = name)
    expect_no_match(paste(words$caption, words$alt), "NA|NaN|Inf|\\n|character\\(0\\)", info = name)
  }
})

test_that("all figures are drawn for a single fact, layer, window and method", {
  one <- make_scores(1, 4, "ROME", "fact_forcing")
  figures <- figures_of(
    one, make_effects(1, 4, 1), make_cells(4), make_sweep("ROME")[3, ],
    tables_of(one, "fact_forcing", "ROME", 1L)
  )
  for (plot in figures) expect_drawn(plot)
})

test_that("all figures are drawn for methods and problems that nobody knew", {
  names <- c("a_rather_long_method_name", "ROME", "another_method")
  problems <- c("error_injection", "my_problem")
  new <- make_scores(12, c(2, 10), names, problems)
  figures <- figures_of(
    new, effects, make_cells(), make_sweep(names),
    tables_of(new, problems, names, chosen = make_chosen(new))
  )
  for (plot in figures) expect_drawn(plot)
})

test_that("all figures say in words that there is nothing to show", {
  tables <- lapply(tables_of(scores), function(table) table[0, ])
  figures <- figures_of(scores[0, ], effects[0, ], make_cells()[0, ], make_sweep()[0, ], tables)
  for (plot in figures) {
    expect_words(plot, "Nothing to show: ")
    expect_match(attr(plot, "words")$caption, "Nothing to show: [a-z]")
  }
  expect_drawn(figures$sweep)
})

# A table whose numbers, keys and counts apart, are all one value.
with_numbers <- function(table, value, reason = "") {
  kept <- c("layer", "window", "n", "n_facts", "token", "bound")
  numeric <- setdiff(names(table)[vapply(table, is.numeric, NA)], kept)
  table[numeric] <- value
  if ("reason" %in% names(table)) table$reason <- reason
  table
}

test_that("all figures are drawn of missing numbers and of constant ones", {
  for (value in c(NaN, 0.5)) {
    some <- make_scores(methods = c("ROME", "MEMIT"), problems = "fact_forcing")
    reason <- if (is.nan(value)) "score has no variance" else ""
    broken <- list(
      scores = some, effects = make_effects(windows = 5), cells = make_cells(),
      settings = make_sweep("ROME")
    )
    broken$scores[names(SCORES)] <- value
    broken$effects[names(EFFECTS)] <- value
    broken$cells$p_restored <- value
    broken$settings[c("rewrite", "neighbourhood", "objective")] <- value
    broken$tables <- lapply(tables_of(some), with_numbers, value, reason)
    figures <- do.call(figures_of, broken)
    for (plot in figures) expect_drawn(plot)
    if (is.nan(value)) {
      for (name in setdiff(names(broken$tables), c("hits", "power"))) { # which tell of no edit
        plot <- figures[[c(FIGURE_OF[names(FIGURE_OF) == name], name)[1]]]
        expect_words(plot, "score has no variance")
      }
    }
  }
})

test_that("a row that could not be computed keeps its place and gives its reason", {
  gone <- function(table) {
    out <- table$problem == "fact_erasure" & table$method == "ROME"
    table[out, ] <- with_numbers(table[out, ], NA, "no edits of the facts under study")
    table
  }
  words <- "no edits of the facts under study: Fact erasure \\(ROME\\)"
  expect_words(out_of_fold(gone(make_out_of_fold()), "Model"), words)
  figures <- list(choice = choice_gain, within = within_facts, value = value_of_use)
  for (name in names(figures)) {
    plot <- figures[[name]](gone(CHOSEN_TABLES[[name]]), "Model", "rewrite")
    expect_words(plot, words)
    expect_drawn(plot)
  }
})

test_that("a panel without data says why", {
  scores$rewrite[scores$problem == "fact_erasure"] <- NaN
  plot <- score_by_layer(scores, "Model", problems = c(names(PROBLEMS), "another_problem"))
  expect_words(plot, "no usable score in 144 edits")
  expect_words(plot, "no edits")
  expect_drawn(plot)
  scores$rewrite[scores$problem == "fact_forcing" & scores$method == "ROME"] <- 1
  r2 <- r2_table(scores, effects, "rewrite")
  plot <- r2_by_problem(r2, "Model")
  expect_words(plot, "n/a, score has no variance: Fact forcing \\(ROME\\)")
  expect_words(plot, "no usable score in 36 rows")
  scatter <- rewrite_vs_effect(scores, effects, "Model", problem = "fact_forcing")
  expect_words(scatter, "n = 12: constant")
})

test_that("many methods have a panel each, in which no interval hides another", {
  many <- make_scores(methods = names(METHODS), problems = names(PROBLEMS)[1:2])
  plot <- score_by_layer(many, "Model", problems = c(names(PROBLEMS)[1:2], "another_problem"))
  layout <- ggplot2::ggplot_build(plot)$layout$layout
  expect_equal(as.character(layout$panel), unname(METHODS))
  expect_words(plot, "another problem: no edits\\.")
  expect_match(attr(plot, "words")$caption, "a panel for each method and a colour for each editing")
  expect_drawn(plot)
  points <- points_of(plot)
  expect_equal(anyDuplicated(points[c("PANEL", "x")]), 0)
  few <- score_by_layer(scores, "Model") # four methods
  expect_true("problem" %in% names(ggplot2::ggplot_build(few)$layout$layout))
})

test_that("methods at a layer stand apart, and nearer to it than to the next", {
  for (layers in list(0:26, c(0, 1, 2, 4, 7, 14, 24), c(2, 14), 5)) {
    for (n in c(1, 4, 9)) {
      rows <- expand.grid(layer = layers, method = factor(seq_len(n)))
      x <- rows$layer + side_by_side(rows$layer, rows$method)
      expect_true(all(abs(x - rows$layer) < min(c(diff(layers), 4)) / 2))
      expect_equal(anyDuplicated(x), 0)
    }
  }
  four <- side_by_side(rep(c(0, 1, 24), 4), factor(rep(1:4, each = 3)))
  expect_equal(diff(unique(four)), rep(0.2, 3))
})

test_that("layers are zero-based in the data and one-based in the figures", {
  expect_words(rewrite_vs_effect(scores, effects, "Model"), "12 facts")
  panels <- levels(rewrite_vs_effect(scores, effects, "Model")$data$column)
  expect_equal(panels, c("Layer 3", "Layer 11", "Layer 21"))
  drawn <- ggplot2::ggplot_build(tracing_effect_by_layer(effects, "Model"))$data[[2]]
  expect_equal(range(drawn$x), c(1, 30))
})

test_that("peaks are the lowest layer with the largest effect, and need one above zero", {
  effects <- data.frame(
    case_id = rep(c("a", "b"), each = 3), window = 5L, layer = rep(0:2, 2),
    value = c(0.1, 0.4, 0.4, 0, 0, NaN)
  )
  peaks <- peak_layers(effects, "value")
  expect_equal(peaks$case_id, "a")
  expect_equal(peaks$layer, 1)
})

test_that("the mean's interval is that of the t test", {
  values <- c(0.2, 0.5, 0.9, NA, 0.4)
  interval <- mean_interval(values)
  expect_equal(c(interval$low, interval$high), c(t.test(values)$conf.int))
  expect_true(is.na(mean_interval(0.3)$low))
})

test_that("the window, module and fact asked for are taken, or named as absent", {
  scatter <- rewrite_vs_effect(scores, effects, "Model", window = 10)
  expect_words(scatter, "tracing, MLP, windows of 10 layers")
  expect_words(
    rewrite_vs_effect(scores, effects, "Model", window = 7),
    "no row with window 7 \\(there are: 1, 3, 5, 10\\)"
  )
  expect_words(heatmap(make_cells(), "Model", case_id = "x"), "no row with case_id x")
  expect_words(
    r2_by_problem(r2_table(scores, effects, "rewrite"), "Model", score = "essence"),
    "no row with score essence"
  )
})

test_that("methods keep their colours, and unknown names their place", {
  few <- method_colours(labelled(c("MEMIT", "my_method"), METHODS))
  all <- method_colours(labelled(names(METHODS), METHODS))
  expect_equal(few[["MEMIT"]], all[["MEMIT"]])
  expect_false(few[["my method"]] %in% all)
  many <- method_colours(labelled(sprintf("method %02d", 1:12), METHODS))
  expect_equal(anyDuplicated(many), 0)
  expect_false(anyNA(many))
})

test_that("a figure that does not exist is refused", {
  expect_error(
    render(effects, "Model", figure = "pie", svg = "a", png = "b"),
    "figure: there is no function 'pie'"
  )
})

test_that("a table without its columns is refused", {
  expect_error(
    tracing_peaks(effects["layer"], "Model"), "effects: missing columns case_id, localizer, module"
  )
  expect_error(heatmap(effects, "Model"), "cells: missing columns token, token_text")
})

test_that("the usual layers are marked where they are, one-based, and counted", {
  effects <- make_effects(2, 0:9, 5)
  effects$value <- ifelse(effects$layer == c(5, 2)[match(effects$case_id, cases(2))], 1, 0.1)
  plot <- tracing_peaks(effects, "Model", usual = list(ROME = 5L, MEMIT = 3:8))
  tiles <- ggplot2::ggplot_build(plot)$data[[2]]
  expect_equal(sort(tiles$x), sort(c(6, 4:9)))
  expect_match(
    attr(plot, "words")$caption, "ROME's usual layers \\(6\\): 1 of 2 with windows of 5 layers"
  )
  none <- tracing_peaks(effects, "Model", usual = list(ROME = NULL, MEMIT = NULL))
  expect_no_match(attr(none, "words")$caption, "usual")
  expect_drawn(none)
})

test_that("the one-layer scatter takes the layer asked for, or the one nearest the middle", {
  scores <- make_scores(layers = c(2, 14, 20))
  expect_words(rewrite_vs_effect_at_layer(scores, effects, "Model"), "edit layer 15")
  expect_words(rewrite_vs_effect_at_layer(scores, effects, "Model", layer = 2L), "edit layer 3")
  expect_words(
    rewrite_vs_effect_at_layer(scores, effects, "Model", layer = 7L),
    "Nothing to show: no edit at layer 8"
  )
  some <- scores[scores$problem != "fact_forcing", ]
  plot <- rewrite_vs_effect_at_layer(some, effects, "Model", problems = names(PROBLEMS))
  expect_words(plot, "Nothing to show for fact forcing")
  deeper <- scores$problem == "error_injection" | scores$layer == 2
  expect_words(rewrite_vs_effect_at_layer(scores[deeper, ], effects, "Model"), "edit layer 3")
})

test_that("edits at single facts' own peaks are in no figure of the layers", {
  own <- transform(scores[scores$layer == 2, ], layer = rep(3:4, 120)[seq_along(layer)])
  own[c("listed", "rewrite")] <- list(FALSE, 0.5)
  both <- rbind(scores, own)
  for (draw in list(
    function(edits) score_by_layer(edits, "Model"),
    function(edits) rewrite_vs_effect(edits, effects, "Model"),
    function(edits) rewrite_vs_effect_at_layer(edits, effects, "Model")
  )) {
    expect_equal(attr(draw(both), "words"), attr(draw(scores), "words"))
    expect_equal(ggplot2::layer_data(draw(both), 1), ggplot2::layer_data(draw(scores), 1))
  }
})

test_that("the words tell what the numbers say", {
  choice <- CHOSEN_TABLES$choice
  choice$gain <- ifelse(choice$method == "ROME", 0.2, -0.1)
  choice$p_adjusted <- ifelse(choice$problem == "fact_forcing", 0.001, 0.5)
  caption <- attr(choice_gain(choice, "Model", "rewrite", "tracing"), "words")$caption
  expect_match(caption, "Told from none after adjustment: 4 of 20, 1 above zero and 3 below.",
    fixed = TRUE
  )
  value <- CHOSEN_TABLES$value
  value$value <- c(localizer = 0.25, own_peak = -0.0625, random = -0.5, oracle = NA)[value$strategy]
  caption <- attr(value_of_use(value, "Model", "rewrite"), "words")$caption
  expect_match(caption, paste(
    "by the localizer and other facts .250, the fact's own peak -.062 and random layer -.500"
  ), fixed = TRUE)
})

test_that("values are averaged over what all strategies have", {
  value <- CHOSEN_TABLES$value
  value <- value[value$problem == "error_injection" & value$method %in% c("ROME", "MEMIT"), ]
  value$value <- ifelse(value$method == "ROME", 0.1, 0.9)
  value$value[value$strategy == "oracle"] <- NA
  value$value[value$method == "MEMIT" & value$strategy == "random"] <- NA
  expect_equal(unname(mean_values(value)), c(0.1, 0.1, 0.1))
})

test_that("no line of the arena's panel titles is wider than a quarter of the figure", {
  lines <- unlist(strsplit(PANELS, "\n"))
  expect_lte(max(nchar(lines)), 16)
  expect_equal(arena(CHOSEN_TABLES$arena, "Model", score = "rewrite")$theme$strip.clip, "off")
})

test_that("the arena sorts localizers by their gain and has controls in grey", {
  table <- CHOSEN_TABLES$arena
  table$gain <- ifelse(table$localizer == "zeroing", 0.3, 0.1)
  plot <- arena(table, "Model", score = "rewrite")
  named <- c("tracing (5)", "zeroing (5)") # with their windows
  expect_equal(levels(plot$data$name), named) # the last is on top
  table$gain <- ifelse(table$localizer == "zeroing", -0.3, 0.1)
  table$shuffle_low[table$localizer == "zeroing"] <- NA
  turned <- arena(table, "Model", score = "rewrite")
  drawn <- ggplot_build(turned)$layout$panel_params[[1]]$y$get_labels()
  expect_equal(drawn, rev(named))
  table$window <- 1L # of one layer there is nothing to say
  expect_equal(levels(arena(table, "Model", score = "rewrite")$data$name), c("zeroing", "tracing"))
  table$control <- table$localizer == "zeroing"
  grey <- arena(table, "Model", score = "rewrite")$data
  expect_equal(unique(grey$localizer[grey$colour == "grey45"]), "zeroing")
  none <- arena(table, "Model", method = "another", score = "rewrite")
  expect_words(none, "Nothing to show: no edit of this pair")
})

# The arena of one pair; `change`: of its rows.
pair_arena <- function(change, ...) {
  table <- CHOSEN_TABLES$arena
  table <- table[table$problem == "error_injection" & table$method == "ROME", ]
  arena(change(table), "Model", score = "rewrite", ...)
}
test_that("points of the arena are filled by their own panel's adjusted p", {
  plot <- pair_arena(function(table) {
    table$gain_p_adjusted <- ifelse(table$localizer == "tracing", 0.01, 0.6)
    table$r_p_adjusted <- ifelse(table$localizer == "tracing", 0.6, 0.01)
    table$value_p_adjusted <- NA
    table
  })
  expect_equal(levels(plot$data$panel), unname(PANELS[c("gain", "r", "value")])) # A, B, C
  points <- points_of(plot)
  filled <- tapply(points$fill != "white", points$PANEL, sum)
  expect_equal(c(filled), c("1" = 1, "2" = 1, "3" = 0))
  ordered <- levels(plot$data$name)[points$y[points$fill != "white"]]
  expect_equal(ordered, c("tracing (5)", "zeroing (5)"))
  expect_words(plot, "filled: adjusted p below \\.05, by the panel's own measure")
})

test_that("a row at fewer layers sets no axis of the arena, and is said to be cut", {
  cut <- function(table) {
    fewer <- table$localizer == "zeroing"
    table$n_layers <- ifelse(fewer, 2L, 3L)
    table$value <- ifelse(fewer, -3, 0.01)
    table$value_low <- ifelse(fewer, -4, -0.02)
    table$value_high <- ifelse(fewer, 0.006, 0.03)
    table
  }
  plot <- pair_arena(cut)
  built <- ggplot2::ggplot_build(plot)
  expect_gt(min(built$layout$panel_params[[3]]$x.range), -0.03)
  expect_equal(sum(points_of(plot)$PANEL == 3), 1)
  expect_words(plot, "not to be compared: zeroing \\(2 of 3\\)")
  expect_words(plot, "Cut at the edge of C: zeroing, -3\\.00 \\(-4\\.00 to \\.01\\)\\.")
  expect_drawn(plot)
  expect_no_match(words_of(pair_arena(identity)), "Cut at")
  bare <- pair_arena(function(table) transform(cut(table), value_low = NA, value_high = NA))
  expect_words(bare, "Cut at the edge of C: zeroing, -3\\.00\\.")
  alone <- pair_arena(function(table) cut(table)[table$localizer == "zeroing", ])
  expect_no_match(words_of(alone), "Cut at")
})

test_that("every point and interval that the arena lacks has its own reason", {
  plot <- pair_arena(function(table) {
    table[c("gain", "gain_low", "gain_reason")] <- list(NA, NA, "all alike")
    table[table$localizer == "zeroing", c("r", "r_reason")] <- list(NA, "")
    table[c("value_low", "value_reason")] <- list(NA, "the same layers: no interval")
    table
  })
  expect_words(plot, "No point in A for tracing and zeroing: all alike\\.")
  expect_words(plot, "No point in B for zeroing\\.")
  expect_words(plot, "No interval in C for tracing and zeroing: the same layers\\.")
  found <- pair_arena(function(table) {
    transform(table,
      found = ifelse(localizer == "zeroing", NA, 0.5), found_low = 0.2, found_high = 0.8,
      found_reason = "no row"
    )
  })
  expect_words(found, "No point in planted facts found for zeroing: no row\\.")
})

test_that("figures of localizers say which of several windows they show", {
  several <- function(table) {
    rbind(transform(table, window = 1L), table, transform(table, window = 10L))
  }
  shown <- paste(
    "Windows of 5 layers are shown of the localizers that have several; those of 1 and 10 layers",
    "are in the table\\."
  )
  expect_words(pair_arena(several, window = 5), shown)
  expect_words(hits_by_localizer(several(CHOSEN_TABLES$hits), "Model", window = 5), shown)
  first <- hits_by_localizer(several(CHOSEN_TABLES$hits), "Model")
  expect_words(first, "Windows of 1 layer are shown .*; those of 5 and 10 layers are")
  expect_no_match(words_of(hits_by_localizer(CHOSEN_TABLES$hits, "Model")), "Windows of")
})

test_that("bars far below zero are cut, and said to be", {
  table <- make_out_of_fold()
  table$r2_both[1] <- -7.5
  table$diff[1] <- table$r2_both[1] - table$r2_layer[1]
  plot <- out_of_fold(table, "Model")
  expect_words(plot, "Cut at -1: 1 bar, down to -7.5")
  expect_gte(min(ggplot2::ggplot_build(plot)$data[[2]]$ymin), -1)
})

test_that("a heat map has a panel for each module and names those that are absent", {
  one <- make_cells()
  all <- rbind(one, transform(one, module = "attn"), transform(one, module = "hidden"))
  expect_equal(levels(heatmap(all, "Model")$data$module), c("MLP", "Attention", "Hidden state"))
  expect_no_match(attr(heatmap(all, "Model"), "words")$caption, "Not traced")
  expect_no_match(words_of(heatmap(all, "Model")), "Not traced")
  expect_words(heatmap(one, "Model"), "Not traced: attention, hidden state\\.")
  expect_words(heatmap(transform(one, module = "attn"), "Model"), "Not traced: MLP, hidden state")
  one$p_restored <- NaN
  one$status <- "failed: too long"
  expect_words(heatmap(one, "Model"), "Nothing to show: failed: too long")
})

test_that("the R2 figure shows all facts, whichever subsets the table has", {
  r2 <- r2_table(scores, effects, "rewrite")
  r2$subset <- NULL
  twice <- rbind(cbind(r2, subset = "all"), transform(cbind(r2, subset = "few"), r2_layer = NA))
  plots <- list(r2_by_problem(cbind(r2, subset = "all"), "Model"), r2_by_problem(twice, "Model"))
  bars <- lapply(plots, function(plot) ggplot2::ggplot_build(plot)$data[[2]]$y)
  expect_equal(bars[[1]], bars[[2]])
})

test_that("axes of layers name edited layers, or round numbers among many neighbours", {
  expect_equal(layer_breaks(c(5, 15, 25)), c(5, 15, 25))
  expect_equal(layer_breaks(seq(3, 27, 3)), c(3, 9, 15, 21, 27))
  expect_equal(layer_breaks(1:30), c(1, 5, 10, 15, 20, 25, 30))
  expect_equal(layer_breaks(c(1, 3, 5, 15, 25)), c(1, 5, 15, 25))
  expect_equal(layer_breaks(c(1, 2, 3, 5, 8, 15, 25)), c(1, 5, 8, 15, 25))
  expect_equal(layer_breaks(1:7), 1:7)
  expect_equal(layer_breaks(7), 7)
})

test_that("figures show the localizer that is asked for, by its own words", {
  control <- transform(make_effects(windows = 1, modules = "none"), localizer = "my_control")
  zeroed <- transform(make_effects(windows = c(1, 5)), localizer = "zeroing")
  effects <- rbind(make_effects(windows = c(1, 5)), zeroed, control)
  expect_words(tracing_effect_by_layer(effects, "Model", localizer = "zeroing"), "Zeroing effect")
  expect_words(tracing_effect_by_layer(effects, "Model"), "Tracing effect by layer")
  peaks <- tracing_peaks(effects, "Model", localizer = "my_control", module = "none")
  expect_words(peaks, "Layer with the largest my control, by fact")
  scatter <- rewrite_vs_effect(make_scores(), effects, "Model", localizer = "my_control")
  expect_words(scatter, "my control")
  expect_false(grepl("windows of", scatter$labels$subtitle, fixed = TRUE))
  value <- transform(CHOSEN_TABLES$value, window = ifelse(localizer == "zeroing", 1L, 5L))
  plot <- value_of_use(value, "Model", "rewrite", localizer = "zeroing", window = 1)
  expect_words(plot, "zeroing, MLP, windows of 1 layer")
  plot <- value_of_use(value, "Model", "rewrite", localizer = "none_such")
  expect_words(plot, "no row with localizer none_such")
})

# Figures of one localizer alone, with all that their words, axes and legends say.
shown_words <- function(localizer) {
  of <- function(table) {
    table$localizer <- rep(localizer, nrow(table))
    table
  }
  effects <- of(effects)
  plots <- list(
    r2_by_problem(r2_table(scores, effects, "rewrite"), "Model"),
    out_of_fold(of(make_out_of_fold()), "Model"),
    tracing_peaks(effects, "Model"), tracing_effect_by_layer(effects, "Model"),
    reliability(of(make_reliability()), "Model"),
    score_by_layer(scores, "Model", localizer = localizer),
    rewrite_vs_effect(scores, effects, "Model"),
    rewrite_vs_effect_at_layer(scores, effects, "Model"),
    correlations_by_layer(correlation_table(scores, effects, "rewrite"), "Model")
  )
  words <- vapply(plots, function(plot) {
    scale <- plot$scales$get_scales("fill")
    legend <- if (!is.null(scale) && is.character(scale$labels)) scale$labels
    paste(c(unlist(attr(plot, "words")), unlist(plot$labels), legend), collapse = " ")
  }, "")
  gsub("\\s+", " ", words)
}

test_that("figures of tracing say so", {
  words <- paste(shown_words("tracing"), collapse = " ")
  for (said in c(
    "Rewrite score: variance explained by edit layer and tracing effect",
    "on the edit layer (a mean for each layer), on the tracing effect at that layer, and",
    "Edit layer Tracing effect Both", "Tracing adds most for", "of the variance, tracing adds",
    "what tracing adds here is what it tells", "Reliability of the tracing effect over noise",
    "the effect from one half of the noise rows", "No regression on the tracing effect",
    "each method works best, and whether tracing peaks there.",
    "Rewrite score against tracing effect: error injection",
    "Rewrite score against tracing effect at one layer", "The axes of tracing effect differ.",
    "after an edit against its tracing effect at the edited layer",
    "Correlation of rewrite score and tracing effect, by layer",
    "the facts that trace strongly at a layer are those that edit well there."
  )) expect_match(words, said, fixed = TRUE)
})

test_that("figures of another localizer name it, and no tracing", {
  for (localizer in c("zeroing", "lens_rise", "write_norm")) {
    named <- c(effect_title(localizer, "value"), short_name(localizer))
    for (text in shown_words(localizer)) {
      expect_match(text, paste(named, collapse = "|"), ignore.case = TRUE)
      expect_no_match(gsub("[Tt]racing reversal", "", text), "[Tt]rac(ing|e |ed)") # a problem
    }
  }
  expect_match(shown_words("write_norm")[1], "Edit layer Write norm effect Both")
})

test_that("with one problem the names of all choices stand in two rows below the figure", {
  scores <- make_scores(problems = "error_injection")
  value <- value_table(scores, make_effects(windows = 5), "rewrite", splits = 2L)
  plot <- value_of_use(value, "Model", "rewrite")
  grDevices::pdf(NULL)
  withr::defer(grDevices::dev.off())
  width <- function(plot) {
    parts <- ggplot2::ggplotGrob(plot)
    max(vapply(parts$grobs[grepl("guide-box", parts$layout$name)], function(grob) {
      if (is.null(grob$widths)) 0 else grid::convertWidth(sum(grob$widths), "in", valueOnly = TRUE)
    }, 0))
  }
  one <- ggplot2::guide_legend(nrow = 1)
  expect_lt(width(plot), 0.75 * width(plot + ggplot2::guides(colour = one, shape = one)))
})
