# What all analyses share: which facts are concentrated, which groups have rows, the seeded draws,
# warnings by name, and tables of nothing.

test_that("tracing is concentrated where at most three layers reach half of the peak beside it", {
  effects <- make_effects(facts = 5, layers = 0:5, windows = 5)
  profile <- list(
    c(0, 1, 0.5, 0.5, 0.5, 0.49), # three others: concentrated
    c(0, 1, 0.5, 0.5, 0.5, 0.5), # four others
    c(0, 0, 0, 0, 0, 0), # no peak
    c(0.2, 0, NaN, 0, 0, 0), # what is missing does not reach
    c(1, 1, 1, 1, 0, 0) # a shared peak: three others
  )
  effects$value <- unlist(profile)
  expect_equal(concentrated_facts(effects, "value"), c("case01", "case04", "case05"))
  expect_length(concentrated_facts(effects[0, ], "value"), 0)
})

test_that("the r2 of the concentrated facts is the r2 of a table of them alone", {
  scores <- make_scores(facts = 14, methods = "ROME", problems = "fact_forcing")
  effects <- make_effects(facts = 14, windows = 5)
  broad <- effects$case_id %in% cases(4) # the others peak in layers 9 to 11
  level <- ifelse(broad | effects$layer %in% 9:11, 0.6, 0.1)
  effects$value <- level + 0.1 * effects$value
  table <- r2_table(scores, effects, "rewrite", subsets = SUBSETS)
  expect_equal(table$subset, SUBSETS)
  expect_equal(table$n_facts, c(14, 10))
  alone <- r2_table(scores[!scores$case_id %in% cases(4), ], effects, "rewrite")
  same <- setdiff(names(table), "subset")
  for (column in same) expect_equal(table[[column]][2], alone[[column]], info = column)
})

test_that("the paper's numbers stand beside the same window, effect, problem, method and score", {
  published <- read.csv(file.path("..", "..", "published.csv"))
  table <- r2_table(
    make_scores(), make_effects(windows = c(1, 5)), c("rewrite", "essence"),
    measures = c("value", "effect_max"), subsets = SUBSETS, published = published
  )
  beside <- table[!is.na(table$published_layer), ]
  expect_equal(nrow(beside), nrow(published))
  expect_true(all(beside$window == 5 & beside$score == "rewrite" & beside$subset == "all"))
  row <- beside[beside$problem == "fact_erasure" & beside$method == "MEMIT", ]
  expect_equal(unlist(row[PUBLISHED], use.names = FALSE), c(.925, .019, .925, 0, 489))
  difference <- published$published_both - published$published_layer
  expect_true(all(abs(difference - published$published_diff) < 0.0011)) # each is rounded
})

test_that("methods and problems without edits have rows in every table, also without any edit", {
  scores <- make_scores(facts = 6, methods = "ROME", problems = "fact_forcing")
  effects <- make_effects(facts = 6, windows = 5)
  for (name in names(ALL)) {
    table <- ALL[[name]](scores, effects, "rewrite", methods = c("ROME", "MEMIT"))
    expect_match(table$reason[table$method == "MEMIT"], "no edits of the facts", info = name)
    none <- ALL[[name]](scores[0, ], effects, "rewrite", problems = "fact_forcing",
      methods = c("ROME", "MEMIT")
    )
    expect_setequal(none$method, c("ROME", "MEMIT"))
    expect_match(none$reason, "no edits of the facts", info = name)
  }
})

test_that("edits at single facts' own peaks enter no table of the layers", {
  scores <- make_scores(8, methods = "ROME", problems = "fact_forcing")
  effects <- make_effects(8, windows = 5)
  own <- scores[scores$layer == 2, ]
  own$layer <- rep(c(3L, 4L), length.out = nrow(own))
  own$rewrite <- 0.5
  own[c("listed", "at_peak")] <- list(FALSE, TRUE)
  nowhere <- transform(own[1, ], layer = NA_integer_, at_peak = FALSE, status = "not edited: p")
  scores$at_peak <- scores$case_id == "case01" & scores$layer == 2 # a listed one stays
  for (name in names(ALL)) {
    with <- ALL[[name]](rbind(scores, own, nowhere), effects, "rewrite")
    expect_equal(with, ALL[[name]](scores, effects, "rewrite"), info = name)
  }
  expect_error(r2_table(scores[names(scores) != "listed"], effects, "rewrite"), "column listed")
})

