# Many comparisons: one primary comparison, said before the study is run, stands for itself; the
# other problems and methods of its score are adjusted as one family by the maximum of their
# permuted statistics (Westfall and Young 1993); all else by the false discovery rate within its
# table, score and strategy (Benjamini and Hochberg 1995).

ROLES <- c("primary", "secondary", "exploratory")

# `role` and `p_adjusted` of a table with CHOICE_KEYS and `p`; `p_family`, where the table has it,
# adjusts the secondary comparisons, which are exploratory without it; so are all strategies but the
# localizer's own. `primary`: a list by names of CHOICE_KEYS; those that it lacks agree with any.
# Strategies are families of their own: one that is always rejected, such as a random layer, would
# let through others.
with_adjusted <- function(table, primary = NULL) {
  table$role <- roles_of(table, primary)
  if (!"p_family" %in% names(table)) table$role[table$role == "secondary"] <- "exploratory"
  table$p_adjusted <- table$p
  secondary <- table$role == "secondary"
  if (any(secondary)) table$p_adjusted[secondary] <- table$p_family[secondary]
  exploratory <- which(table$role == "exploratory")
  kinds <- as.list(table[intersect(c("score", "strategy"), names(table))])
  for (rows in split(exploratory, lapply(kinds, `[`, exploratory), drop = TRUE)) {
    table$p_adjusted[rows] <- stats::p.adjust(table$p[rows], "BH")
  }
  table$p_family <- NULL
  table[c(setdiff(names(table), "reason"), "reason")]
}

# `p_family` of a localizer's cells: for each score the adjusted p of all problems and methods.
# `observed`: statistics, whose shuffled values (`permuted`, a vector of each cell or NULL) have a
# mean of zero; standardised, since scores differ in their spread.
with_family <- function(table, observed, permuted) {
  table$p_family <- rep(NA_real_, nrow(table))
  known <- which(!vapply(permuted, is.null, TRUE))
  for (family in split(known, table$score[known])) {
    spread <- vapply(permuted[family], stats::sd, 0)
    shuffled <- base::sweep(do.call(cbind, permuted[family]), 2, spread, `/`)
    table$p_family[family] <- max_t(observed[family] / spread, shuffled)
  }
  table[c(setdiff(names(table), "reason"), "reason")]
}

roles_of <- function(table, primary) {
  if (length(primary) == 0) return(rep("exploratory", nrow(table)))
  unknown <- setdiff(names(primary), CHOICE_KEYS)
  if (length(unknown) > 0) {
    stop(sprintf("primary: no such key %s (there are: %s)", toString(unknown),
      toString(CHOICE_KEYS)
    ), call. = FALSE)
  }
  agrees <- function(keys) {
    same <- lapply(keys, function(key) table[[key]] %in% primary[[key]])
    Reduce(`&`, same, rep(TRUE, nrow(table)))
  }
  family <- agrees(setdiff(names(primary), c("problem", "method")))
  role <- ifelse(agrees(names(primary)), "primary", ifelse(family, "secondary", "exploratory"))
  if ("strategy" %in% names(table)) role[table$strategy != "localizer"] <- "exploratory"
  role
}

# Step-down adjusted p-values. `observed`: [statistics]; `permuted`: [permutations, statistics], the
# same permutations for all.
max_t <- function(observed, permuted) {
  ranked <- order(-abs(observed))
  far <- abs(permuted)[, rev(ranked), drop = FALSE]
  for (k in seq_len(ncol(far))[-1]) far[, k] <- pmax(far[, k], far[, k - 1])
  largest <- far[, rev(seq_len(ncol(far))), drop = FALSE] # of this and all that rank below
  reached <- base::sweep(largest, 2, abs(observed)[ranked] * (1 - 1e-9), `>=`)
  p <- cummax((1 + colSums(reached)) / (nrow(permuted) + 1))
  p[order(ranked)]
}
