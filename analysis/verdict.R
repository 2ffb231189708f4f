# What the study may say at its head, from A (choice.R) to C (value.R) and from the one comparison
# that was named before it was run. As data: words are the report's.

VERDICTS <- c("better", "worse", "equivalent", "undecided", "cannot_say", "not_run")
ENOUGH_FACTS <- 40L
ENOUGH_PEAKS <- 0.5 # share of facts that peak at a layer at which all are edited

# One row for each model and data set. `verdict`: the localizer picks better (worse) layers than its
# shuffle; or scores follow its values less than `bound` (equivalent); or neither is shown
# (undecided); or the study cannot say it (`reason`). `use`: better, worse or undecided than the
# best fixed layer; NA where nothing may be said. What would answer: `facts_needed` with `n_layers`
# layers for a correlation of `effect`.
verdict_table <- function(choice, within, value, power, primary) {
  rows <- lapply(split_by(choice, c("model", "dataset")), function(setting) {
    mine <- function(table) {
      table <- of_setting(table, setting$keys)
      if (all(CHOICE_KEYS %in% names(table))) {
        table <- table[roles_of(table, primary) == "primary", , drop = FALSE]
      }
      table
    }
    verdict_row(
      setting$keys, mine(choice)[1, ], mine(within)[1, ], mine(value)[1, ], mine(power)
    )
  })
  if (length(rows) > 0) return(bind_columns(rows))
  bind_columns(list(
    verdict_row(choice[NA_integer_, c("model", "dataset")], choice[NA_integer_, ],
      within[NA_integer_, ], value[NA_integer_, ], power
    )
  ))[0, ]
}

verdict_row <- function(keys, choice, within, value, power) {
  answer <- c(keys, choice[setdiff(CHOICE_KEYS, names(keys))], list(
    n_facts = choice$n_facts, n_layers = choice$n_layers, estimand = choice$estimand,
    share_edited = choice$share_edited, verdict = NA_character_, use = NA_character_,
    gain = choice$gain, gain_low = choice$low, gain_high = choice$high, gain_p = choice$p,
    r = within$r, r_low = within$low, r_high = within$high, bound = within$bound,
    equivalent = within$equivalent, ceiling = within$ceiling,
    value = value$value, value_low = value$low, value_high = value$high,
    effect = NA_real_, wanted = NA_real_, power_now = NA_real_, facts_needed = NA_integer_,
    layers_needed = NA_integer_, reason = ""
  ))
  answer <- fill_needed(answer, power)
  answer$reason <- not_enough(answer, choice$reason)
  answer$verdict <- verdict_word(answer)
  if (answer$reason == "") answer$use <- use_of(answer)
  answer
}

# One of VERDICTS.
verdict_word <- function(answer) {
  if (is.na(answer$gain) || is.na(answer$gain_p)) return("not_run")
  if (answer$reason != "") return("cannot_say")
  if (answer$gain_p < 0.05) return(if (answer$gain > 0) "better" else "worse")
  if (answer$equivalent %in% TRUE) "equivalent" else "undecided"
}

not_enough <- function(answer, reason) {
  if (is.na(answer$gain) || is.na(answer$gain_p)) {
    return(joined_reasons(if (is.na(reason)) "no edits of the primary comparison" else reason))
  }
  joined_reasons(
    if (answer$n_facts < ENOUGH_FACTS) {
      sprintf("%d facts, at least %d", answer$n_facts, ENOUGH_FACTS)
    },
    if (answer$share_edited < ENOUGH_PEAKS) {
      sprintf("%.3g %% of facts peak at an edited layer, at least %.3g %%",
        100 * answer$share_edited, 100 * ENOUGH_PEAKS
      )
    }
  )
}

use_of <- function(answer) {
  if (is.na(answer$value_low)) return(NA_character_)
  if (answer$value_low > 0) return("better")
  if (answer$value_high < 0) return("worse")
  "undecided"
}

# The row of the power table nearest to the study's own number of layers.
fill_needed <- function(answer, power) {
  if (nrow(power) == 0) return(answer)
  gap <- abs(power$n_layers - if (is.na(answer$n_layers)) 0L else answer$n_layers)
  near <- power[gap == min(gap), , drop = FALSE]
  answer[c("effect", "wanted", "facts_needed")] <- near[1, c("effect", "wanted", "facts_needed")]
  answer$layers_needed <- near$n_layers[1]
  below <- near[near$n_facts <= max(answer$n_facts, min(near$n_facts), na.rm = TRUE), ]
  answer$power_now <- below$power[which.max(below$n_facts)]
  answer
}
