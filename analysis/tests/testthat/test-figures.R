# Every figure comes out, also of little, broken or no data; its words say what it lacks.

words_of <- function(plot) {
  layers <- lapply(ggplot2::ggplot_build(plot)$data, function(layer) as.character(layer$label))
  paste(c(unlist(plot$labels[c("title", "subtitle", "caption")]), unlist(layers)), collapse = " ")
}

expect_words <- function(plot, words) {
  expect_s3_class(plot, "ggplot")
  expect_match(gsub("\\s+", " ", words_of(plot)), words)
}

scores <- make_scores()
effects <- make_effects()

figures_of <- function(scores, effects, cells, settings) {
  r2 <- r2_table(scores, effects, c("rewrite", "essence"))
  list(
    r2_by_problem = r2_by_problem(r2, "Model"),
    tracing_effect_by_layer = tracing_effect_by_layer(effects, "Model"),
    tracing_peaks = tracing_peaks(effects, "Model"),
    score_by_layer = score_by_layer(scores, "Model", "essence"),
    rewrite_vs_effect = rewrite_vs_effect(scores, effects, "Model"),
    heatmap = heatmap(cells, "Model"),
    sweep = sweep(settings, "Model")
  )
}

expect_drawn <- function(plot) {
  path <- withr::local_tempfile()
  expect_silent(draw_on(open_png(path, attr(plot, "size"), dpi = 40), plot))
  expect_gt(file.size(path), 1000)
}

test_that("all figures are drawn, without a warning", {
  figures <- figures_of(scores, effects, make_cells(), make_sweep())
  expect_setequal(names(figures), FIGURES)
  for (plot in figures) {
    expect_words(plot, "Model")
    expect_drawn(plot)
  }
})

test_that("a figure is written as SVG and as PNG", {
  svg <- withr::local_tempfile()
  png <- withr::local_tempfile()
  expect_null(render(make_sweep(), "Model", figure = "sweep", svg = svg, png = png))
  expect_match(readLines(svg, 1), "xml")
  expect_equal(readBin(png, "raw", 4)[2:4], charToRaw("PNG"))
})

test_that("all figures are drawn for a single fact, layer, window and method", {
  figures <- figures_of(
    make_scores(1, 4, "ROME", "fact_forcing"), make_effects(1, 4, 1), make_cells(4),
    make_sweep("ROME")[3, ]
  )
  for (plot in figures) expect_drawn(plot)
})

test_that("all figures say in words that there is nothing to show", {
  figures <- figures_of(scores[0, ], effects[0, ], make_cells()[0, ], make_sweep()[0, ])
  for (plot in figures) expect_words(plot, "Nothing to show: ")
  expect_drawn(figures$sweep)
})

test_that("all figures are drawn of missing numbers and of constant ones", {
  for (value in c(NaN, 0.5)) {
    broken <- list(
      scores = make_scores(methods = c("ROME", "MEMIT"), problems = "fact_forcing"),
      effects = make_effects(windows = 5), cells = make_cells(), settings = make_sweep("ROME")
    )
    broken$scores[names(SCORES)] <- value
    broken$effects[names(EFFECTS)] <- value
    broken$cells$p_restored <- value
    broken$settings[c("rewrite", "neighbourhood", "objective")] <- value
    for (plot in do.call(figures_of, broken)) expect_drawn(plot)
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

test_that("layers are zero-based in the data and one-based in the figures", {
  expect_words(rewrite_vs_effect(scores, effects, "Model"), "12 facts")
  panels <- levels(rewrite_vs_effect(scores, effects, "Model")$data$panel)
  expect_equal(panels, c("Edit layer 3", "Edit layer 11", "Edit layer 21"))
  drawn <- ggplot2::ggplot_build(tracing_effect_by_layer(effects, "Model"))$data[[2]]
  expect_equal(range(drawn$x), c(1, 30))
})

test_that("peaks are the lowest layer with the largest effect, and need one above zero", {
  effects <- data.frame(
    case_id = rep(c("a", "b"), each = 3), window = 5L, layer = rep(0:2, 2),
    fraction_max = c(0.1, 0.4, 0.4, 0, 0, NaN)
  )
  peaks <- peak_layers(effects, "fraction_max")
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
  expect_words(rewrite_vs_effect(scores, effects, "Model", window = 10), "MLP, 10 layers restored")
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

test_that("a figure that does not exist is refused with the list of those that do", {
  expect_error(
    render(effects, "Model", figure = "pie", svg = "a", png = "b"),
    "figure: 'pie' is not one of r2_by_problem"
  )
})

test_that("a table without its columns is refused", {
  expect_error(tracing_peaks(effects["layer"], "Model"), "effects: missing columns case_id, module")
  expect_error(heatmap(effects, "Model"), "cells: missing columns token, token_text")
})
