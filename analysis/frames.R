# What every analysis function shares: checks of the data frames it is given, the join of scores
# with effects, means with intervals, seeded draws. An error names the table, the columns and what
# the table has instead.

MIN_ROWS <- 5L # below this a fit or an interval says nothing, and no number is given

require_columns <- function(frame, columns, name) {
  if (!is.data.frame(frame)) {
    stop(sprintf("%s: expected a data frame, got %s", name, class(frame)[1]), call. = FALSE)
  }
  absent <- setdiff(columns, names(frame))
  if (length(absent) > 0) {
    stop(sprintf(
      "%s: missing column%s %s (it has: %s)", name, if (length(absent) > 1) "s" else "",
      toString(absent), if (ncol(frame) > 0) toString(names(frame)) else "none"
    ), call. = FALSE)
  }
  invisible(frame)
}

require_unique <- function(frame, columns, name) {
  repeated <- which(duplicated(frame[columns]))
  if (length(repeated) > 0) {
    first <- vapply(frame[repeated[1], columns], as.character, "")
    stop(sprintf(
      "%s: %d row%s repeated; the first is %s", name, length(repeated),
      if (length(repeated) > 1) "s" else "", toString(paste(columns, first, sep = "="))
    ), call. = FALSE)
  }
  invisible(frame)
}

require_choice <- function(value, choices, name) {
  if (length(value) != 1 || !value %in% choices) {
    stop(sprintf("%s: '%s' is not one of %s", name, toString(value), toString(choices)),
      call. = FALSE
    )
  }
  invisible(value)
}

SCORE_KEYS <- c("model", "dataset", "case_id", "method", "problem", "layer")
EFFECT_KEYS <- c("model", "dataset", "case_id", "localizer", "module", "window", "layer")

check_scores <- function(scores, score_names) {
  require_columns(
    scores, c(SCORE_KEYS, "listed", "is_correct", "status", score_names), "scores"
  )
  require_unique(scores, SCORE_KEYS, "scores")
}

check_effects <- function(effects, measures) {
  require_columns(effects, c(EFFECT_KEYS, measures), "effects")
  require_unique(effects, EFFECT_KEYS, "effects")
}

# The facts under study: those the model knows (is_correct), or all of them.
facts_under_study <- function(scores, correct_only = TRUE) {
  if (correct_only) scores[scores$is_correct %in% TRUE, , drop = FALSE] else scores
}

# The edits that the numbers of a layer are made of: those at layers where every fact of a pair of
# problem and method is edited. A layer that is only some facts' own peak has those facts that trace
# well there, and its mean compares with no other layer's.
listed_edits <- function(scores) scores[scores$listed %in% TRUE, , drop = FALSE]

# Of edits those at layers of the model. The embedding, in whose place stands a layer below the
# first, has no value of any localizer; figures and tables of scores alone have it.
in_layers <- function(scores) {
  scores[is.na(scores$layer) | scores$layer >= 0, , drop = FALSE]
}

# A score as numbers, NA where the edit failed or the score is not finite.
usable_score <- function(scores, score) {
  value <- as.numeric(scores[[score]])
  value[!(scores$status %in% "ok") | !is.finite(value)] <- NA
  value
}

# The effect at each row's edit layer; `effects` holds one model, data set, localizer, module and
# window.
effect_at_layer <- function(scores, effects, effect) {
  finite_at(effects[[effect]], rows_at_layer(scores, effects))
}

# Which row of `effects` is each edit's: the same fact, the same layer.
rows_at_layer <- function(scores, effects) {
  cases <- unique(effects$case_id)
  key <- function(frame) paste(match(frame$case_id, cases), frame$layer)
  match(key(scores), key(effects))
}

finite_at <- function(column, at) {
  value <- as.numeric(column)[at]
  value[!is.finite(value)] <- NA
  value
}

# A function that puts the rows' values into a matrix, [facts, layers], NA where there is no row. A
# row without a layer, the edit at the peak of a fact that peaks nowhere, has no place in it.
cells_of <- function(rows, facts, layers) {
  at <- cbind(match(rows$case_id, facts), match(rows$layer, layers))
  placed <- !is.na(rows$layer)
  function(values) {
    cells <- matrix(NA_real_, length(facts), length(layers), dimnames = list(facts, layers))
    cells[at[placed, , drop = FALSE]] <- values[placed]
    cells
  }
}

