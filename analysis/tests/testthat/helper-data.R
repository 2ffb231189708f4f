# Made-up tables of the workflow's shape, and the code under test.

FILES <- c(
  "frames.R", "groups.R", "regressions.R", "success.R", "clusters.R", "folds.R",
  "reliability.R", "grids.R", "shuffles.R", "multiplicity.R", "choice.R", "within.R",
  "value.R", "power.R", "arena.R", "verdict.R", "planted.R", "simulate.R", "together.R",
  "said.R"
)
for (file in FILES) source(file.path("..", "..", file), encoding = "UTF-8")

# The analyses that are made for every group.
ALL <- list(
  r2 = r2_table, correlations = correlation_table, clusters = cluster_table,
  out_of_fold = out_of_fold_table
)

# Those of the choice of a layer, for every cell.
CHOSEN <- list(
  choice = function(...) choice_table(..., permutations = 50L), within = within_table,
  value = function(...) value_table(..., splits = 2L),
  arena = function(...) arena_of(...)
)

# The arena's table with the tables that it joins. `...`: problems and methods.
arena_of <- function(scores, effects, score_names, ..., permutations = 50L, seed = 0L,
                     hits = NULL, controls = NULL) {
  arena_table(
    scores, effects, choice_table(scores, effects, score_names, ..., permutations = permutations),
    within_table(scores, effects, score_names, ...),
    value_table(scores, effects, score_names, ..., splits = 2L), score_names, ...,
    hits = hits, controls = controls, permutations = permutations, seed = seed
  )
}

cases <- function(n) sprintf("case%02d", seq_len(n))

make_effects <- function(facts = 12, layers = 0:29, windows = c(1, 3, 5, 10), modules = "mlp",
                         seed = 1) {
  set.seed(seed)
  grid <- expand.grid(
    layer = as.integer(layers), window = as.integer(windows), module = modules,
    case_id = cases(facts), stringsAsFactors = FALSE
  )
  peak <- stats::setNames(sample(3:12, facts, replace = TRUE), cases(facts))
  hump <- exp(-((grid$layer - peak[grid$case_id]) / (3 + grid$window / 2))^2)
  noise <- abs(stats::rnorm(nrow(grid), 0, 0.03))
  grid$value <- pmin(1, hump * (0.15 + 0.06 * grid$window) + noise)
  data.frame(
    model = "tiny", dataset = "facts", relation_id = "P1", localizer = "tracing", grid,
    p_clean = 0.4, p_corrupted = 0.05, effect_max = 0.35 * grid$value,
    effect_last = 0.2 * grid$value, fraction_last = 0.6 * grid$value, peak_token = 2L
  )
}

make_scores <- function(facts = 12, layers = c(2, 10, 20), methods = names(METHODS)[1:4],
                        problems = names(PROBLEMS), seed = 2) {
  set.seed(seed)
  grid <- expand.grid(
    layer = as.integer(layers), case_id = cases(facts), method = methods, problem = problems,
    stringsAsFactors = FALSE
  )
  strength <- c("FT-1" = 0.35, "FT-5" = 0.5, ROME = 0.9, MEMIT = 0.75)[grid$method]
  strength[is.na(strength)] <- 0.6
  unit <- function(x) pmin(1, pmax(2e-8, x))
  n <- nrow(grid)
  rewrite <- unit(strength - 0.012 * grid$layer + stats::rnorm(n, 0, 0.12))
  scores <- data.frame(
    model = "tiny", dataset = "facts", relation_id = "P1", grid, target = "Paris",
    is_correct = TRUE, listed = TRUE, at_peak = FALSE, rewrite = rewrite,
    paraphrase = unit(rewrite - 0.15 + stats::rnorm(n, 0, 0.1)),
    neighbourhood = unit(1 - 0.25 * rewrite + stats::rnorm(n, 0, 0.05)),
    essence = unit(0.8 + stats::rnorm(n, 0, 0.1)), text = 0.9,
    ngram_entropy_before = 6, ngram_entropy_after = 5.9, update_norm = 1, steps = 20L,
    status = "ok"
  )
  for (kind in c("rewrite", "paraphrase", "neighbourhood")) {
    scores[[paste0(kind, "_log_odds")]] <- stats::qlogis(pmin(0.999, pmax(0.001, scores[[kind]])))
  }
  scores$overall <- rowMeans(scores[c("rewrite", "paraphrase", "neighbourhood")])
  scores$overall_essence <- rowMeans(scores[c("rewrite", "paraphrase", "neighbourhood", "essence")])
  scores
}

