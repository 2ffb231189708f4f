# The study as matrices [facts, layers]: what every analysis of the choice of a layer works on. An
# outcome is one score of one problem and method, a localizer one module and window of one
# localizer; a cell is both for the same facts and the same edited layers.

LOCALIZER_KEYS <- c("model", "dataset", "localizer", "module", "window")
OUTCOME_KEYS <- c("problem", "method", "score")
CHOICE_KEYS <- c(LOCALIZER_KEYS, OUTCOME_KEYS)

check_localized <- function(effects) {
  columns <- c(LOCALIZER_KEYS, "case_id", "layer")
  require_columns(effects, c(columns, "value"), "effects")
  require_unique(effects, columns, "effects")
}

# Calls `summarise(cells)` for the cells of each localizer, which gives a table with one or more
# rows a cell, keys first; binds and orders the tables. `costs`: see outcomes_of. Other arguments:
# see over_groups.
over_cells <- function(scores, effects, score_names, problems, methods, correct_only, summarise,
                       costs = NULL) {
  check_scores(scores, union(score_names, unlist(costs)))
  check_localized(effects)
  scores <- in_layers(scores)
  origin <- c("model", "dataset")
  parts <- list()
  for (setting in split_by(unique(rbind(scores[origin], effects[origin])), origin)) {
    mine <- of_setting(scores, setting$keys)
    outcomes <- outcomes_of(mine, score_names, problems, methods, correct_only, costs)
    for (localizer in localizers_of(of_setting(effects, setting$keys))) {
      if (length(outcomes) == 0) next
      cells <- lapply(outcomes, cell_of, localizer = localizer)
      cells <- lapply(cells, function(cell) {
        cell$keys <- c(setting$keys, cell$keys)
        cell
      })
      parts[[length(parts) + 1]] <- summarise(cells)
    }
  }
  if (length(parts) == 0) return(summarise(list(empty_cell()))[0, ])
  arrange_cells(bind_columns(parts))
}

arrange_cells <- function(table) {
  by <- intersect(c(CHOICE_KEYS, "strategy"), names(table))
  table <- table[do.call(order, c(unname(as.list(table[by])), method = "radix")), , drop = FALSE]
  rownames(table) <- NULL
  table
}

# ---- outcomes ------------------------------------------------------------------------------------

# Every score of every problem with every method, also those without a row. `costs`: by the names of
# methods, columns that are outcomes of these alone.
outcomes_of <- function(scores, score_names, problems, methods, correct_only, costs = NULL) {
  groups <- edit_groups(scores, problems, methods, correct_only)
  unlist(lapply(groups, function(group) {
    names <- c(score_names, costs[[group$keys$method]])
    lapply(names, function(score) outcome_of(group$rows, score, group$keys))
  }), recursive = FALSE)
}

# `score`: [facts, edited layers], NA where there is none; `grid`: which of these layers are edited
# for every fact (`listed`), not as single facts' peaks alone; `half1`, `half2`: the same from
# halves of the prompts, or NULL; `again`: where the edits were made once more; `relation`: of each
# fact.
outcome_of <- function(rows, score, keys) {
  facts <- sort(unique(as.character(rows$case_id)), method = "radix")
  layers <- sort(unique(as.integer(rows$layer)))
  as_matrix <- cells_of(rows, facts, layers)
  more <- lapply(paste0(score, c(HALVES, AGAIN)), function(column) {
    if (column %in% names(rows)) as_matrix(usable_score(rows, column))
  })
  relation <- if (is.null(rows$relation_id)) rows$case_id else rows$relation_id
  list(
    keys = list(problem = keys$problem, method = keys$method, score = score),
    score = as_matrix(usable_score(rows, score)), half1 = more[[1]], half2 = more[[2]],
    again = more[[3]], grid = layers %in% listed_edits(rows)$layer, n_rows = nrow(rows),
    relation = as.character(relation)[match(facts, rows$case_id)]
  )
}

# ---- localizers ----------------------------------------------------------------------------------