test_that("tables of nothing have their columns, keys first and the reason last", {
  for (name in names(ALL)) {
    full <- ALL[[name]](make_scores(), make_effects(windows = 5), "rewrite")
    empty <- ALL[[name]](make_scores()[0, ], make_effects()[0, ], "rewrite")
    expect_equal(nrow(empty), 0, info = name)
    expect_equal(names(empty), names(full), info = name)
    expect_equal(names(full)[seq_along(KEYS)], KEYS, info = name)
    expect_equal(names(full)[ncol(full)], "reason", info = name)
    expect_equal(vapply(empty, typeof, ""), vapply(full, typeof, ""), info = name)
  }
})

test_that("every table survives failed edits, constant scores, few facts and one layer", {
  effects <- make_effects(facts = 12, windows = 5)
  base <- make_scores(facts = 12, methods = "ROME", problems = "fact_forcing")
  broken <- list(
    "all failed at one layer" = transform(base,
      status = ifelse(layer == 10, "failed: diverged", "ok"),
      rewrite = ifelse(layer == 10, NaN, rewrite)
    ),
    "all wrong at one layer" = transform(base, rewrite = ifelse(layer == 10, 2e-8, rewrite)),
    "all failed" = transform(base, status = "failed: diverged", rewrite = NaN),
    "a constant score" = transform(base, rewrite = 1),
    "one fact" = base[base$case_id == "case01", ],
    "four facts" = base[base$case_id %in% cases(4), ],
    "a single layer" = base[base$layer == 10, ],
    "no known fact" = transform(base, is_correct = FALSE),
    "no traced fact" = transform(base, case_id = paste0("x", case_id))
  )
  for (name in names(ALL)) {
    columns <- names(ALL[[name]](base, effects, "rewrite"))
    for (case in names(broken)) {
      table <- ALL[[name]](broken[[case]], effects, "rewrite")
      expect_gt(nrow(table), 0)
      expect_equal(names(table), columns)
      optional <- c(PUBLISHED, "best_layer")
      numbers <- vapply(table, is.numeric, TRUE) & !names(table) %in% optional
      lacking <- rowSums(is.na(table[numbers])) > 0
      expect_true(all(table$reason[lacking] != ""), info = paste(name, case))
    }
  }
})

test_that("a warning names the group that it comes from", {
  summarise <- function(rows) {
    warning("mind the gap")
    data.frame(reason = "")
  }
  scores <- make_scores(facts = 3, methods = "ROME", problems = "fact_forcing")
  expect_warning(
    over_groups(
      scores, make_effects(windows = 5), "rewrite", "value", NULL, NULL, TRUE, summarise
    ),
    "tiny, facts, tracing, mlp, 5, value, fact_forcing, ROME, rewrite: mind the gap"
  )
})

test_that("a seeded draw is the same every time and leaves the caller's random state alone", {
  set.seed(4)
  first <- runif(2)
  set.seed(4)
  drawn <- runif(1)
  expect_equal(seeded(1, runif(3)), seeded(1, runif(3)))
  expect_equal(c(drawn, runif(1)), first)
})

test_that("every localizer has its own groups, with the measures that it has", {
  traced <- make_effects(facts = 8, windows = c(1, 5))
  others <- transform(make_effects(facts = 8, windows = 1, modules = "none", seed = 5),
    localizer = "control", effect_max = NA_real_, effect_last = NA_real_, fraction_last = NA_real_
  )
  scores <- make_scores(facts = 8, methods = "ROME", problems = "fact_forcing")
  measures <- c("value", "effect_max", "fraction_last")
  both <- rbind(traced, others)
  for (name in names(ALL)) {
    table <- ALL[[name]](scores, both, "rewrite", measures)
    of <- unique(table[c("localizer", "module", "window", "effect")])
    expect_equal(of$effect[of$localizer == "tracing"], rep(sort(measures), 2), info = name)
    expect_equal(of$effect[of$localizer == "control"], "value", info = name)
    expect_equal(of$module[of$localizer == "control"], "none", info = name)
    # each as if the other were not there
    apart <- rbind(
      ALL[[name]](scores, others, "rewrite", measures),
      ALL[[name]](scores, traced, "rewrite", measures)
    )
    expect_equal(table, apart, info = name)
  }
})

test_that("a localizer without the measure that is asked for is described by its value", {
  others <- transform(make_effects(facts = 8, windows = 5),
    localizer = "control", fraction_last = NA_real_
  )
  scores <- make_scores(facts = 8, methods = "ROME", problems = "fact_forcing")
  table <- r2_table(scores, rbind(make_effects(facts = 8, windows = 5), others), "rewrite",
    measures = "fraction_last"
  )
  expect_equal(table$effect, c("value", "fraction_last"))
  expect_equal(table$localizer, c("control", "tracing"))
})
