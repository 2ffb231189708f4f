# What layer and tracing effect predict for a fact that the regression has not seen: R2 out of fold,
# each fact a fold. Unlike R2 it does not grow with the number of coefficients, and it is below zero
# where a model predicts worse than the mean. Fewer folds would leave it to their draw: ten of them
# moved the Diff of 24 facts by .1 and more.
#
# What a pooled effect adds to the layer (`diff`) may say which facts are edited well, and nothing
# of where. So each half of it is added alone, too (Mundlak 1978, Econometrica 46): a fact's mean
# effect over its edit layers (`diff_between`), each layer's distance from it (`diff_within`).

# Arguments: see over_groups.
out_of_fold_table <- function(scores, effects, score_names, measures = "value",
                              problems = NULL, methods = NULL, correct_only = TRUE) {
  over_groups(
    scores, effects, score_names, measures, problems, methods, correct_only, out_of_fold_row
  )
}

out_of_fold_row <- function(rows) {
  used <- complete_rows(rows)
  answer <- beside(
    counts_of(used, rows),
    r2_layer = NA_real_, r2_tracing = NA_real_, r2_both = NA_real_, diff = NA_real_,
    diff_between = NA_real_, diff_within = NA_real_, reason = unfit(used, nrow(rows))
  )
  if (answer$reason == "" && answer$n_facts < 2) answer$reason <- "a single fact: no other to fit"
  if (answer$reason != "") return(answer)
  errors <- lapply(predictions(used), function(predicted) sum((used$score - predicted)^2))
  r2 <- lapply(errors, function(error) 1 - error / errors$mean)
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

# Of every row's score by the least-squares fits to the other facts' rows: their mean, each layer's,
# a line in the effect, a line for each layer in the effect and in its halves. A layer that no other
# fact has is predicted by their mean.
predictions <- function(used) {
  nothing <- rep(0, nrow(used))
  half <- halves(used$tracing, used$case_id)
  fit <- function(effect, group) line_without(used$score, effect, group, used$case_id)
  overall <- fit(nothing, nothing)
  each_layer <- function(effect) {
    line <- fit(effect, used$layer)
    ifelse(is.nan(line), overall, line)
  }
  list(
    mean = overall, layer = each_layer(nothing), tracing = fit(used$tracing, nothing),
    both = each_layer(used$tracing), between = each_layer(half$between),
    within = each_layer(half$within)
  )
}

# The mean effect of each row's fact, and the row's distance from it: zero where it is rounding.
halves <- function(tracing, case_id) {
  between <- means_by(tracing, codes(case_id))
  within <- tracing - between
  within[which(abs(within) <= 1e-12 * max(abs(tracing)))] <- 0
  list(between = between, within = within)
}

# Each row's score by the least-squares line of score in effect, of the rows of its group without
# those of its fact; NaN where there are none, without a slope where the effect is constant in them.
line_without <- function(score, effect, group, fact) {
  group <- codes(group)
  own <- codes(paste(group, fact))
  level <- means_by(score, group)
  x <- effect - means_by(effect, group)
  y <- score - level
  columns <- cbind(1, x, y, x^2, x * y)
  sums <- function(code) unname(rowsum(columns, code)[code, , drop = FALSE])
  whole <- sums(group)
  left <- whole - sums(own)
  n <- left[, 1]
  mean_x <- left[, 2] / n
  mean_y <- left[, 3] / n
  sxx <- left[, 4] - n * mean_x^2
  varies <- sxx > 1e-10 * whole[, 4] & sxx > 1e-14 * sum(effect^2)
  slope <- ifelse(varies, (left[, 5] - n * mean_x * mean_y) / sxx, 0)
  level + mean_y + slope * (x - mean_x)
}

# As stats::ave, in a tenth of its time, which thousands of groups would notice.
means_by <- function(values, code) as.vector(rowsum(values, code) / tabulate(code))[code]
