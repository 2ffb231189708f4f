# Is a localizer worth using? The score at the layer that it would choose for each fact, less the
# score at the one layer that is best for other facts. Choices are made by the other half of the
# facts (cross-fitting), averaged over many halvings, and every step is made anew without each fact
# in turn (jackknife). Halves and their average make the statistic smooth: the best of several
# layers jumps when one fact goes, and a jackknife of a single division into ten is twice as wide.

# localizer: the layer with the largest (mean score + common within-fact slope x value); own_peak:
# the layer where the fact's own values peak, also one that is edited for this fact alone; random:
# the mean over layers; oracle: the best layer by one half of the prompts, scored on the other.
CHOICES <- c("localizer", "own_peak", "random", "oracle")

# One row for each localizer, module, window, problem, method, score and strategy. `mean`: the score
# at its layers; `fixed`: at the best fixed layer, of the same facts; `value`: their difference,
# with its intervals over facts and relations, and `p` of the t over facts. `splits`: how many
# halvings, `seed`: of their draw. Other arguments: see choice_table.
value_table <- function(scores, effects, score_names, problems = NULL, methods = NULL,
                        primary = NULL, correct_only = TRUE, splits = 20L, seed = 0L) {
  deal <- dealt_of(study_facts(scores), splits, seed)
  table <- over_cells(
    scores, effects, score_names, problems, methods, correct_only,
    function(cells) bind_columns(lapply(cells, value_rows, deal = deal))
  )
  with_adjusted(table, primary)
}

value_rows <- function(cell, deal) {
  rows <- lapply(CHOICES, function(strategy) {
    c(cell$keys, strategy = strategy, cell_counts(cell), list(
      n_chosen = 0L, best_layer = NA_integer_, slope = NA_real_, mean = NA_real_, fixed = NA_real_,
      value = NA_real_, low = NA_real_, high = NA_real_, relation_low = NA_real_,
      relation_high = NA_real_, p = NA_real_, reason = cell$reason
    ))
  })
  if (is_choice(cell)) {
    dealt <- deal(rownames(cell$score))
    first <- dealt$first
    facts <- gains_of(cell, first, dealt$group)
    relations <- if (length(unique(cell$relation)) >= MIN_ROWS) {
      gains_of(cell, first, codes(cell$relation))
    }
    rows <- lapply(rows, fill_choice, cell = cell, facts = facts, relations = relations)
  }
  bind_columns(rows)
}

MOST_GROUPS <- 40L # of a jackknife, which makes every step anew without each

# A function of names: `first`, TRUE where a fact is in the first half, [facts, splits]; `group`,
# what the jackknife leaves out at once, each fact for itself or many facts dealt into groups of the
# same size. One draw for all `facts`, of which any are then dealt as evenly as can be, and at
# random: facts in order are in order of their relations, and groups that take of each relation
# alike hide how relations differ.
dealt_of <- function(facts, splits, seed) {
  keys <- seeded(seed, matrix(stats::runif(length(facts) * (splits + 1L)), length(facts)))
  rownames(keys) <- facts
  function(names) {
    ranks <- matrix(apply(keys[names, , drop = FALSE], 2, rank), length(names))
    halves <- ranks[, seq_len(splits), drop = FALSE] <= length(names) / 2
    groups <- rep_len(seq_len(min(length(names), MOST_GROUPS)), length(names))
    list(first = halves, group = codes(groups[ranks[, splits + 1L]]))
  }
}

fill_choice <- function(row, cell, facts, relations) {
  gain <- facts$gains[[row$strategy]]
  if (is.null(gain)) {
    row$reason <- joined_reasons(row$reason, no_choice(row$strategy))
    return(row)
  }
  row$n_chosen <- if (row$strategy == "own_peak") sum(!is.na(cell$own)) else row$n_facts
  row$best_layer <- as.integer(colnames(cell$score))[most_frequent(facts$fixed)]
  if (row$strategy == "localizer") row$slope <- facts$slope
  row$mean <- gain$own[1]
  row$fixed <- gain$fixed[1]
  row$value <- gain$own[1] - gain$fixed[1]
  interval <- jackknife_interval(row$value, (gain$own - gain$fixed)[-1])
  row[ENDS] <- interval[ENDS]
  row$p <- two_sided_p(interval)
  by_relation <- relations$gains[[row$strategy]]
  if (!is.null(by_relation)) {
    row[RELATION_ENDS] <-
      jackknife_interval(row$value, (by_relation$own - by_relation$fixed)[-1])[ENDS]
  }
  row$reason <- joined_reasons(row$reason, too_few(row), if (is.na(row$p)) no_interval(row))
  row
}

no_interval <- function(row) {
  if (row$n_facts < MIN_ROWS) return(NULL) # said already
  if (row$n_chosen < MIN_ROWS) {
    return(sprintf("too few facts edited at their own peak (%d)", row$n_chosen))
  }
  "the same layers whichever fact is left out: no interval"
}

no_choice <- function(strategy) {
  switch(strategy,
    localizer = "no values of the localizer", own_peak = "no fact is edited at its own peak",
    oracle = "no halves of the score's prompts"
  )
}

