# The figures, and made-up tables of the statistics' shape for them.

# labels.yaml in plain R, which has no YAML: kinds, and below each a line for each name. A test in
# Python holds that this is what the workflow's figures are given.
read_labels <- function(path) {
  lines <- grep("^ *(#|$)", readLines(path, encoding = "UTF-8"), value = TRUE, invert = TRUE)
  kind <- ifelse(startsWith(lines, " "), NA, sub(":$", "", lines))
  kind <- kind[!is.na(kind)][cumsum(!is.na(kind))]
  below <- startsWith(lines, " ")
  entries <- lapply(sub("^ *[^:]+: *", "", lines[below]), read_entry)
  names(entries) <- sub("^ *([^:]+):.*", "\\1", lines[below])
  split(entries, factor(kind[below], unique(kind)))
}

# "{label: Both, colour: green}" as a named list, or a text in quotation marks.
read_entry <- function(text) {
  if (!startsWith(text, "{")) return(gsub("\"", "", text, fixed = TRUE))
  pairs <- strsplit(gsub("^[{]|[}]$", "", text), ", (?=[a-z]+: )", perl = TRUE)[[1]]
  stats::setNames(as.list(sub("^[a-z]+: ", "", pairs)), sub(": .*", "", pairs))
}

# where source() puts what follows
assign("LABELS", read_labels(file.path("..", "..", "labels.yaml")), envir = globalenv())

FIGURE_FILES <- c(
  "theme", "figures", "figures_r2", "figures_scores", "figures_scatter", "figures_tracing",
  "figures_heatmap", "figures_choice", "figures_arena", "figures_sweep", "figures_together",
  "figures_said"
)
for (file in FIGURE_FILES) source(file.path("..", "..", paste0(file, ".R")), encoding = "UTF-8")

# A row for each problem and method, with what every table of the statistics starts with.
make_statistics <- function(problems = names(PROBLEMS), methods = names(METHODS)[1:4], facts = 12L,
                            seed = 3) {
  set.seed(seed)
  grid <- expand.grid(method = methods, problem = problems, stringsAsFactors = FALSE)
  data.frame(
    model = "tiny", dataset = "facts", localizer = "tracing", module = "mlp", window = 5L,
    effect = "value",
    grid[c("problem", "method")], score = "rewrite", n = 3L * facts, n_facts = facts,
    reason = ""
  )
}

draws <- function(table, low, high) stats::runif(nrow(table), low, high)

make_out_of_fold <- function(...) {
  table <- make_statistics(...)
  table$r2_layer <- draws(table, -0.1, 0.9)
  table$r2_tracing <- draws(table, -0.2, 0.1)
  table$r2_both <- table$r2_layer - draws(table, -0.1, 0.4)
  table$diff <- table$r2_both - table$r2_layer
  table
}

# The statistics of the choice of a layer, from made-up studies: real tables.
# The effects, and where each fact was planted.
with_places <- function(effects) {
  at <- c("localizer", "module", "window")
  known <- merge(effects, effects[1, at], by = at)[names(effects)]
  known$localizer <- "planted"
  known$value <- as.numeric(known$layer == 7)
  rbind(effects, known)
}

make_chosen <- function(scores = make_scores(), effects = make_effects(windows = 5)) {
  score <- "rewrite"
  others <- effects
  others[c("localizer", "value")] <- list("zeroing", rev(effects$value))
  effects <- rbind(effects, others)
  given <- function(make, ...) {
    make(scores, effects, score, problems = names(PROBLEMS), methods = names(METHODS)[1:4], ...)
  }
  list(
    choice = given(choice_table, permutations = 50L), within = given(within_table),
    value = given(value_table, splits = 2L), arena = given(arena_of),
    hits = hits_table(with_places(effects), permutations = 50L),
    power = power_table(effects)
  )
}

make_reliability <- function(facts = 12L, windows = c(1L, 5L), modules = "mlp") {
  table <- expand.grid(
    effect = c("value", "effect_max", "fraction_last", "effect_last"), window = windows,
    module = modules, localizer = "tracing", stringsAsFactors = FALSE
  )
  table$n_facts <- facts
  table$r <- seq(0.7, 0.9, length.out = nrow(table))
  table$r_within <- table$r - 0.1
  table$spearman_brown <- 2 * table$r / (1 + table$r)
  table$spearman_brown_within <- 2 * table$r_within / (1 + table$r_within)
  table$spearman_brown_edited <- table$spearman_brown_within - 0.2
  table$reason <- ""
  table
}

make_success <- function(scores) {
  rates <- lapply(split_by(scores, c("problem", "method", "layer")), function(group) {
    data.frame(group$keys, n = nrow(group$rows), mean = mean(group$rows$rewrite))
  })
  table <- if (length(rates) > 0) do.call(rbind, rates)
  if (is.null(table)) {
    table <- data.frame(problem = "", method = "", layer = 0L, n = 0L, mean = 0)[0, ]
  }
  table$rewrite_success <- table$mean
  table$paraphrase_success <- table$mean^2
  table$neighbourhood_success <- 1 - table$mean / 2
  table$harmonic <- table$mean
  table$reason <- rep("", nrow(table))
  table[names(table) != "mean"]
}

# What a figure says, and that it comes out without a warning.

words_of <- function(plot, built = ggplot2::ggplot_build(plot)) {
  layers <- lapply(built$data, function(layer) as.character(layer$label))
  paste(c(unlist(plot$labels[c("title", "subtitle", "caption")]), unlist(layers)), collapse = " ")
}

expect_drawn <- function(plot, built = ggplot2::ggplot_build(plot)) {
  path <- withr::local_tempfile()
  open <- function() open_png(path, attr(plot, "size"), dpi = 40)
  expect_silent(draw_on(open(), ggplot2::ggplot_gtable(built)))
  expect_gt(file.size(path), 1000)
}