make_cells <- function(layers = 0:29) {
  tokens <- c(
    "The", " mother", " tongue", " of", " Dan", "iel", "le", " Darr", "ieux", " is", " the"
  )
  grid <- expand.grid(layer = as.integer(layers), token = seq(4L, length(tokens) - 1L))
  spot <- exp(-((grid$layer - 6) / 4)^2) * exp(-(grid$token - 8)^2)
  late <- exp(-((grid$layer - 20) / 4)^2) * (grid$token == 10)
  data.frame(
    case_id = "case01", module = "mlp", window = 10L, grid, token_text = tokens[grid$token + 1],
    is_subject = grid$token <= 8, p_clean = 0.61, p_corrupted = 0.04,
    p_restored = 0.04 + 0.4 * spot + 0.25 * late, status = "ok"
  )
}

make_sweep <- function(methods = names(METHODS)[1:4]) {
  rows <- lapply(seq_along(methods), function(i) {
    rewrite <- c(0.11, 0.34, 0.62, 0.93, 0.995) - 0.03 * i
    rewrite[5] <- 0.995
    neighbourhood <- c(0.99, 0.97, 0.9, 0.66, 0.41) - 0.02 * i
    objective <- (rewrite + neighbourhood) / 2
    settings <- if (methods[i] %in% c("FT-1", "FT-5")) {
      sprintf("eps=%g", 10^-(5:1))
    } else {
      sprintf("lambda=%d,clamp=0.75", c(1000, 5000, 15000, 20000, 50000))
    }
    data.frame(
      model = "tiny", method = methods[i], problem = "error_injection", setting = settings,
      rewrite = rewrite, paraphrase = rewrite, neighbourhood = neighbourhood,
      objective = objective, admissible = rewrite <= 0.99, aim_low = 0, aim_high = 0.99,
      chosen = objective == max(objective), n_facts = 12L, layer = 10L
    )
  })
  do.call(rbind, rows)
}

# Matrices [facts, layers] of a score that follows its value, and of relations.
make_choice <- function(facts = 30, layers = 5, follows = 0.5, seed = 4) {
  set.seed(seed)
  names <- list(cases(facts), seq_len(layers))
  value <- matrix(stats::rnorm(facts * layers), facts, dimnames = names)
  score <- follows * value + stats::rnorm(length(value)) + rep(sin(seq_len(layers)), each = facts)
  list(score = score, value = value, relation = rep(letters[1:6], length.out = facts))
}

# The same as frames; `more`: columns for the scores, from matrices.
as_frames <- function(study, layers = seq_len(ncol(study$score)), more = list()) {
  grid <- data.frame(
    model = "tiny", dataset = "facts", case_id = rep(rownames(study$score), ncol(study$score)),
    layer = rep(as.integer(layers), each = nrow(study$score)),
    relation_id = rep(study$relation, ncol(study$score))
  )
  more <- lapply(c(list(rewrite = study$score), more), as.vector)
  list(
    scores = data.frame(grid,
      method = "ROME", problem = "fact_forcing", listed = TRUE, at_peak = FALSE,
      is_correct = TRUE, status = "ok", more
    ),
    effects = data.frame(grid,
      localizer = "tracing", module = "mlp", window = 5L, p_corrupted = NA_real_,
      value = as.vector(study$value)
    )
  )
}
