# Made-up studies of a known truth, by which the statistics are calibrated, and what of their tests
# and intervals fails there.

# What a study can be like, by name: `r`, the correlation of a fact's score and value from layer to
# layer; `ease`, how much facts that are easy at all layers, and differ more between them, have
# larger values everywhere; `ceiling`, the score (log odds) above which none is measured.
SITUATIONS <- list(
  null = list(r = 0, ease = 0, ceiling = Inf), confounded = list(r = 0, ease = 1, ceiling = Inf),
  ceiling = list(r = 0, ease = 0, ceiling = 1), strong = list(r = 0.6, ease = 0, ceiling = Inf)
)
SIZES <- list(
  c(facts = 11L, layers = 3L), c(facts = 40L, layers = 6L), c(facts = 120L, layers = 6L)
)

# Scores and effects of `studies` studies, each a `model` of its own, at layers that differ in their
# means. Both are measured twice (halves).
simulated_studies <- function(situation, facts, layers, studies, seed) {
  seeded(seed, {
    grid <- expand.grid(
      case_id = sprintf("case%03d", seq_len(facts)), layer = seq_len(layers),
      model = sprintf("study%04d", seq_len(studies)), stringsAsFactors = FALSE
    )
    fact <- as.integer(factor(paste(grid$model, grid$case_id)))
    ease <- situation$ease * stats::rnorm(max(fact))[fact]
    common <- stats::rnorm(nrow(grid))
    other <- stats::rnorm(nrow(grid))
    value <- 2 * ease + exp(ease / 2) * common + cos(grid$layer)
    follows <- situation$r * common + sqrt(1 - situation$r^2) * other
    score <- 2 * ease + exp(ease / 2) * follows + sin(grid$layer)
    study <- data.frame(grid, dataset = "simulated", relation_id = relation_of(grid$case_id))
    list(
      scores = data.frame(study,
        method = "editor", problem = "error_injection", listed = TRUE, is_correct = TRUE,
        status = "ok",
        measured_twice(score, situation$ceiling, "score")
      ),
      effects = data.frame(study,
        localizer = "localizer", module = "mlp", window = 1L, p_clean = 0.5, p_corrupted = 0.1,
        measured_twice(value, Inf, "value")
      )
    )
  })
}

# Of eight relations, in the facts' order, as the bundled facts have theirs.
relation_of <- function(case_id) {
  fact <- as.integer(factor(case_id))
  sprintf("P%d", ceiling(8 * fact / max(fact)))
}

measured_twice <- function(truth, ceiling, name) {
  halves <- lapply(1:2, function(half) pmin(truth + stats::rnorm(length(truth), 0, 0.5), ceiling))
  frame <- data.frame((halves[[1]] + halves[[2]]) / 2, halves[[1]], halves[[2]])
  stats::setNames(frame, paste0(name, c("", HALVES)))
}

# One row for each situation, size and statistic: `size`, the share of tests that reject where
# nothing is to be found (else `power`), and `coverage`, the share of intervals with the truth
# inside. The truth of A and B is what a study of many facts finds; that of C, whose choices are
# made by half the facts that there are, is its mean.
calibration_table <- function(studies = 400L, permutations = 499L, splits = 20L, seed = 0L,
                              situations = names(SITUATIONS), sizes = SIZES) {
  rows <- list()
  for (name in situations) {
    for (size in sizes) {
      made <- simulated_studies(
        SITUATIONS[[name]], size[["facts"]], size[["layers"]], studies, seed
      )
      truth <- true_values(SITUATIONS[[name]], size[["layers"]], seed)
      answers <- calibrated(made, truth, permutations, splits, seed)
      setting <- data.frame(situation = name, facts = size[["facts"]], layers = size[["layers"]])
      rows[[length(rows) + 1]] <- cbind(setting, answers, row.names = NULL)
    }
  }
  do.call(rbind, rows)
}

true_values <- function(situation, layers, seed) {
  if (situation$r == 0) return(list(gain = 0, r = 0, r_corrected = 0))
  many <- simulated_studies(situation, 20000L, layers, 1L, seed + 1L)
  choice <- choice_table(many$scores, many$effects, "score", permutations = 2L)
  within <- within_table(many$scores, many$effects, "score")
  list(gain = choice$gain, r = within$r, r_corrected = within$r_corrected)
}

calibrated <- function(made, truth, permutations, splits, seed) {
  choice <- choice_table(made$scores, made$effects, "score",
    permutations = permutations, seed = seed
  )
  within <- within_table(made$scores, made$effects, "score")
  corrected <- data.frame(low = within$r_corrected_low, high = within$r_corrected_high)
  value <- value_table(made$scores, made$effects, "score", splits = splits, seed = seed)
  value <- value[value$strategy == "localizer", ]
  rates <- rbind(
    calibrated_row("A: gain over its shuffle", choice$p, choice, truth$gain),
    calibrated_row("B: within-fact r", within$p, within, truth$r),
    calibrated_row(EQUIVALENCE, within$equivalence_p, NULL, NA),
    calibrated_row(CORRECTED, NA, corrected, truth$r_corrected),
    calibrated_row("C: value of using it", value$p, value, mean(value$value))
  )
  null <- truth$gain == 0
  tests <- rates$rejected
  # equivalence is false where r is not zero: then, and only then, to find it is an error
  error <- ifelse(rates$statistic == EQUIVALENCE, !null, null)
  data.frame(rates["statistic"], studies = nrow(choice),
    size = ifelse(error & !is.nan(tests), tests, NA),
    power = ifelse(error | is.nan(tests), NA, tests), rates["coverage"]
  )
}

calibrated_row <- function(statistic, p, table, truth) {
  inside <- if (is.null(table)) NA else table$low <= truth & truth <= table$high
  data.frame(
    statistic = statistic, rejected = mean(p < 0.05, na.rm = TRUE),
    coverage = mean(inside, na.rm = TRUE)
  )
}

CORRECTED <- "B: r over its ceiling" # has no test
EQUIVALENCE <- "B: equivalence" # has no interval
LARGEST_SIZE <- 0.08
LEAST_COVERAGE <- 0.9

# The rows of a calibration that fail: beyond the bounds, or without the test or the interval that
# their statistic has.
uncalibrated <- function(table) {
  beyond <- table$size > LARGEST_SIZE | table$coverage < LEAST_COVERAGE
  no_test <- is.na(table$size) & is.na(table$power) & table$statistic != CORRECTED
  no_interval <- is.na(table$coverage) & table$statistic != EQUIVALENCE
  table[beyond %in% TRUE | no_test | no_interval, ]
}
