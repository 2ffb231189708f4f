# Does a localizer pick better layers than its own shuffle? For each fact the score at the layer
# where *its* values peak, less the score at the layer where another fact's peak, averaged over all
# others: the same layers equally often, and only the matching is broken (population average
# prescriptive effect: Imai and Li 2023). Layers' and facts' means cancel.

# One row for each localizer, module, window, problem, method and score. `gain`: that difference, on
# the score's scale. `p`: by permuting facts' whole vectors of values; `shuffle_low`,
# `shuffle_high`: where 95 % of shuffles lie. `low`, `high`: without each fact in turn (Student's
# t); `relation_low`, `relation_high`: without each relation. `p_family`: Westfall and Young's max-T
# over the problems and methods of the score. Other arguments: see over_groups.
choice_table <- function(scores, effects, score_names, problems = NULL, methods = NULL,
                         primary = NULL, correct_only = TRUE, permutations = 2000L, seed = 0L) {
  shuffles <- shuffles_of(study_facts(scores), permutations, seed)
  table <- over_cells(
    scores, effects, score_names, problems, methods, correct_only,
    function(cells) choice_rows(cells, shuffles)
  )
  with_adjusted(table, primary)
}

choice_rows <- function(cells, shuffles) {
  scores <- lapply(cells, `[[`, "score")
  peaks <- lapply(cells, `[[`, "peak")
  sums <- shuffled_cells(scores, peaks, vapply(cells, can_choose, TRUE), shuffles)
  permuted <- Map(shuffled_gain, sums, scores, peaks)
  permuted[!unlist(Map(are_different, permuted, scores))] <- list(NULL)
  rows <- bind_columns(Map(choice_row, cells, permuted))
  with_family(rows, rows$gain, permuted)
}

can_choose <- function(cell) is_choice(cell) && !same_peaks(cell$peak)

# Whether shuffles differ by more than rounding: they do not where peaks differ between layers alone
# at which all facts' scores are the same.
are_different <- function(permuted, score) {
  !is.null(permuted) && stats::sd(permuted) > 1e-9 * sqrt(mean((score - rowMeans(score))^2))
}

same_peaks <- function(peak) all(apply(peak, 2, no_variance))

choice_row <- function(cell, permuted) {
  answer <- c(cell$keys, cell_counts(cell), list(
    gain = NA_real_, low = NA_real_, high = NA_real_, relation_low = NA_real_,
    relation_high = NA_real_, at_peak = NA_real_, at_others = NA_real_,
    shuffle_low = NA_real_, shuffle_high = NA_real_, p = NA_real_, reason = cell$reason
  ))
  if (!is_choice(cell)) return(answer)
  if (!can_choose(cell)) {
    answer$reason <- joined_reasons(cell$reason, "all facts peak at the same layer")
    return(answer)
  }
  gain <- prescriptive(cell$score, cell$peak)
  answer$gain <- gain$estimate
  answer$at_peak <- gain$at_peak
  answer$at_others <- gain$at_peak - gain$estimate
  answer[ENDS] <- jackknife_interval(gain$estimate, gain$without)[ENDS]
  without <- prescriptive(cell$score, cell$peak, cell$relation)$without
  answer[RELATION_ENDS] <- jackknife_interval(gain$estimate, without)[ENDS]
  if (!is.null(permuted)) {
    answer$p <- permutation_p(gain$estimate, permuted)
    answer[c("shuffle_low", "shuffle_high")] <-
      as.list(stats::quantile(permuted, c(0.025, 0.975), names = FALSE))
  }
  answer$reason <- joined_reasons(
    cell$reason, too_few(answer), if (is.null(permuted) && answer$n_facts >= MIN_ROWS) {
      "facts score the same wherever others peak: shuffles change nothing"
    }
  )
  answer
}

# The difference, and the same without each group of facts (each fact by default): with D the sum of
# scores at the own peak and R that over all pairs of a fact and a peak, it is
# (n D - R) / (n (n - 1)). Groups that leave fewer than two facts give NaN.
prescriptive <- function(score, peak, group = seq_len(nrow(score))) {
  own <- rowSums(score * peak)
  group <- codes(group)
  n <- nrow(score)
  left <- function(cells) base::sweep(-rowsum(cells, group), 2, colSums(cells), `+`)
  u_statistic <- function(n, d, r) (n * d - r) / (n * (n - 1))
  list(
    estimate = u_statistic(n, sum(own), sum(colSums(score) * colSums(peak))),
    without = u_statistic(
      n - tabulate(group), sum(own) - as.vector(rowsum(own, group)),
      unname(rowSums(left(score) * left(peak)))
    ),
    at_peak = mean(own)
  )
}

# From the sum of scores at shuffled peaks to the statistic: over all permutations its mean is zero.
shuffled_gain <- function(sums, score, peak) {
  n <- nrow(score)
  if (!is.null(sums)) (n * sums - sum(colSums(score) * colSums(peak))) / (n * (n - 1))
}
