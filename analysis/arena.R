# Which localizer tells where to edit? All are compared on the same facts, edits and layers, by how
# well each fact's order of layers agrees with the order by its values; beside it stand A, B and C,
# each over the facts that it has.

# The one table of all localizers. One row for each problem, method, score and localizer (module,
# window). Of the tables `choice`, `value` (its strategy `localizer`) and `within`, as they are:
# `gain` (A), `value` (C), `r` with its `ceiling` (B), each with its interval, p and what p is
# adjusted to, and its own table's reason (`gain_reason` and so on). `control`: one of `controls`.
# Of `hits` (planted.R) `found`, the share of planted facts that the localizer finds, and its like.
# Computed here, `rank_r`: mean over facts of Spearman's correlation over layers, layers' means
# removed, with the interval of Student's t of its log odds between -1 and 1. `behind`: less than
# the best one's by; `p_adjusted`: of that difference, paired over facts, by one flip of signs over
# all pairs of localizers (max-T); `with_best`: it is not below .05. As description: `hit`, how
# often the value peaks at the best layer, and `regret`, what is lost there against the best layer,
# each beside the mean of its own shuffles; that of regret has the p of choice_table. `passes`: what
# the localizer costs, in forward passes a fact. Other arguments: see choice_table.
arena_table <- function(scores, effects, choice, within, value, score_names, hits = NULL,
                        problems = NULL, methods = NULL, controls = NULL, correct_only = TRUE,
                        permutations = 2000L, seed = 0L) {
  table <- compared_table(
    scores, effects, score_names, problems, methods, correct_only, permutations, seed
  )
  table$control <- table$localizer %in% controls
  of_use <- value[value$strategy %in% "localizer", , drop = FALSE]
  table <- with_columns(table, choice, "choice", c(
    with_ends("gain"), shuffle_low = "shuffle_low", shuffle_high = "shuffle_high"
  ))
  table <- with_columns(table, of_use, "value", with_ends("value"))
  table <- with_columns(table, within, "within", c(with_ends("r"), ceiling = "ceiling"))
  table <- with_hits(table, hits)
  table[c(setdiff(names(table), c("passes", "reason")), "passes", "reason")]
}

# Of the table of hits, by the names that its columns have here.
FOUND <- c(
  found = "hits", found_low = "low", found_high = "high", found_chance = "chance",
  found_shuffle_low = "shuffle_low", found_shuffle_high = "shuffle_high", found_p = "p",
  found_p_adjusted = "p_adjusted", found_placebo = "placebo"
)

# Without hits their columns are empty, and `found_reason` says so.
with_hits <- function(table, hits) {
  if (is.null(hits)) {
    for (name in names(FOUND)) table[[name]] <- rep(NA_real_, nrow(table))
    table$found_reason <- rep("no planted facts to find: see analysis.planted", nrow(table))
    return(table)
  }
  with_columns(table, hits, "hits", FOUND, names(empty_localizer()))
}

# New names of an estimate's columns in its own table.
with_ends <- function(name) {
  new <- c(name, paste(name, c("low", "high", "p", "p_adjusted"), sep = "_"))
  stats::setNames(c(name, ENDS, "p", "p_adjusted"), new)
}

# Columns of another table, under new names, at the rows of the same keys; with its reasons, which
# also stand alone in `NAME_reason`, by the first new name.
with_columns <- function(table, from, name, columns, keys = CHOICE_KEYS) {
  require_columns(from, c(keys, columns, "reason"), name)
  key <- function(frame) {
    do.call(paste, c(lapply(unname(as.list(frame[keys])), as.character), sep = "\r"))
  }
  at <- match(key(table), key(from))
  table[names(columns)] <- from[at, columns]
  reasons <- ifelse(is.na(at), sprintf("no row in the table %s", name), from$reason[at])
  table[[paste0(names(columns)[1], "_reason")]] <- reasons
  table$reason <- vapply(seq_along(at), function(i) {
    joined_reasons(unique(unlist(strsplit(c(table$reason[i], reasons[i]), "; ", fixed = TRUE))))
  }, "")
  table
}

# What only all localizers of a pair together tell.
compared_table <- function(scores, effects, score_names, problems, methods, correct_only,
                           permutations, seed) {
  check_scores(scores, score_names)
  check_localized(effects)
  shuffles <- shuffles_of(study_facts(scores), permutations, seed)
  signs <- signs_of(study_facts(scores), permutations, seed)
  scores <- in_layers(scores)
  origin <- c("model", "dataset")
  parts <- list()
  for (setting in split_by(unique(rbind(scores[origin], effects[origin])), origin)) {
    localizers <- localizers_of(of_setting(effects, setting$keys))
    mine <- of_setting(scores, setting$keys)
    for (outcome in outcomes_of(mine, score_names, problems, methods, correct_only)) {
      cells <- lapply(localizers, function(localizer) {
        cell <- cell_of(outcome, localizer)
        cell$keys <- c(setting$keys, cell$keys)
        cell
      })
      parts[[length(parts) + 1]] <- arena_rows(cells, shuffles, signs)
    }
  }
  if (length(parts) == 0) return(arena_rows(list(empty_cell()), shuffles, signs)[0, ])
  table <- bind_columns(parts)
  for (rows in split(seq_len(nrow(table)), table$score)) {
    table$hit_p_adjusted[rows] <- stats::p.adjust(table$hit_p[rows], "BH")
  }
  arrange_cells(table)
}

