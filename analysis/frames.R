# What every analysis function shares: checks of the data frames it is given, and the join of scores
# with tracing effects. An error names the table, the columns and what the table has instead.

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
EFFECT_KEYS <- c("model", "dataset", "case_id", "module", "window", "layer")

check_scores <- function(scores, score_names) {
  require_columns(scores, c(SCORE_KEYS, "is_correct", "status", score_names), "scores")
  require_unique(scores, SCORE_KEYS, "scores")
}

check_effects <- function(effects, tracing) {
  require_columns(effects, c(EFFECT_KEYS, tracing), "effects")
  require_unique(effects, EFFECT_KEYS, "effects")
}

# The facts under study: those the model knows (is_correct), or all of them.
facts_under_study <- function(scores, correct_only = TRUE) {
  if (correct_only) scores[scores$is_correct %in% TRUE, , drop = FALSE] else scores
}

# A score as numbers, NA where the edit failed or the score is not finite.
usable_score <- function(scores, score) {
  value <- as.numeric(scores[[score]])
  value[!(scores$status %in% "ok") | !is.finite(value)] <- NA
  value
}

# The tracing effect at each row's edit layer; `effects` holds one model, data set, module, window.
effect_at_layer <- function(scores, effects, tracing) {
  cases <- unique(effects$case_id)
  key <- function(frame) paste(match(frame$case_id, cases), frame$layer)
  value <- as.numeric(effects[[tracing]])[match(key(scores), key(effects))]
  value[!is.finite(value)] <- NA
  value
}

# Constant up to rounding: a spread below 1e-12 of the largest value.
no_variance <- function(x) diff(range(x)) <= 1e-12 * max(abs(x))

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