# Mean scores at each strategy's layers (`own`) and at the fixed layers for the same facts
# (`fixed`), of all facts and without each group, averaged over the halvings; NULL for a strategy
# that the cell cannot have. With them the fixed layers of all facts and the slope.
gains_of <- function(cell, first, group) {
  splits <- seq_len(ncol(first))
  fits <- lapply(splits, function(s) cross_fit(cell$score, cell$value, first[, s], group))
  gains <- lapply(stats::setNames(nm = CHOICES), function(strategy) {
    won <- lapply(fits, function(fit) {
      chosen <- chosen_scores(strategy, cell, fit)
      if (!is.null(chosen)) mean_gain(chosen, fit)
    })
    if (is.null(won[[1]])) return(NULL)
    average <- function(name) Reduce(`+`, lapply(won, `[[`, name)) / length(splits)
    list(own = average("own"), fixed = average("fixed"))
  })
  list(
    gains = gains, fixed = unlist(lapply(fits, function(fit) fit$fixed[, 1])),
    slope = fits[[1]]$slope
  )
}

# Scores at a strategy's layers, `own` [facts, 1 or leave-outs], and those that the fixed layer is
# read from, `base` [facts, layers]; NULL where the strategy has none.
chosen_scores <- function(strategy, cell, fits) {
  halves <- list(cell$score_half1, cell$score_half2)
  base <- cell$score
  has_halves <- !any(vapply(halves, is.null, TRUE)) && !anyNA(unlist(halves))
  if (strategy == "oracle" && has_halves) {
    share <- share_of_first(cell$score, halves[[1]], halves[[2]])
    base <- share * halves[[1]] + (1 - share) * halves[[2]]
  }
  own <- switch(strategy,
    localizer = if (!is.null(fits$informed)) at_layers(base, fits$informed),
    own_peak = if (!all(is.na(cell$own))) as.matrix(unname(cell$own)),
    random = as.matrix(unname(rowMeans(base))),
    oracle = if (has_halves) as.matrix(crossed_oracle(halves[[1]], halves[[2]], share))
  )
  if (!is.null(own)) list(own = own, base = base)
}

# Of scores [facts, layers], those at `layers` [facts, any].
at_layers <- function(score, layers) {
  matrix(score[seq_len(nrow(score)) + nrow(score) * (layers - 1L)], nrow(score))
}

most_frequent <- function(places) {
  choices <- sort(unique(places))
  choices[which.max(tabulate(match(places, choices)))]
}

# Chosen by each half and scored on the other; `share`: of the prompts, the first half's.
crossed_oracle <- function(first, second, share) {
  at_best <- function(by, of) {
    as.vector(at_layers(of, as.matrix(max.col(by, ties.method = "first"))))
  }
  (1 - share) * at_best(first, second) + share * at_best(second, first)
}

# Means over the facts that have a choice, of all and without each group: scores at the chosen and
# at the fixed layers.
mean_gain <- function(won, fits) {
  has <- which(!is.na(won$own[, 1]))
  left <- fits$left[has, , drop = FALSE]
  fixed <- at_layers(won$base, fits$fixed)[has, , drop = FALSE]
  own <- won$own[has, , drop = FALSE]
  total <- if (ncol(own) == 1) as.vector(crossprod(left, own)) else colSums(own * left)
  list(own = total / colSums(left), fixed = colSums(fixed * left) / colSums(left))
}

# ---- cross-fitting -------------------------------------------------------------------------------

# Each fact's layers by the facts of the other half: `informed` and `fixed`, [facts, leave-outs],
# the first column with all facts, the others without each group (whose own rows then say nothing:
# not `left`). `slope`: of all facts. The model is score = fact + layer + slope x value.
cross_fit <- function(score, value, first, group) {
  own <- value - rowMeans(value)
  within <- score - rowMeans(score)
  columns <- cbind(1, score, within, own, within * own, own^2)
  n <- max(group) + 1L
  fixed <- matrix(1L, nrow(score), n)
  informed <- if (!anyNA(value)) fixed
  for (test in split(seq_along(first), first)) {
    fit <- fits_without(columns * (!seq_along(first) %in% test), group)
    fixed[test, ] <- rep(max.col(fit$layer, ties.method = "first"), each = length(test))
    if (!is.null(informed)) informed[test, ] <- informed_layers(own[test, , drop = FALSE], fit)
  }
  slope <- if (!is.null(informed)) fits_without(columns, group)$slope[1]
  left <- outer(group, seq_len(n) - 1L, `!=`) + 0
  list(fixed = fixed, informed = informed, slope = slope, left = left)
}

# The layer of the largest predicted score, the lowest of several, [facts, leave-outs].
informed_layers <- function(own, fit) {
  best <- matrix(-Inf, nrow(own), length(fit$slope))
  layers <- matrix(1L, nrow(own), length(fit$slope))
  level <- fit$layer - fit$slope * fit$value
  for (l in seq_len(ncol(own))) {
    predicted <- outer(own[, l], fit$slope) + rep(level[, l], each = nrow(own))
    better <- which(predicted > best) # NaN, without a fact to learn from, is not
    best[better] <- predicted[better]
    layers[better] <- l
  }
  layers
}

# Layers' means of score and of within-fact value, [leave-outs, layers], and the slope, from all
# training facts and without each group. `columns`: 1, then each layer's score, within-fact score y,
# within-fact value x, y x and x^2; zero for facts not trained on.
fits_without <- function(columns, group) {
  all <- colSums(columns)
  sums <- rbind(all, rep(all, each = max(group)) - rowsum(columns, group), deparse.level = 0)
  layers <- (ncol(columns) - 1L) %/% 5L
  part <- function(k) sums[, 1L + (k - 1L) * layers + seq_len(layers), drop = FALSE]
  n <- sums[, 1]
  xx <- rowSums(part(5)) - rowSums(part(3)^2) / n
  xy <- rowSums(part(4)) - rowSums(part(2) * part(3)) / n
  slope <- ifelse(xx > 1e-14 * rowSums(part(5)), xy / xx, 0)
  list(layer = part(1) / n, value = part(3) / n, slope = slope)
}