arena_rows <- function(cells, shuffles, signs) {
  cells <- same_layers(cells)
  able <- vapply(cells, can_rank, TRUE)
  facts <- Reduce(intersect, lapply(cells[able], function(cell) rownames(cell$score)))
  cells[able] <- lapply(cells[able], only_facts, facts = facts)
  able <- vapply(cells, can_rank, TRUE)
  ranks <- vapply(cells[able], rank_agreement, numeric(length(facts)))
  ranks <- matrix(ranks, length(facts), sum(able), dimnames = list(facts, NULL))
  standing <- standing_of(ranks, signs)
  rows <- lapply(cells, arena_row, shuffles = shuffles)
  at <- which(able)
  for (k in seq_along(at)) {
    rows[[at[k]]][c("rank_r", ENDS)] <- correlation_interval(ranks[, k])[c("mean", ENDS)]
    rows[[at[k]]][names(standing)] <- lapply(standing, `[`, k)
  }
  bind_columns(rows)
}

# Localizers are compared at the layers that most of them have; one that has others is left out.
same_layers <- function(cells) {
  layers <- vapply(cells, function(cell) toString(colnames(cell$score)), "")
  able <- vapply(cells, can_associate, TRUE)
  usual <- names(which.max(table(layers[able])))
  Map(function(cell, apart) c(cell, apart = apart), cells, able & !layers %in% usual)
}

can_rank <- function(cell) can_associate(cell) && !cell$apart

only_facts <- function(cell, facts) {
  at <- match(facts, rownames(cell$score))
  cell$n_dropped <- cell$n_dropped + nrow(cell$score) - length(at)
  for (part in c("score", "value")) cell[[part]] <- cell[[part]][at, , drop = FALSE]
  cell$peak <- peak_shares(cell$value)
  cell$relation <- cell$relation[at]
  cell$own <- cell$own[at]
  cell
}

# A fact whose values or scores are all the same has no order to agree with.
rank_agreement <- function(cell) {
  r <- fact_rank_correlations(within_part(cell$score), within_part(cell$value))
  ifelse(is.na(r), 0, r)
}

arena_row <- function(cell, shuffles) {
  answer <- c(cell$keys, cell_counts(cell), list(
    rank_r = NA_real_, low = NA_real_, high = NA_real_, behind = NA_real_, p_adjusted = NA_real_,
    with_best = NA, hit = NA_real_, hit_chance = NA_real_, hit_p = NA_real_,
    hit_p_adjusted = NA_real_, regret = NA_real_, regret_chance = NA_real_,
    passes = if (is.null(cell$passes)) NA_real_ else cell$passes,
    reason = joined_reasons(cell$reason, no_association(cell))
  ))
  if (cell$apart) {
    answer$reason <- joined_reasons(answer$reason, "not at the layers of the others: not compared")
  }
  if (!can_rank(cell)) return(answer)
  best <- peak_shares(cell$score)
  hit <- prescriptive(best, cell$peak)
  gain <- prescriptive(cell$score, cell$peak)
  answer$hit <- hit$at_peak
  answer$hit_chance <- hit$at_peak - hit$estimate
  answer$regret <- mean(row_max(cell$score)) - gain$at_peak
  answer$regret_chance <- answer$regret + gain$estimate
  if (answer$n_facts >= MIN_ROWS && !same_peaks(cell$peak)) {
    sums <- shuffled_sums(list(best), cell$peak, shuffles(rownames(best)))
    answer$hit_p <- permutation_p(hit$estimate, shuffled_gain(sums[1, ], best, cell$peak))
  }
  answer$reason <- joined_reasons(
    answer$reason, too_few(answer),
    if (same_peaks(cell$peak)) "all facts peak at the same layer: shuffles change nothing"
  )
  answer
}

# ---- pairs ---------------------------------------------------------------------------------------

# A function of names that gives random signs, [flips, facts].
signs_of <- function(facts, flips, seed) {
  signs <- seeded(seed, matrix(sample(c(-1, 1), length(facts) * flips, TRUE), flips))
  colnames(signs) <- facts
  function(names) signs[, names, drop = FALSE]
}

# Each localizer against the one with the largest mean. `ranks`: [facts, localizers]. A pair's
# statistic is the sum of its differences over the root of their squares' sum, which no flip
# changes.
standing_of <- function(ranks, signs) {
  n <- ncol(ranks)
  if (n == 0) return(list())
  means <- colMeans(ranks)
  best <- which.max(means)
  answer <- list(
    behind = means[best] - means, p_adjusted = rep(NA_real_, n), with_best = rep(NA, n)
  )
  if (nrow(ranks) < MIN_ROWS) return(answer)
  products <- crossprod(ranks)
  spread <- sqrt(pmax(outer(diag(products), diag(products), `+`) - 2 * products, 0))
  largest <- largest_flipped(signs(rownames(ranks)) %*% ranks, spread)
  observed <- ifelse(spread[best, ] > 1e-9, nrow(ranks) * answer$behind / spread[best, ], 0)
  answer$p_adjusted <- vapply(observed, function(t) {
    (1 + sum(largest >= t * (1 - 1e-9))) / (length(largest) + 1)
  }, 0)
  answer$with_best <- answer$p_adjusted >= 0.05
  lapply(answer, unname)
}

# The largest statistic of any pair in every flip. `flipped`: [flips, localizers].
largest_flipped <- function(flipped, spread) {
  pairs <- which(upper.tri(spread) & spread > 1e-9, arr.ind = TRUE)
  largest <- rep(0, nrow(flipped))
  for (k in seq_len(nrow(pairs))) {
    difference <- abs(flipped[, pairs[k, 1]] - flipped[, pairs[k, 2]])
    largest <- pmax(largest, difference / spread[pairs[k, 1], pairs[k, 2]])
  }
  largest
}
