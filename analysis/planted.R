# Planted facts: does a localizer put a fact where it was trained? The layers were drawn at random,
# so permuting them among the facts gives the exact distribution of any statistic under "its place
# makes no difference" (randomisation inference; Fisher 1935).

# The localizer that knows: its value is largest at the layer where the fact was trained.
TRUTH <- "planted"

# One row for each localizer, module and window but the truth itself. `hits`: share of planted facts
# whose peak lies within `within` layers of their place; `low`, `high`: 95 % (Wilson);
# `chance`: the same with another fact's place, averaged over all others; `shuffle_low`,
# `shuffle_high`: where 95 % of permutations lie; `p`: of hits; `distance`: mean number of layers
# between peak and place; `placebo`: hits of facts that have no place, each with every planted one.
hits_table <- function(effects, within = 1L, permutations = 2000L, seed = 0L) {
  check_localized(effects)
  groups <- localizers_of(effects)
  truth <- Filter(function(group) group$keys$localizer %in% TRUTH, groups)
  others <- Filter(function(group) !group$keys$localizer %in% TRUTH, groups)
  places <- if (length(truth) > 0) fact_peaks(truth[[1]]$value) else integer()
  shuffles <- shuffles_of(names(places), permutations, seed)
  rows <- lapply(others, function(group) {
    c(group$keys, hits_row(fact_peaks(group$value), places, within, shuffles))
  })
  if (length(rows) == 0) rows <- list(c(as.list(empty_localizer()), hits_row(NULL, NULL, 1L, NULL)))
  table <- bind_columns(rows)
  table <- table[do.call(order, c(unname(as.list(table[1:3])), method = "radix")), ]
  table$p_adjusted <- stats::p.adjust(table$p, "BH")
  rownames(table) <- NULL
  table[c(setdiff(names(table), "reason"), "reason")]
}

# The layer of each fact's largest value, the first of several; a layer at which no fact has a value
# is left out, and so are facts that lack one elsewhere.
fact_peaks <- function(value) {
  value <- value[, colSums(!is.na(value)) > 0, drop = FALSE]
  value <- value[stats::complete.cases(value), , drop = FALSE]
  if (length(value) == 0) return(stats::setNames(integer(), character()))
  at <- max.col(value, ties.method = "first")
  stats::setNames(as.integer(colnames(value))[at], rownames(value))
}

hits_row <- function(peaks, places, within, shuffles) {
  planted <- intersect(names(peaks), names(places))
  placebo <- setdiff(names(peaks), names(places))
  answer <- list(
    n_facts = length(planted), n_placebo = length(placebo), hits = NA_real_, low = NA_real_,
    high = NA_real_, chance = NA_real_, shuffle_low = NA_real_, shuffle_high = NA_real_,
    p = NA_real_, distance = NA_real_, placebo = NA_real_, reason = ""
  )
  if (length(planted) < MIN_ROWS) {
    answer$reason <- sprintf("too few planted facts (%d, at least %d)", length(planted), MIN_ROWS)
    return(answer)
  }
  peak <- peaks[planted]
  place <- places[planted]
  near <- abs(outer(peak, place, `-`)) <= within # [facts, facts]: a peak, and another's place
  n <- length(planted)
  answer$hits <- mean(diag(near))
  answer[ENDS] <- score_interval(sum(diag(near)), n)
  answer$chance <- (sum(near) - sum(diag(near))) / (n * (n - 1))
  order <- shuffles(planted)
  shuffled <- colMeans(matrix(near[cbind(rep(seq_len(n), ncol(order)), as.vector(order))], n))
  answer[c("shuffle_low", "shuffle_high")] <-
    as.list(stats::quantile(shuffled, c(0.025, 0.975), names = FALSE))
  answer$p <- permutation_p(answer$hits - mean(near), shuffled - mean(near))
  answer$distance <- mean(abs(peak - place))
  if (length(placebo) > 0) {
    answer$placebo <- mean(abs(outer(peaks[placebo], place, `-`)) <= within)
  }
  answer
}

# The 95 % interval of a share by its score test (Wilson 1927): inside [0, 1], also for 0 or n hits.
score_interval <- function(hits, n, z = stats::qnorm(0.975)) {
  centre <- (hits + z^2 / 2) / (n + z^2)
  half <- z / (n + z^2) * sqrt(hits * (n - hits) / n + z^2 / 4)
  # which rounding leaves a little beside 0 and 1
  list(if (hits == 0) 0 else centre - half, if (hits == n) 1 else centre + half)
}
