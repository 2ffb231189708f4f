# What layer and tracing effect predict for facts that the regression has not seen: R2 out of fold,
# the folds made of whole facts. Unlike R2 it does not grow with the number of coefficients, and it
# is below zero where a model predicts worse than the mean.

# `folds`: how many, at most one a fact; `seed`: of their draw. Other arguments: see over_groups.
out_of_fold_table <- function(scores, effects, score_names, measures = "value",
                              problems = NULL, methods = NULL, correct_only = TRUE,
                              folds = 10L, seed = 0L) {
  over_groups(
    scores, effects, score_names, measures, problems, methods, correct_only,
    function(rows) out_of_fold_row(rows, folds, seed)
  )
}

out_of_fold_row <- function(rows, folds, seed) {
  used <- complete_rows(rows)
  answer <- beside(
    counts_of(used, rows),
    folds = NA_integer_, r2_layer = NA_real_, r2_tracing = NA_real_, r2_both = NA_real_,
    diff = NA_real_, reason = unfit(used, nrow(rows))
  )
  if (answer$reason == "" && answer$n_facts < 2) answer$reason <- "a single fact: no folds"
  if (answer$reason != "") return(answer)
  fold <- fold_of(used$case_id, folds, seed)
  answer$folds <- max(fold)
  errors <- fold_errors(used, fold)
  if (answer$n_layers > 1) answer$r2_layer <- 1 - errors[["layer"]] / errors[["mean"]]
  no_tracing <- unusable_tracing(used)
  if (no_tracing == "") {
    answer$r2_tracing <- 1 - errors[["tracing"]] / errors[["mean"]]
    if (answer$n_layers > 1) {
      answer$r2_both <- 1 - errors[["both"]] / errors[["mean"]]
      answer$diff <- answer$r2_both - answer$r2_layer
    }
  }
  answer$reason <- joined_reasons(if (answer$n_layers == 1) "a single edit layer", no_tracing)
  answer
}

# The fold of every row, 1 to at most `folds`: facts in alphabetical order are dealt out at random,
# as evenly as can be.
fold_of <- function(case_id, folds, seed) {
  facts <- sort(unique(case_id), method = "radix")
  dealt <- rep_len(seq_len(min(folds, length(facts))), length(facts))
  seeded(seed, dealt[sample.int(length(facts))])[match(case_id, facts)]
}

# Sums of squared errors over all rows, each predicted from the other folds.
fold_errors <- function(used, fold) {
  used <- as.list(used[c("score", "tracing", "layer")])
  errors <- vapply(seq_len(max(fold)), function(k) {
    train <- lapply(used, `[`, fold != k)
    test <- lapply(used, `[`, fold == k)
    vapply(predictions(train, test), function(predicted) sum((test$score - predicted)^2), 0)
  }, c(mean = 0, layer = 0, tracing = 0, both = 0))
  rowSums(errors)
}

# Of the test rows' scores by the least-squares fits to the training rows. A layer that the training
# rows lack is predicted by their mean; an effect that is constant among them has no slope.
predictions <- function(train, test) {
  overall <- rep(mean(train$score), length(test$score))
  one <- line_fits(train$score, train$tracing, rep(0L, length(train$score)))
  each <- line_fits(train$score, train$tracing, train$layer)
  at <- match(test$layer, each$group)
  unseen <- is.na(at)
  level <- ifelse(unseen, overall, each$score[at])
  list(
    mean = overall, layer = level,
    tracing = one$score + one$slope * (test$tracing - one$tracing),
    both = level + ifelse(unseen, 0, each$slope[at] * (test$tracing - each$tracing[at]))
  )
}

# Least-squares lines within groups: mean score, mean effect and slope of each.
line_fits <- function(score, tracing, group) {
  groups <- sort(unique(group))
  code <- match(group, groups)
  size <- tabulate(code)
  sums <- function(values) as.vector(rowsum(values, code))
  means <- list(score = sums(score) / size, tracing = sums(tracing) / size)
  x <- tracing - means$tracing[code]
  sxx <- sums(x^2)
  slope <- ifelse(sxx > 1e-14 * sums(tracing^2), sums(x * (score - means$score[code])) / sxx, 0)
  c(list(group = groups, slope = slope), means)
}
