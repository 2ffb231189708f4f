# What layer and tracing effect predict for facts that the regression has not seen: R2 out of fold,
# the folds made of whole facts. Unlike R2 it does not grow with the number of coefficients, and it
# is below zero where a model predicts worse than the mean.

# What a pooled effect adds to the layer (`diff`) may say which facts are edited well, and nothing
# of where. So each half of it is added alone, too (Mundlak 1978, Econometrica 46): a fact's mean
# effect over its edit layers (`diff_between`), each layer's distance from it (`diff_within`).

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
    diff = NA_real_, diff_between = NA_real_, diff_within = NA_real_,
    reason = unfit(used, nrow(rows))
  )
  if (answer$reason == "" && answer$n_facts < 2) answer$reason <- "a single fact: no folds"
  if (answer$reason != "") return(answer)
  fold <- fold_of(used$case_id, folds, seed)
  answer$folds <- max(fold)
  errors <- fold_errors(used, fold)
  r2 <- as.list(1 - errors / errors[["mean"]])
  no_tracing <- unusable_tracing(used)
  if (no_tracing == "") answer$r2_tracing <- r2$tracing
  if (answer$n_layers > 1) answer$r2_layer <- r2$layer
  if (answer$n_layers > 1 && no_tracing == "") {
    answer$r2_both <- r2$both
    answer$diff <- r2$both - r2$layer
    answer$diff_between <- r2$between - r2$layer
    answer$diff_within <- r2$within - r2$layer
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
  used <- c(as.list(used[c("score", "tracing", "layer")]), halves(used$tracing, used$case_id))
  errors <- vapply(seq_len(max(fold)), function(k) {
    train <- lapply(used, `[`, fold != k)
    test <- lapply(used, `[`, fold == k)
    vapply(predictions(train, test), function(predicted) sum((test$score - predicted)^2), 0)
  }, c(mean = 0, layer = 0, tracing = 0, both = 0, between = 0, within = 0))
  rowSums(errors)
}

# The mean effect of each row's fact, and the row's distance from it: zero where it is rounding.
halves <- function(tracing, case_id) {
  code <- match(case_id, unique(case_id))
  between <- as.vector(rowsum(tracing, code) / tabulate(code))[code]
  within <- tracing - between
  within[which(abs(within) <= 1e-12 * max(abs(tracing)))] <- 0
  list(between = between, within = within)
}

# Of the test rows' scores by the least-squares fits to the training rows: their mean, each layer's,
# a line in the effect, a line for each layer in the effect and in its halves. A layer that the
# training rows lack is predicted by their mean; an effect that is constant among them has no slope.
predictions <- function(train, test) {
  overall <- rep(mean(train$score), length(test$score))
  one <- line_fits(train$score, train$tracing, rep(0L, length(train$score)))
  line_each <- function(train_effect, test_effect) {
    each <- line_fits(train$score, train_effect, train$layer)
    at <- match(test$layer, each$group)
    line <- each$score[at] + each$slope[at] * (test_effect - each$tracing[at])
    ifelse(is.na(at), overall, line)
  }
  list(
    mean = overall, layer = line_each(0 * train$score, 0 * test$score),
    tracing = one$score + one$slope * (test$tracing - one$tracing),
    both = line_each(train$tracing, test$tracing),
    between = line_each(train$between, test$between),
    within = line_each(train$within, test$within)
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
