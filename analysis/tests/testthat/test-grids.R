# From frames to matrices: which layers, which facts, which values, and the edges.

study <- make_choice(facts = 6, layers = 3)
frames <- as_frames(study, layers = c(2, 5, 9))
cell_from <- function(scores, effects) {
  outcomes <- outcomes_of(scores, "rewrite", NULL, NULL, TRUE)
  cell_of(outcomes[[1]], localizers_of(effects)[[1]])
}
deep <- expand.grid(case_id = cases(6), layer = 0:11, stringsAsFactors = FALSE)
deep <- data.frame(
  model = "tiny", dataset = "facts", localizer = "tracing", module = "mlp", window = 5L, deep,
  p_corrupted = 0.1, value = seq_len(72) %% 7 / 7
)

test_that("where peaks are not edited, a layer's value is the mean over the nearest ones", {
  cell <- cell_from(frames$scores, deep)
  value <- matrix(deep$value, 6)
  expected <- cbind(rowMeans(value[, 1:4]), rowMeans(value[, 5:8]), rowMeans(value[, 9:12]))
  expect_equal(unname(cell$value), expected) # 7 is as near to 5 as to 9: the lower
  peaks <- apply(value, 1, which.max) - 1
  expect_equal(cell$share_edited, mean(peaks %in% c(2, 5, 9)))
  expect_equal(cell$estimand, "among the edited layers")
})

test_that("an edit at a fact's own peak is that fact's alone: no layer of the grid, no share", {
  value <- matrix(deep$value, 6)
  peaks <- apply(value, 1, which.max) - 1L
  own <- frames$scores[frames$scores$layer == 2, ]
  own$layer <- peaks
  own$rewrite <- 10 + seq_len(6)
  own[c("listed", "at_peak")] <- list(FALSE, TRUE)
  new <- own[!peaks %in% c(2, 5, 9), ]
  scores <- rbind(frames$scores, new)
  cell <- cell_from(scores, deep)
  expect_equal(colnames(cell$score), c("2", "5", "9"))
  expect_equal(cell$share_edited, mean(peaks %in% c(2, 5, 9)))
  expect_equal(cell$own[!peaks %in% c(2, 5, 9)], new$rewrite)
  expect_equal(cell$estimand, "among the edited layers")
})

test_that("an edit that failed, a fact without values and a layer without scores are left out", {
  gaps <- frames
  gaps$scores$status[gaps$scores$case_id == "case02" & gaps$scores$layer == 5] <- "failed: why"
  gaps$effects$value[gaps$effects$case_id == "case04" & gaps$effects$layer == 9] <- NaN
  cell <- cell_from(gaps$scores, gaps$effects)
  expect_equal(rownames(cell$score), cases(6)[c(1, 3, 5, 6)])
  expect_equal(cell$n_dropped, 2)
  lost <- transform(frames$scores, rewrite = ifelse(layer == 9, NA, rewrite))
  cell <- cell_from(lost, frames$effects)
  expect_equal(colnames(cell$score), c("2", "5"))
  expect_equal(cell$reason, "no usable score at layers 9, left out")
})

test_that("a localizer without values at an edited layer is judged at the layers that it has", {
  frames <- as_frames(make_choice(facts = 12, layers = 5), layers = 0:4)
  effects <- transform(frames$effects, value = ifelse(layer == 0, NaN, value))
  cell <- cell_from(frames$scores, effects)
  expect_equal(colnames(cell$score), c("1", "2", "3", "4"))
  expect_equal(cell$estimand, "own peak")
  expect_equal(cell$reason, "no layer of the localizer near layers 0, left out")
  # with others near it, they stand for it, wherever the facts peak
  few <- frames$scores[frames$scores$layer %in% c(0, 3, 4), ]
  low <- transform(effects, value = ifelse(layer %in% 1:2, layer - 50, value))
  cell <- cell_from(few, low)
  expect_equal(unname(cell$value[, "0"]), rep(-49, 12))
  expect_equal(c(cell$share_edited, cell$estimand), c("1", "among the edited layers"))
  for (name in names(CHOSEN)) {
    expect_silent(table <- CHOSEN[[name]](few, low, "rewrite"))
    expect_equal(nrow(CHOSEN[[name]](frames$scores, effects, "rewrite")), nrow(table), info = name)
  }
})

test_that("every table survives failed edits, constant scores, few facts and one layer", {
  scores <- make_scores(facts = 12, methods = "ROME", problems = "fact_forcing")
  effects <- make_effects(facts = 12, windows = 5)
  broken <- list(
    "as it should be" = scores,
    "all failed at one layer" = transform(scores,
      status = ifelse(layer == 10, "failed: diverged", "ok")
    ),
    "all failed" = transform(scores, status = "failed: diverged", rewrite = NaN),
    "a constant score" = transform(scores, rewrite = 1),
    "constant within facts" = transform(scores, rewrite = as.integer(factor(case_id)) / 12),
    "the same in all facts" = transform(scores, rewrite = layer / 30),
    "one fact" = scores[scores$case_id == "case01", ],
    "two facts" = scores[scores$case_id %in% cases(2), ],
    "four facts" = scores[scores$case_id %in% cases(4), ],
    "a single layer" = scores[scores$layer == 10, ],
    "no known fact" = transform(scores, is_correct = FALSE),
    "no traced fact" = transform(scores, case_id = paste0("x", case_id)),
    "no edit" = scores[0, ]
  )
  for (name in names(CHOSEN)) {
    for (case in names(broken)) {
      table <- CHOSEN[[name]](broken[[case]], effects, "rewrite", problems = "fact_forcing",
        methods = c("ROME", "MEMIT")
      )
      rows <- if (name == "value") 8 else 2
      expect_equal(nrow(table), rows, info = paste(name, case))
      expect_equal(names(table)[1:5], LOCALIZER_KEYS, info = name)
      expect_equal(names(table)[ncol(table)], "reason", info = name)
      if (case == "as it should be") expect_false(all(is.na(table$reason)) || all(is.na(table[[
        c(choice = "gain", within = "r", value = "value", arena = "rank_r")[name]
      ]])), info = name)
      lacking <- rowSums(is.na(table[setdiff(names(table), c("best_layer", "slope"))])) > 0
      expect_true(all(table$reason[lacking] != ""), info = paste(name, case))
    }
    flat <- CHOSEN[[name]](scores, transform(effects, value = 0.5), "rewrite")
    expect_true(all(flat$reason != "" | rowSums(is.na(flat)) == 0), info = name)
    untraced <- CHOSEN[[name]](scores, effects[0, ], "rewrite")
    expect_true(all(untraced$reason != "") && all(is.na(untraced$localizer)), info = name)
    nothing <- CHOSEN[[name]](scores[0, ], effects[0, ], "rewrite")
    expect_equal(nrow(nothing), 0, info = name)
    expect_equal(names(nothing), names(table), info = name)
  }
})

test_that("edits of the embedding are no choice of a layer", {
  frames <- as_frames(make_choice(facts = 12, layers = 4))
  scores <- frames$scores[frames$scores$layer > 2, ] # layer 1 is as near to the embedding as to 3
  embedded <- transform(scores[scores$layer == 3, ], layer = -1L, rewrite = rev(rewrite))
  for (name in names(CHOSEN)) {
    answer <- function(scores) CHOSEN[[name]](scores, frames$effects, "rewrite")
    expect_equal(answer(rbind(scores, embedded)), answer(scores), info = name)
  }
})