# `value`: [facts, all layers of the model]; `half1`, `half2`: the same from independent noise;
# `p_corrupted`: of each fact; `passes`: what a fact costs, the mean over facts.
localizers_of <- function(effects) {
  groups <- split_by(effects, c("localizer", "module", "window"))
  if (length(groups) == 0) groups <- list(list(keys = empty_localizer(), rows = effects))
  lapply(groups, function(group) {
    rows <- group$rows
    facts <- sort(unique(as.character(rows$case_id)), method = "radix")
    layers <- sort(unique(as.integer(rows$layer)))
    fill <- cells_of(rows, facts, layers)
    as_matrix <- function(column) {
      values <- rows[[column]]
      if (!is.null(values)) fill(finite_at(values, seq_along(values)))
    }
    passes <- rows$passes[match(facts, rows$case_id)]
    passes <- passes[!is.na(passes)]
    p_corrupted <- if (is.null(rows$p_corrupted)) rep(NA_real_, nrow(rows)) else rows$p_corrupted
    list(
      keys = as.list(group$keys), value = as_matrix("value"),
      half1 = as_matrix("value_half1"), half2 = as_matrix("value_half2"),
      p_corrupted = stats::setNames(as.numeric(p_corrupted)[match(facts, rows$case_id)], facts),
      passes = if (length(passes) > 0) mean(passes) else NA_real_
    )
  })
}

empty_localizer <- function() {
  data.frame(localizer = NA_character_, module = NA_character_, window = NA_integer_)
}

# ---- cells ---------------------------------------------------------------------------------------

# Facts with a usable score at every edited layer and a value at every layer; see STATISTICS 2.
# `score`, `value`: [facts, edited layers]; `peak`: shares of each fact's largest value (1, or less
# where layers share it); `own`: its score at the layer of the model where it peaks, NA where it was
# not edited there. `share_edited`: of facts whose peak is one of these layers (an edit at the peak
# alone does not count: other facts have no score there). `estimand`: whether all peaks are; else a
# layer's value is the mean over the layers of the model that are nearest to it. `passes`: see
# localizers_of.
cell_of <- function(outcome, localizer) {
  cell <- list(
    keys = c(localizer$keys[c("localizer", "module", "window")], outcome$keys), n_dropped = 0L,
    estimand = NA_character_, share_edited = NA_real_, reason = ""
  )
  scored <- colSums(!is.na(outcome$score)) > 0
  used <- outcome$grid & scored
  values <- localizer$value[, colSums(!is.na(localizer$value)) > 0, drop = FALSE]
  near <- nearest_layers(colnames(values), colnames(outcome$score)[used])
  if (ncol(values) > 0) used[used] <- colSums(near) > 0
  whole <- stats::complete.cases(outcome$score[, used, drop = FALSE]) & any(used)
  traced <- rownames(values)[stats::complete.cases(values) & ncol(values) > 0]
  facts <- intersect(rownames(outcome$score)[whole], traced)
  cell$n_dropped <- nrow(outcome$score) - length(facts)
  cell$score <- outcome$score[facts, used, drop = FALSE]
  cell$relation <- outcome$relation[match(facts, rownames(outcome$score))]
  cell <- with_values(cell, values[facts, , drop = FALSE], outcome, localizer, near)
  cell$reason <- joined_reasons(left_out(outcome, scored, used), cell_reason(outcome, cell, whole))
  cell
}

