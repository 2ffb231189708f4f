# How much of an edit's success do the edit layer and the tracing effect explain?
#
# METHODS section 7 (Hase et al. 2023, tables 1 to 7): R2 of score ~ factor(layer), of score ~
# tracing, of score ~ factor(layer) * tracing, and the F test of the last against the first; the
# share that the last explains of what the first leaves (partial R2, also adjusted for its
# coefficients, which alone make Diff positive); and the correlation of score and tracing effect
# within each edit layer.

SUBSETS <- c("all", "concentrated")

# `subsets`: of SUBSETS, each giving its own rows. `published`: the paper's values by KEYS and
# subset, joined where these agree but for model and data set. Other arguments: see over_groups.
r2_table <- function(scores, effects, score_names, measures = "value",
                     problems = NULL, methods = NULL, correct_only = TRUE, subsets = "all",
                     published = NULL) {
  for (subset in subsets) require_choice(subset, SUBSETS, "subsets")
  table <- over_groups(
    scores, effects, score_names, measures, problems, methods, correct_only,
    function(rows) r2_rows(rows, subsets)
  )
  with_published(table, published)
}

# As r2_table, with one row per edit layer: Pearson's correlation (95 % interval by Fisher's z) and
# Spearman's (95 % interval by Bonett and Wright 2000).
correlation_table <- function(scores, effects, score_names, measures = "value",
                              problems = NULL, methods = NULL, correct_only = TRUE) {
  over_groups(
    scores, effects, score_names, measures, problems, methods, correct_only, correlation_rows
  )
}

# ---- R2 and the F test ---------------------------------------------------------------------------

r2_rows <- function(rows, subsets) {
  answers <- lapply(subsets, function(subset) {
    chosen <- if (subset == "all") rows else rows[rows$concentrated, , drop = FALSE]
    answer <- beside(subset = subset, r2_row(chosen))
    if (nrow(chosen) == 0 && nrow(rows) > 0) answer$reason <- "no fact's effect is concentrated"
    answer
  })
  bind_columns(answers)
}

PUBLISHED <- c(
  "published_layer", "published_tracing", "published_both", "published_diff", "published_n"
)

with_published <- function(table, published) {
  keys <- c(setdiff(KEYS, c("model", "dataset")), "subset")
  at <- rep(NA_integer_, nrow(table))
  if (!is.null(published)) {
    require_columns(published, c(keys, PUBLISHED), "published")
    require_unique(published, keys, "published")
    code <- function(frame) do.call(paste, c(unname(as.list(frame[keys])), sep = "\r"))
    at <- match(code(table), code(published))
  }
  columns <- lapply(stats::setNames(nm = PUBLISHED), function(column) {
    if (is.null(published)) rep(NA_real_, nrow(table)) else as.numeric(published[[column]])[at]
  })
  cbind(table[setdiff(names(table), "reason")], columns, table["reason"])
}

r2_row <- function(rows) {
  used <- complete_rows(rows)
  answer <- beside(
    counts_of(used, rows),
    r2_layer = NA_real_, r2_tracing = NA_real_, r2_both = NA_real_, diff = NA_real_,
    partial_r2 = NA_real_, partial_r2_adjusted = NA_real_,
    f = NA_real_, df1 = NA_integer_, df2 = NA_integer_, p = NA_real_,
    rmse_layer = NA_real_, rmse_both = NA_real_, mae_layer = NA_real_, mae_both = NA_real_,
    reason = unfit(used, nrow(rows))
  )
  if (answer$reason != "") return(answer)
  no_tracing <- unusable_tracing(used)
  if (no_tracing == "") answer$r2_tracing <- stats::cor(used$score, used$tracing)^2
  fits <- fit_by_layer(used$score, if (no_tracing == "") used$tracing, used$layer)
  answer <- fill_layer(answer, used$score, fits)
  answer <- fill_both(answer, used$score, fits)
  answer$reason <- joined_reasons(no_tracing, why_incomplete(answer, fits))
  answer
}

