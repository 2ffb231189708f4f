# Does a fact's score follow its localizer's values from layer to layer? Facts' and layers' means
# are removed from both, so that neither facts that are easy everywhere nor layers that are good for
# all can make an association.

# One row for each localizer, module, window, problem, method and score. `r`, `slope`: of the
# within-fact parts; `spearman`: the mean of facts' rank correlations over layers. `low`, `high` of
# r: by the jackknife over facts on Fisher's z (Student's t, also of `p`), and over relations. Facts
# that differ more between layers in both would make permutations of facts reject too often.
# `equivalent`: |r| < `bound` by two one-sided tests (Schuirmann 1987), with their power if r is 0.
# `reliability_value`, `reliability_score`, `repeated`, `ceiling`: see fill_ceiling;
# `r_corrected`: r over its ceiling. `covariate`: what else was removed. Arguments: see
# choice_table. `costs`: what edits by single methods cost (see outcomes_of); there r is below zero
# where an edit costs less at layers with larger values.
within_table <- function(scores, effects, score_names, problems = NULL, methods = NULL,
                         primary = NULL, correct_only = TRUE, costs = NULL) {
  table <- over_cells(
    scores, effects, score_names, problems, methods, correct_only,
    function(cells) bind_columns(lapply(lapply(cells, with_covariate), within_row)), costs
  )
  with_adjusted(table, primary)
}

# In forcing the score starts from the probability on corrupted inputs, which the localizer's values
# are computed from, too.
with_covariate <- function(cell) {
  known <- length(cell$p_corrupted) > 0 && all(is.finite(cell$p_corrupted))
  coupled <- cell$keys$problem %in% "fact_forcing" && known && !no_variance(cell$p_corrupted)
  cell$covariate <- if (coupled) cell$p_corrupted
  cell$removed <- if (coupled) "p_corrupted x layer" else ""
  cell
}

can_associate <- function(cell) {
  is_choice(cell) && nrow(cell$score) > 2 && varies_within(cell$score) && varies_within(cell$value)
}

# Whether facts differ in how they differ between layers.
varies_within <- function(cells) {
  own <- cells - rowMeans(cells)
  sum(base::sweep(own, 2, colMeans(own))^2) > 1e-14 * sum(cells^2)
}

within_row <- function(cell) {
  answer <- c(cell$keys, cell_counts(cell), list(
    covariate = cell$removed, r = NA_real_, low = NA_real_, high = NA_real_,
    relation_low = NA_real_, relation_high = NA_real_, p = NA_real_, slope = NA_real_,
    spearman = NA_real_, spearman_low = NA_real_, spearman_high = NA_real_,
    bound = bound_for(nrow(cell$score), ncol(cell$score)), equivalence_p = NA_real_,
    equivalent = NA, equivalence_power = NA_real_, reliability_value = NA_real_,
    reliability_score = NA_real_, repeated = 0L, ceiling = NA_real_, r_corrected = NA_real_,
    r_corrected_low = NA_real_, r_corrected_high = NA_real_, reason = cell$reason
  ))
  if (!can_associate(cell)) {
    answer$reason <- joined_reasons(cell$reason, no_association(cell))
    return(answer)
  }
  facts <- within_correlations(cell$score, cell$value, cell$covariate)
  answer$r <- facts$r
  answer$slope <- facts$slope
  interval <- jackknife_interval(facts$r, facts$without, transform = FISHER)
  answer[ENDS] <- interval[ENDS]
  relations <- within_correlations(cell$score, cell$value, cell$covariate, cell$relation)
  answer[RELATION_ENDS] <-
    jackknife_interval(facts$r, relations$without, transform = FISHER)[ENDS]
  answer$p <- two_sided_p(interval)
  ranks <- fact_rank_correlations(
    within_part(cell$score, cell$covariate), within_part(cell$value, cell$covariate)
  )
  names <- c("spearman", "spearman_low", "spearman_high")
  answer[names] <- correlation_interval(ranks)[c("mean", ENDS)]
  answer <- fill_equivalence(answer, interval)
  fill_ceiling(answer, cell, facts)
}

no_association <- function(cell) {
  if (!is_choice(cell) || can_associate(cell)) return(NULL)
  if (nrow(cell$score) < 3) return(sprintf("too few facts (%d, at least 3)", nrow(cell$score)))
  if (!varies_within(cell$score)) return("the score's differences between layers are all alike")
  "the localizer's differences between layers are all alike"
}

# ---- within-fact parts ---------------------------------------------------------------------------

# What is left of scores or values, [facts, layers], without the means of facts and layers, and the
# covariate's line in each layer.
within_part <- function(cells, covariate = NULL) {
  own <- cells - rowMeans(cells)
  own <- base::sweep(own, 2, colMeans(own))
  if (is.null(covariate)) return(own)
  line <- covariate - mean(covariate)
  own - line %o% (as.vector(crossprod(own, line)) / sum(line^2))
}

