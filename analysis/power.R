# How many facts and layers would show that a localizer picks better layers than its own shuffle
# (choice.R), if a fact's score followed its values with a correlation of `effect`?

# One row for each number of layers (evenly spread over the model; of as many as `edited` has,
# these, numbered as in the effects) and of facts. `power` of the
# two-sided test at 5 %; `facts_needed` for `wanted` power with these layers. From the values of the
# primary localizer on the study's facts (`source` "study"), else as if they were normal and
# independent. Layers that most facts share as their peak need more facts: there a shuffle changes
# little.
power_table <- function(effects, primary = NULL, effect = 0.2, wanted = 0.8, edited = NULL,
                        facts = c(11L, 24L, 40L, 80L, 120L, 200L, 400L, 650L),
                        layers = c(3L, 6L, 9L, 12L, 24L)) {
  check_localized(effects)
  rows <- list()
  for (setting in split_by(effects, c("model", "dataset"))) {
    mine <- setting$rows
    for (key in intersect(c("localizer", "module", "window"), names(primary))) {
      mine <- mine[mine[[key]] %in% primary[[key]], , drop = FALSE]
    }
    value <- localizers_of(mine)[[1]]$value
    value <- value[stats::complete.cases(value), , drop = FALSE]
    depth <- ncol(localizers_of(setting$rows)[[1]]$value)
    # with one layer there is no choice
    numbers <- c(layers, if (length(edited) > 0) length(edited))
    for (n_layers in sort(unique(pmax(pmin(numbers, depth), 2L)))) {
      at <- round(seq(1, ncol(value), length.out = n_layers))
      if (n_layers == length(edited)) at <- match(edited, colnames(value))
      rows[[length(rows) + 1]] <- cbind(
        setting$keys, power_rows(value, n_layers, at, facts, effect, wanted), row.names = NULL
      )
    }
  }
  if (length(rows) == 0) {
    keys <- data.frame(model = character(), dataset = character())
    return(cbind(keys, power_rows(matrix(0, 0, 0), 2L, NULL, facts, effect, wanted)[0, ]))
  }
  do.call(rbind, rows)
}

power_rows <- function(value, n_layers, at, facts, effect, wanted) {
  contrast <- if (nrow(value) >= MIN_ROWS) contrast_at(value, at)
  known <- !is.null(contrast)
  if (!known) contrast <- peak_contrast(normal_values(n_layers))
  data.frame(
    n_layers = as.integer(n_layers), n_facts = as.integer(facts), effect = effect,
    power = choice_power(facts, effect, contrast), wanted = wanted,
    facts_needed = facts_for(wanted, effect, contrast), source = if (known) "study" else "normal",
    reason = if (known) "" else "no values of the primary localizer that differ between facts"
  )
}

normal_values <- function(n_layers) {
  seeded(0L, matrix(stats::rnorm(4000L * n_layers), 4000L))
}

# Of values [facts, layers of the model] at some columns; NULL where no shuffle changes them.
contrast_at <- function(value, at) {
  at <- unique(at[!is.na(at)])
  if (ncol(value) < 2 || length(at) < 2) return(NULL)
  near <- nearest_layers(seq_len(ncol(value)), at)
  edited <- value %*% base::sweep(near, 2, colSums(near), `/`)
  if (!varies_within(edited) || same_peaks(peak_shares(edited))) return(NULL)
  peak_contrast(edited)
}

# What a score that follows the values fully would gain (in standard deviations of its within-fact
# part), and the standard deviation that noise of the same size gives one fact's share in it.
peak_contrast <- function(value) {
  own <- within_part(value)
  n_layers <- ncol(value)
  peak <- peak_shares(value)
  centred <- base::sweep(peak, 2, colMeans(peak))
  list(
    gain = prescriptive(own / sqrt(mean(own^2)), peak)$estimate,
    noise = sqrt(mean(rowSums(centred^2)) * n_layers / (n_layers - 1))
  )
}

choice_power <- function(facts, effect, contrast) {
  reach <- effect * contrast$gain * sqrt(facts) / contrast$noise
  stats::pnorm(reach - stats::qnorm(0.975)) + stats::pnorm(-reach - stats::qnorm(0.975))
}

facts_for <- function(wanted, effect, contrast) {
  if (contrast$gain <= 0) return(NA_integer_)
  reach <- stats::qnorm(0.975) + stats::qnorm(wanted)
  as.integer(ceiling((reach * contrast$noise / (effect * contrast$gain))^2))
}