fill_layer <- function(answer, score, fits) {
  if (!has_layer_model(answer$n, fits)) return(answer)
  answer$r2_layer <- r_squared(score, fits$layer)
  answer$rmse_layer <- sqrt(mean(fits$layer^2))
  answer$mae_layer <- mean(abs(fits$layer))
  answer
}

fill_both <- function(answer, score, fits) {
  if (!has_both_model(answer$n, fits)) return(answer)
  answer$r2_both <- r_squared(score, fits$both)
  answer$rmse_both <- sqrt(mean(fits$both^2))
  answer$mae_both <- mean(abs(fits$both))
  answer$diff <- answer$r2_both - answer$r2_layer
  answer$df1 <- as.integer(fits$rank_both - fits$rank_layer)
  answer$df2 <- as.integer(answer$n - fits$rank_both)
  if (!fits_exactly(answer$r2_layer)) {
    answer$partial_r2 <- answer$diff / (1 - answer$r2_layer)
    per_df <- (answer$n - fits$rank_layer) / answer$df2
    answer$partial_r2_adjusted <- 1 - (1 - answer$partial_r2) * per_df
  }
  if (answer$df1 == 0 || fits_exactly(answer$r2_both)) return(answer)
  answer$f <- (answer$diff / answer$df1) / ((1 - answer$r2_both) / answer$df2)
  answer$p <- stats::pf(answer$f, answer$df1, answer$df2, lower.tail = FALSE)
  answer
}

why_incomplete <- function(answer, fits) {
  reason <- without_model(answer$n, fits)
  if (!is.null(reason) || is.null(fits$both)) return(reason)
  if (answer$df1 == 0) return("effect has no variance within any layer: no F test")
  if (fits_exactly(answer$r2_both)) return("layer and effect together fit exactly: no F test")
  NULL
}

# ---- correlations within a layer -----------------------------------------------------------------

correlation_rows <- function(rows) {
  layers <- sort(unique(rows$layer))
  if (length(layers) == 0) layers <- NA_integer_
  bind_columns(lapply(layers, function(layer) {
    beside(layer = layer, correlation_row(rows[rows$layer %in% layer, , drop = FALSE]))
  }))
}

correlation_row <- function(rows) {
  used <- complete_rows(rows)
  answer <- beside(
    n = nrow(used), n_dropped = nrow(rows) - nrow(used),
    pearson = NA_real_, pearson_low = NA_real_, pearson_high = NA_real_, pearson_p = NA_real_,
    spearman = NA_real_, spearman_low = NA_real_, spearman_high = NA_real_, spearman_p = NA_real_,
    reason = unfit(used, nrow(rows))
  )
  if (answer$reason == "") answer$reason <- unusable_tracing(used)
  if (answer$reason != "") return(answer)
  pearson <- stats::cor.test(used$score, used$tracing)
  # Ties rule out the exact test, and facts share scores (floors): the t approximation always.
  spearman <- stats::cor.test(used$score, used$tracing, method = "spearman", exact = FALSE)
  answer$pearson <- unname(pearson$estimate)
  answer$pearson_low <- pearson$conf.int[1]
  answer$pearson_high <- pearson$conf.int[2]
  answer$pearson_p <- pearson$p.value
  answer$spearman <- unname(spearman$estimate)
  interval <- spearman_interval(answer$spearman, answer$n)
  answer$spearman_low <- interval[1]
  answer$spearman_high <- interval[2]
  answer$spearman_p <- spearman$p.value
  answer
}

# Fisher's z with the variance (1 + r^2 / 2) / (n - 3) (Bonett and Wright 2000, Psychometrika 65).
spearman_interval <- function(r, n) {
  tanh(atanh(r) + c(-1, 1) * stats::qnorm(0.975) * sqrt((1 + r^2 / 2) / (n - 3)))
}