# r and slope, and r without each group of facts: all from sums, which one group is taken from at a
# time. Layers' means and the covariate's lines are those of the facts that are left.
within_correlations <- function(score, value, covariate = NULL, group = seq_len(nrow(score))) {
  own <- list(y = score - rowMeans(score), x = value - rowMeans(value))
  group <- codes(group)
  sums <- function(cells) {
    cells <- as.matrix(cells)
    all <- colSums(cells)
    rbind(all, base::sweep(-rowsum(cells, group), 2, all, `+`))
  }
  n <- as.vector(sums(rep(1, nrow(score))))
  layers <- lapply(own, sums)
  lines <- if (!is.null(covariate)) {
    mean_p <- as.vector(sums(covariate)) / n
    list(
      cells = Map(function(cells, all) sums(cells * covariate) - mean_p * all, own, layers),
      squares = as.vector(sums(covariate^2)) - n * mean_p^2
    )
  }
  product <- function(a, b) {
    total <- as.vector(sums(rowSums(own[[a]] * own[[b]]))) - rowSums(layers[[a]] * layers[[b]]) / n
    if (is.null(lines)) return(total)
    total - rowSums(lines$cells[[a]] * lines$cells[[b]]) / lines$squares
  }
  xy <- product("x", "y")
  xx <- product("x", "x")
  r <- xy / sqrt(pmax(xx * product("y", "y"), 0))
  r <- unname(r)
  list(r = r[1], slope = unname(xy[1] / xx[1]), without = r[-1])
}

# Spearman's correlation of each fact over layers, NA where one of them is constant.
fact_rank_correlations <- function(first, second) {
  x <- row_ranks(first)
  y <- row_ranks(second)
  x <- x - rowMeans(x)
  y <- y - rowMeans(y)
  scale <- sqrt(rowSums(x^2) * rowSums(y^2))
  unname(ifelse(scale > 0, rowSums(x * y) / scale, NA_real_))
}

# Ranks within rows; equal values share their mean rank.
row_ranks <- function(cells) {
  ranks <- matrix(0.5, nrow(cells), ncol(cells))
  for (l in seq_len(ncol(cells))) {
    ranks <- ranks + (cells > cells[, l]) + 0.5 * (cells == cells[, l])
  }
  ranks
}

# ---- equivalence ---------------------------------------------------------------------------------

# |r| below it counts as none: what so many facts and layers can hope to tell.
bound_for <- function(n_facts, n_layers) if (n_facts >= 200 && n_layers >= 6) 0.1 else 0.2

fill_equivalence <- function(answer, interval) {
  if (is.na(interval$se)) return(answer)
  bound <- atanh(answer$bound)
  z <- atanh(answer$r)
  answer$equivalence_p <- stats::pt((abs(z) - bound) / interval$se, interval$df)
  answer$equivalent <- answer$equivalence_p < 0.05
  reach <- bound / interval$se - stats::qt(0.95, interval$df)
  answer$equivalence_power <- max(0, 2 * stats::pt(reach, interval$df) - 1)
  answer
}

# ---- reliability ---------------------------------------------------------------------------------

# Reliabilities at the edited layers, of the within-fact parts: the correlation of halves (of noise
# rows; of prompts) stepped up to the whole (see stepped_up); of a score, where some
# facts' edits were made again with other contexts, that of the two edits instead (`repeated`: how
# many facts). No r can be expected above the root of their product, its ceiling (Spearman 1904);
# the ratio is jackknifed whole.
fill_ceiling <- function(answer, cell, facts) {
  value <- half_reliability(cell$value_half1, cell$value_half2, cell$covariate)
  score <- repeat_reliability(cell$score, cell$score_again, cell$covariate)
  answer$repeated <- score$n
  if (is.na(score$whole)) {
    score <- half_reliability(cell$score_half1, cell$score_half2, cell$covariate, cell$score)
  }
  answer[c("reliability_value", "reliability_score")] <- list(value$whole, score$whole)
  ratio <- function(r, x, y) r / sqrt(ifelse(x > 0 & y > 0, x * y, NA_real_))
  answer$ceiling <- 1 / ratio(1, value$whole, score$whole)
  answer$r_corrected <- ratio(facts$r, value$whole, score$whole)
  answer[c("r_corrected_low", "r_corrected_high")] <- jackknife_interval(
    answer$r_corrected, ratio(facts$without, value$without, score$without)
  )[ENDS]
  answer$reason <- joined_reasons(cell$reason, too_few(answer), no_ceiling(answer))
  answer
}

no_ceiling <- function(answer) {
  absent <- is.na(unlist(answer[c("reliability_value", "reliability_score")]))
  c(
    if (absent[1]) "no halves of the localizer's values that differ within facts",
    if (absent[2]) "no halves of the score's prompts that differ within facts",
    if (!any(absent) && is.na(answer$ceiling)) "a reliability below zero: no ceiling"
  )
}

# Of the facts with two edits at every layer; without any other fact it is what it was.
repeat_reliability <- function(score, again, covariate) {
  both <- if (is.null(again)) logical(nrow(score)) else rowSums(is.na(again)) == 0
  answer <- list(n = sum(both), whole = NA_real_, without = rep(NA_real_, length(both)))
  cells <- lapply(list(score, again), function(cells) cells[both, , drop = FALSE])
  if (answer$n < MIN_ROWS || !all(vapply(cells, varies_within, TRUE))) return(answer)
  found <- within_correlations(cells[[1]], cells[[2]], covariate[both])
  answer$whole <- found$r
  answer$without <- rep(found$r, length(both))
  answer$without[both] <- found$without
  answer
}

# `whole`: of halves that may have more and fewer prompts, their mean.
half_reliability <- function(first, second, covariate, whole = NULL) {
  usable <- function(half) !is.null(half) && !anyNA(half) && varies_within(half)
  if (!usable(first) || !usable(second)) return(list(whole = NA_real_, without = NA_real_))
  halves <- within_correlations(first, second, covariate)
  share <- if (is.null(whole)) 0.5 else share_of_first(whole, first, second)
  list(whole = stepped_up(halves$r, share), without = stepped_up(halves$without, share))
}