with_values <- function(cell, values, outcome, localizer, near) {
  facts <- rownames(values)
  layers <- colnames(cell$score)
  top <- if (length(facts) > 0) colnames(values)[max.col(values, ties.method = "first")]
  cell$own <- outcome$score[cbind(facts, ifelse(top %in% colnames(outcome$score), top, NA))]
  cell$share_edited <- if (length(facts) > 0) mean(top %in% layers) else NA_real_
  # a localizer may lack an edited layer (the lens' rise the first): those near stand for it
  all_edited <- length(facts) > 0 && all(top %in% layers) && all(layers %in% colnames(values))
  weights <- if (all_edited) {
    +outer(colnames(values), layers, `==`)
  } else {
    near[, colSums(near) > 0, drop = FALSE]
  }
  weights <- base::sweep(weights, 2, colSums(weights), `/`)
  edited <- function(values) {
    if (is.null(values) || ncol(values) == 0) return(NULL)
    result <- values %*% weights
    dimnames(result) <- list(facts, layers)
    result
  }
  half <- function(half) edited(half[facts, colnames(values), drop = FALSE])
  cell$value <- edited(values)
  if (is.null(cell$value)) cell$value <- cell$score + NA
  cell$value_half1 <- half(localizer$half1)
  cell$value_half2 <- half(localizer$half2)
  cell$score_half1 <- outcome$half1[facts, layers, drop = FALSE]
  cell$score_half2 <- outcome$half2[facts, layers, drop = FALSE]
  cell$score_again <- outcome$again[facts, layers, drop = FALSE]
  cell$peak <- peak_shares(cell$value)
  cell$p_corrupted <- unname(localizer$p_corrupted[facts])
  cell$passes <- localizer$passes
  cell$estimand <- if (all_edited) "own peak" else "among the edited layers"
  cell
}

# [layers of the model, edited layers]: TRUE where the edited one is nearest, the lower of two.
nearest_layers <- function(layers, edited) {
  distance <- abs(outer(as.integer(layers), as.integer(edited), `-`))
  if (length(distance) == 0) return(distance)
  outer(max.col(-distance, ties.method = "first"), seq_along(edited), `==`) + 0
}

peak_shares <- function(value) {
  if (length(value) == 0) return(value)
  peak <- value >= row_max(value)
  peak / rowSums(peak)
}

row_max <- function(cells) do.call(pmax, lapply(seq_len(ncol(cells)), function(l) cells[, l]))

left_out <- function(outcome, scored, used) {
  layers <- colnames(outcome$score)
  c(
    if (any(!scored & outcome$grid) && any(scored)) {
      sprintf("no usable score at layers %s, left out", toString(layers[!scored & outcome$grid]))
    },
    if (any(scored & outcome$grid & !used)) sprintf(
      "no layer of the localizer near layers %s, left out",
      toString(layers[scored & outcome$grid & !used])
    )
  )
}

cell_reason <- function(outcome, cell, whole) {
  if (outcome$n_rows == 0) return("no edits of the facts under study")
  if (all(is.na(outcome$score))) return(sprintf("no usable score in %d rows", outcome$n_rows))
  if (!any(whole)) return("no fact with a usable score at every edited layer")
  if (nrow(cell$score) == 0) return("no fact with the localizer's values at every layer")
  if (ncol(cell$score) < 2) return("a single edit layer")
  if (nrow(cell$score) < 2) return("a single fact: no other to compare with")
  if (no_variance(cell$score - rowMeans(cell$score))) {
    return("the score does not differ between layers")
  }
  NULL
}

# Whether any number can be had from a cell: what `reason` says otherwise.
is_choice <- function(cell) {
  nrow(cell$score) > 1 && ncol(cell$score) > 1 &&
    !no_variance(cell$score - rowMeans(cell$score))
}

empty_cell <- function() {
  nothing <- matrix(0, 0, 0)
  outcome <- list(
    keys = list(problem = "", method = "", score = ""), score = nothing, grid = logical(),
    n_rows = 0L, relation = character()
  )
  localizer <- list(
    keys = list(localizer = "", module = "", window = 0L), value = nothing,
    p_corrupted = numeric()
  )
  cell <- cell_of(outcome, localizer)
  cell$keys <- c(list(model = "", dataset = ""), cell$keys)
  cell
}

# What every answer about a cell starts with.
cell_counts <- function(cell) {
  list(
    n_facts = nrow(cell$score), n_layers = ncol(cell$score), n_dropped = as.integer(cell$n_dropped),
    n_relations = length(unique(cell$relation)), estimand = cell$estimand,
    share_edited = cell$share_edited
  )
}
