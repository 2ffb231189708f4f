# What all statistics of a choice share: facts' localizer vectors permuted whole (randomisation
# test), and whole facts, or whole relations, left out (jackknife; Arvesen 1969).

# ---- permutations --------------------------------------------------------------------------------

study_facts <- function(scores) sort(unique(as.character(scores$case_id)), method = "radix")

# A function of names that gives permutations of their places, [facts, permutations]. One draw for
# all `facts`: the same set is permuted alike each time, so that its statistics have a joint
# distribution (Westfall and Young 1993), and sets that differ by some facts share a part of it.
shuffles_of <- function(facts, permutations, seed) {
  keys <- seeded(seed, matrix(stats::runif(length(facts) * permutations), length(facts)))
  rownames(keys) <- facts
  known <- list()
  function(names) {
    key <- paste(match(names, facts), collapse = " ")
    if (is.null(known[[key]])) {
      mine <- keys[names, , drop = FALSE]
      columns <- as.vector(col(mine))
      ordered <- order(columns, as.vector(mine), method = "radix")
      known[[key]] <<- matrix((ordered - 1L) %% length(names) + 1L, length(names))
    }
    known[[key]]
  }
}

# Sum over facts i and layers l of first[[k]][i, l] * second[permuted i, l], for each k and
# permutation: [k, permutations]. Layer by layer, so that BLAS does the work.
shuffled_sums <- function(first, second, places) {
  total <- 0
  for (l in seq_len(ncol(second))) {
    left <- vapply(first, function(cells) cells[, l], numeric(nrow(second)))
    right <- second[, l][places]
    dim(right) <- dim(places)
    total <- total + crossprod(matrix(left, nrow(second)), right)
  }
  total
}

# The shuffled sums of those cells that are `able` and have enough facts, NULL for the others.
# `first`, `second`: a matrix of each cell; `alike`: cells of the same facts, layers and word have
# the same second matrix, and are shuffled together.
shuffled_cells <- function(first, second, able, shuffles, alike = rep("", length(first))) {
  answers <- vector("list", length(first))
  able <- which(able & vapply(second, NROW, 0L) >= MIN_ROWS)
  keys <- vapply(able, function(i) {
    paste(c(alike[i], rownames(second[[i]]), "at", colnames(second[[i]])), collapse = " ")
  }, "")
  for (together in split(able, keys)) {
    one <- second[[together[1]]]
    sums <- shuffled_sums(first[together], one, shuffles(rownames(one)))
    for (i in seq_along(together)) answers[[together[i]]] <- sums[i, ]
  }
  answers
}

# Share of permutations at least as far from zero as what was observed, which is one of them
# (Phipson and Smyth 2010). Rounding does not tell equal statistics apart.
permutation_p <- function(observed, permuted) {
  far <- abs(permuted) >= abs(observed) - 1e-9 * max(abs(permuted), abs(observed))
  (1 + sum(far)) / (length(permuted) + 1)
}

# ---- leaving out ---------------------------------------------------------------------------------

# The interval of Student's t from a statistic without each group in turn: estimate, standard error,
# degrees of freedom and ends, on the scale of `transform` (a function and its inverse).
jackknife_interval <- function(estimate, without, transform = list(identity, identity)) {
  n <- length(without)
  answer <- list(low = NA_real_, high = NA_real_, se = NA_real_, df = n - 1L, t = NA_real_)
  centre <- transform[[1]](estimate)
  left <- transform[[1]](without)
  if (n < MIN_ROWS || !all(is.finite(c(centre, left)))) return(answer)
  se <- sqrt((n - 1) / n * sum((left - mean(left))^2))
  if (se <= 1e-12 * max(abs(left))) return(answer) # the same without any: nothing to go by
  answer$se <- se
  half <- stats::qt(0.975, n - 1) * answer$se
  answer$low <- transform[[2]](centre - half)
  answer$high <- transform[[2]](centre + half)
  answer$t <- centre / answer$se
  answer
}

two_sided_p <- function(interval) 2 * stats::pt(-abs(interval$t), interval$df)

FISHER <- list(function(r) atanh(pmin(pmax(r, -1 + 1e-12), 1 - 1e-12)), tanh)

ENDS <- c("low", "high")
RELATION_ENDS <- c("relation_low", "relation_high")

# Why an answer with cell_counts has no interval.
too_few <- function(answer) {
  words <- function(n, what) {
    if (n < MIN_ROWS) sprintf("too few %s for an interval (%d, at least %d)", what, n, MIN_ROWS)
  }
  c(words(answer$n_facts, "facts"), words(answer$n_relations, "relations"))
}