# Constant up to rounding: a spread below 1e-12 of the largest value.
no_variance <- function(x) diff(range(x)) <= 1e-12 * max(abs(x))

# Places of groups in order of first appearance.
codes <- function(group) match(group, unique(group))

# The groups of a frame in order of first appearance: a list of their keys (one row) and rows.
split_by <- function(frame, columns) {
  code <- Reduce(function(code, column) {
    pair <- code * (nrow(frame) + 1) + match(frame[[column]], unique(frame[[column]]))
    match(pair, unique(pair))
  }, columns, rep(0, nrow(frame)))
  lapply(unname(split(seq_len(nrow(frame)), code)), function(at) {
    keys <- frame[at[1], columns, drop = FALSE]
    rownames(keys) <- NULL
    list(keys = keys, rows = frame[at, , drop = FALSE])
  })
}

# ---- frames --------------------------------------------------------------------------------------

# Named values and whole frames side by side as one frame; a single value is repeated. Tables are
# made of thousands of rows, for which data.frame() and cbind() take a millisecond each: names are
# made valid, types asked for, rows named.
beside <- function(...) {
  parts <- list(...)
  parts <- lapply(seq_along(parts), function(i) {
    if (is.list(parts[[i]])) unclass(parts[[i]]) else parts[i]
  })
  columns <- do.call(c, parts)
  n <- lengths(columns, use.names = FALSE)
  short <- n < max(n)
  if (!all(n[short] == 1L)) stop("beside: columns of different lengths", call. = FALSE)
  columns[short] <- lapply(columns[short], rep_len, max(n))
  framed(columns)
}

# Rows (lists or frames of the same names) as one frame.
bind_columns <- function(rows) {
  framed(lapply(stats::setNames(nm = names(rows[[1]])), function(name) {
    unlist(lapply(rows, .subset2, name), use.names = FALSE)
  }))
}

framed <- function(columns) {
  n <- length(columns[[1]])
  structure(columns, class = "data.frame", row.names = .set_row_names(n))
}

# ---- means and intervals -------------------------------------------------------------------------

# Mean with the 95 % interval of Student's t; no interval for a single value.
mean_interval <- function(values) {
  values <- values[is.finite(values)]
  n <- length(values)
  half <- if (n > 1) stats::qt(0.975, n - 1) * stats::sd(values) / sqrt(n) else NA_real_
  beside(n = n, mean = mean(values), low = mean(values) - half, high = mean(values) + half)
}

# The same of values between `from` and 1 (-1: correlations), by Student's t of the mean's log odds
# between them (delta method): it stays there. The deviation of n equal values says nothing: were
# another value likelier than 1 - q, q = .05^(1/n), they would be equal in fewer than 5 % of
# samples.
bounded_interval <- function(values, from = 0) {
  answer <- mean_interval(values)
  if (is.na(answer$low)) return(answer)
  width <- 1 - from
  share <- (answer$mean - from) / width
  ends <- if (no_variance(values[is.finite(values)])) {
    sure <- 0.05^(1 / answer$n)
    sure * share + c(0, 1 - sure)
  } else {
    half <- (answer$high - answer$mean) / width / (share * (1 - share))
    stats::plogis(stats::qlogis(share) + c(-half, half))
  }
  answer[c("low", "high")] <- as.list(from + width * ends)
  answer
}

# Scores between 0 and 1.
SCORED <- c(
  "rewrite", "paraphrase", "neighbourhood", "essence", "text", "overall", "overall_essence"
)

# What gives the interval of a score's mean.
interval_of_mean <- function(score) if (score %in% SCORED) bounded_interval else mean_interval

# Of a mean over facts of correlations; no ends where facts are too few.
correlation_interval <- function(values) {
  answer <- bounded_interval(values, from = -1)
  if (answer$n < MIN_ROWS) answer[c("low", "high")] <- NA_real_
  answer
}

# Evaluates an expression under a seed of its own; the caller's random state stays as it was.
seeded <- function(seed, expression) {
  state <- get0(".Random.seed", globalenv(), inherits = FALSE)
  on.exit(if (is.null(state)) {
    rm(".Random.seed", envir = globalenv())
  } else {
    assign(".Random.seed", state, globalenv())
  })
  set.seed(seed, "Mersenne-Twister", "Inversion", "Rejection")
  expression
}

# Reasons as one text, "" if there is none.
joined_reasons <- function(...) {
  reasons <- c(...)
  paste(reasons[!reasons %in% c("", NA)], collapse = "; ")
}
