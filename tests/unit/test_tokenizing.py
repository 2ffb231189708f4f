"""What is taken for granted of a tokenizer: mended where it can be, else refused with a sentence.

Each tokenizer is the tiny one with one thing changed, under the same model, so that a number that
differs is the tokenizer's doing.
"""

import math
import time

import oracle
import pytest
import tiny
import torch
from test_engine import NOISE, close, probe, requests
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from locedit.cli.main import main
from locedit.engine import key_statistics, sampling
from locedit.engine.loading import load
from locedit.facts.record import EXCLUDED, KEPT, _row
from locedit.localizers import restoration, zeroing
from locedit.model import tokenizing
from locedit.model.architectures import ModelError
from locedit.model.language_model import LanguageModel
from locedit.study import measure
from locedit.study.knowledge import add_knowledge
from workflow_scripts import rome_layout

PROMPT, SUBJECT, TARGET = "The capital city of Madrid is", "Madrid", "Rome, Italy"
ROW = {
    "case_id": "1",
    "template": "The capital city of {} is",
    "subject": SUBJECT,
    "target_true": TARGET,
    "target_new": "Paris",
}


def ends_by_template(*, bos: bool = False) -> PreTrainedTokenizerFast:
    """Ends every text with </s>, as its post-processor says."""
    words = tiny.tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if bos else "$A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return words


def ends_by_setting() -> PreTrainedTokenizerFast:
    """Ends every text with </s>, as tokenizer_config.json says."""
    words = tiny.tokenizer()
    words.add_eos_token = True
    assert words("The")["input_ids"][-1] == 1
    return words


def ends_twice() -> PreTrainedTokenizerFast:
    words = tiny.tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s> <s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return words


ENDING = {
    "by its post-processor": (ends_by_template(), tiny.tokenizer()),
    "by its settings": (ends_by_setting(), tiny.tokenizer()),
    "and begins it": (ends_by_template(bos=True), tiny.tokenizer(adds_bos=True)),
    "with two tokens": (ends_twice(), tiny.tokenizer(adds_bos=True)),
}


@pytest.fixture(params=ENDING)
def ending(request) -> tuple[LanguageModel, LanguageModel]:
    """A model whose tokenizer ends every text, and the same with a tokenizer that does not."""
    words, clean = ENDING[request.param]
    assert words(PROMPT)["input_ids"][-1] in (0, 1)
    model = tiny.model("llama", len(clean))
    return LanguageModel(model, words), LanguageModel(model, clean)


def test_a_prompt_loses_what_the_tokenizer_puts_behind_it(ending):
    got, clean = ending
    for text in (PROMPT, SUBJECT, "", tiny.SENTENCES[1]):
        assert got.encode(text) == clean.encode(text)
    assert got.encode_target(TARGET, PROMPT) == clean.encode_target(TARGET, PROMPT)
    assert got.subject_range(PROMPT, SUBJECT) == clean.subject_range(PROMPT, SUBJECT)


def test_what_is_computed_does_not_depend_on_such_an_end(ending):
    settings = {"module": "mlp", "window": 3, **NOISE}
    what = (PROMPT, SUBJECT, TARGET)
    known, traced, zeroed, measured, moments, written = [], [], [], [], [], []
    for lm in ending:
        row = {**_row("1", ROW, "")}
        add_knowledge(lm, [row], completion_tokens=4)
        known.append((row["p_true"], row["completion"]))
        traced.append(restoration.trace(lm, *what, **settings))
        zeroed.append(zeroing.zero(lm, *what, module="mlp", window=3).p_zeroed)
        measured.append(measure.measure(lm, [probe(requests("fact_forcing")[0])], **NOISE))
        moments.append(key_statistics.key_moments(lm, tiny.SENTENCES, max_tokens=15))
        texts = sampling.essence_texts(lm, [SUBJECT], count=1, tokens=20, seed=1)
        written.append((texts, sampling.rome_contexts(lm, [(8, 2)], 1)))
    clean = ending[1]
    p = oracle.target_logprob(clean.model, clean.tokenizer, PROMPT, TARGET)
    close(known[0][0], math.exp(p))
    assert known[0] == known[1]
    assert (traced[0].restored == traced[1].restored).all()
    assert traced[0].tokens == traced[1].tokens
    assert (zeroed[0] == zeroed[1]).all()
    assert measured[0] == measured[1]
    assert moments[0][1] == moments[1][1]
    assert written[0] == written[1]


def spaces_in_front() -> PreTrainedTokenizerFast:
    words = tiny.tokenizer()
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return words


def test_a_tokenizer_that_puts_a_space_in_front_of_every_text():
    """What it reads is the text behind a space, and the target's own space is one alone."""
    clean = tiny.tokenizer()
    lm = LanguageModel(tiny.model("llama", len(clean)), spaces_in_front())
    for end in ("", ' called "', " ("):
        prompt = PROMPT + end
        row = _row("1", {**ROW, "template": ROW["template"] + end}, "")
        add_knowledge(lm, [row], completion_tokens=4)
        p = oracle.target_logprob(lm.model, clean, " " + prompt, TARGET)
        close(row["p_true"], math.exp(p))
        assert lm.subject_range(prompt, SUBJECT) == oracle.subject_range(
            clean, " " + prompt, SUBJECT
        )
        assert row["remark"] is None
    assert lm.continuation([lm.encode_target(TARGET, PROMPT)]) == [f" {TARGET}"]


def test_a_metaspace_tokenizer_joins_without_a_blank_too():
    words = tiny.tokenizer(adds_bos=True, spaced=True)
    lm = LanguageModel(tiny.model("mistral", len(words)), words)
    prompt = PROMPT + ' called "'
    ids = lm.encode_target(TARGET, prompt)
    assert lm.encode(prompt + TARGET) == lm.encode(prompt) + ids
    assert lm.continuation([ids]) == [TARGET]
    assert sampling.complete(lm, [PROMPT], 3)[0] == lm.continuation([greedy(lm, PROMPT, 3)])[0]


def greedy(lm: LanguageModel, prompt: str, steps: int) -> list[int]:
    ids = lm.encode(prompt)
    for _ in range(steps):
        ids.append(int(lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-steps:]


def test_a_tokenizer_that_lowers_every_letter():
    """It reads the lower-cased text, and that is what the model is asked."""
    words, clean = tiny.tokenizer(), tiny.tokenizer()
    words.backend_tokenizer.normalizer = normalizers.Lowercase()
    lm = LanguageModel(tiny.model("llama", len(clean)), words)
    row = _row("1", ROW, "")
    add_knowledge(lm, [row], completion_tokens=4)
    p = oracle.target_logprob(lm.model, clean, PROMPT.lower(), TARGET.lower())
    close(row["p_true"], math.exp(p))
    assert lm.subject_range(PROMPT, SUBJECT) == oracle.subject_range(
        clean, PROMPT.lower(), SUBJECT.lower()
    )


# --------------------------------------------------------------------------------------------------
# Texts that a tokenizer does not know, or changes

POLISH = "\u0141\u00f3d\u017a"  # its letters are in no word of the tokenizer's


def without_bytes(*, told: bool = True) -> PreTrainedTokenizerFast:
    """It knows the letters of English, and makes <unk> of others; `told`: its settings say so."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>", "<unk>"],
        initial_alphabet=[chr(code) for code in (10, *range(33, 127))],
        show_progress=False,
    )
    inner.train_from_iterator(tiny.SENTENCES, trainer)
    more = {"unk_token": "<unk>"} if told else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>", **more
    )


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("name", ["subject", "target_true", "target_new"])
def test_a_fact_with_unknown_tokens_is_excluded_and_the_others_are_kept(name, told):
    words = without_bytes(told=told)
    unknown = words.backend_tokenizer.token_to_id("<unk>")
    lm = LanguageModel(tiny.model("llama", len(words)), words)
    rows = [_row("1", ROW, ""), _row("2", {**ROW, name: f"{POLISH} it is"}, "")]
    assert unknown in lm.encode(rows[1][name])
    add_knowledge(lm, rows, completion_tokens=3)
    good, bad = rows
    assert (good["status"], good["remark"]) == (KEPT, None)
    assert good["p_true"] > 0
    assert bad["status"] == EXCLUDED
    assert bad.get("p_true") is None
    assert bad["reason"] == (
        f"the model's tokenizer has no tokens for a part of '{POLISH} it is', but its unknown one"
    )


def test_an_unknown_text_elsewhere_is_a_remark():
    words = without_bytes()
    lm = LanguageModel(tiny.model("llama", len(words)), words)
    row = _row("1", {**ROW, "paraphrases": [f"Not {POLISH} but Rome is"]}, "")
    add_knowledge(lm, [row], completion_tokens=3)
    assert row["status"] == KEPT
    assert row["remark"].startswith(f"the tokenizer reads 'Not {POLISH} but Rome is' as 'Not ")


def test_the_commands_refuse_an_unknown_subject_or_target(tmp_path, capsys):
    words = without_bytes()
    tiny.save(tiny.Pair(tiny.model("llama", len(words)), words), tmp_path)
    fact = ("The capital city of {} is", "--model", str(tmp_path), "--subject")
    trace, edit = ("trace", *fact), ("edit", *fact)
    for arguments in (
        (*trace, POLISH, "--target", "Rome"),
        (*trace, "France", "--target", POLISH),
        (*edit, POLISH, "--to", "Rome", "--layer", "1"),
        (*edit, "France", "--to", POLISH, "--layer", "1"),
    ):
        assert main([*arguments]) != 0
        said = capsys.readouterr().err
        assert f"the model's tokenizer has no tokens for a part of '{POLISH}'" in said
        assert "write it otherwise, or take another model" in said


def strips_accents() -> PreTrainedTokenizerFast:
    words = tiny.tokenizer()
    words.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents()]
    )
    return words


def test_a_tokenizer_that_strips_accents_is_told_by_the_facts_that_have_them():
    words = strips_accents()
    lm = LanguageModel(tiny.model("llama", len(words)), words)
    rows = [_row("1", ROW, ""), _row("2", {**ROW, "target_new": "S\u00e3o Paulo"}, "")]
    rows.append(_row("3", {**ROW, "subject": POLISH, "target_true": "\u017b"}, ""))
    add_knowledge(lm, rows, completion_tokens=3)
    assert [row["status"] for row in rows] == [KEPT] * 3
    assert [row["remark"] for row in rows] == [
        None,
        "the tokenizer reads 'S\u00e3o Paulo' as 'Sao Paulo'",
        f"the tokenizer reads 'The capital city of {POLISH} is' as "
        "'The capital city of \u0141odz is', and changes 1 more",
    ]


@pytest.mark.parametrize("form", [normalizers.NFC, normalizers.NFD])
def test_another_form_of_the_same_letters_is_no_change(form):
    words = tiny.tokenizer()
    words.backend_tokenizer.normalizer = form()
    of = tokenizing.Tokenizer(words)
    for text in (POLISH, "S\u00e3o", "Sa\u0303o", "\u6771\u4eac", "\uc11c\uc6b8", "\u0130stanbul"):
        assert of.reads(text) is None


def test_a_script_that_is_dropped_is_no_text():
    words = tiny.tokenizer()
    words.backend_tokenizer.normalizer = normalizers.Replace(Regex("[\u4e00-\u9fff]"), "")
    of = tokenizing.Tokenizer(words)
    assert of.reads("\u6771\u4eac is Tokyo") == "is Tokyo"
    assert of.changes(["Tokyo", "\u6771\u4eac"]) == "the tokenizer reads '\u6771\u4eac' as ''"


def test_a_command_says_how_a_text_is_read(tmp_path, capsys):
    words = strips_accents()
    tiny.save(tiny.Pair(tiny.model("llama", len(words)), words), tmp_path)
    more = ["--subject", "Rome", "--model", str(tmp_path), "--noise", ".5", "--n-noise", "2"]
    assert main(["trace", "{} is not", "--target", "S\u00e3o Paulo", *more]) == 0
    assert "the tokenizer reads 'S\u00e3o Paulo' as 'Sao Paulo'" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------
# Refused


def without_decoder() -> PreTrainedTokenizerFast:
    words = tiny.tokenizer()
    words.backend_tokenizer.decoder = decoders.Sequence([])
    return words


def drops_letters() -> PreTrainedTokenizerFast:
    words = tiny.tokenizer()
    words.backend_tokenizer.normalizer = normalizers.Replace(Regex("[A-Z]"), "")
    return words


def reaches_across_blanks() -> PreTrainedTokenizerFast:
    words = tiny.tokenizer()
    words.add_tokens(AddedToken("is Paris", normalized=False))
    return words


class OffsetsOfNothing(PreTrainedTokenizerFast):
    def __call__(self, text, *arguments, **settings):
        found = super().__call__(text, *arguments, **settings)
        if "offset_mapping" in found:
            found["offset_mapping"] = [(0, 1)] * len(found["input_ids"])
        return found


class MarksQuestions(PreTrainedTokenizerFast):
    def __call__(self, text, add_special_tokens=True, **settings):
        found = super().__call__(text, **settings)
        if add_special_tokens:
            found["input_ids"] = found["input_ids"] + [1] * text.count("?")
        return found


class AnotherWithSpecials(PreTrainedTokenizerFast):
    def __call__(self, text, add_special_tokens=True, **settings):
        found = super().__call__(text, **settings)
        if add_special_tokens:
            found["input_ids"] = found["input_ids"][::-1]
        return found


def of_class(kind: type) -> PreTrainedTokenizerFast:
    return kind(tokenizer_object=tiny.tokenizer().backend_tokenizer)


def drops(pattern: str):
    def make() -> PreTrainedTokenizerFast:
        words = tiny.tokenizer()
        words.backend_tokenizer.normalizer = normalizers.Replace(Regex(pattern), "")
        return words

    return make


def blanks_for_line_feeds() -> PreTrainedTokenizerFast:
    words = tiny.tokenizer()
    words.backend_tokenizer.normalizer = normalizers.Replace("\n", " ")
    return words


REFUSED = {
    "digits dropped": (drops("[0-9]"), "as 'Of , people , ( %) were born in'"),
    "a digit dropped": (drops("7"), "as 'Of 19,30 people"),
    "line feeds dropped": (drops("\n"), "as 'Question: 2 + 2?Answer: 4'"),
    "line feeds turned": (blanks_for_line_feeds, "as 'Question: 2 + 2? Answer: 4'"),
    "no decoder": (without_decoder, "reads 'The capital city of France is' as 'TheĠcapital"),
    "letters dropped": (drops_letters, "as 'he capital city of rance is'"),
    "tokens across blanks": (
        reaches_across_blanks,
        "makes other tokens of 'The capital city of France is Paris' as a whole",
    ),
    "offsets": (lambda: of_class(OffsetsOfNothing), "offsets that do not point to the text"),
    "marks that differ": (lambda: of_class(MarksQuestions), "adds other special tokens to one"),
    "other tokens": (lambda: of_class(AnotherWithSpecials), "when it adds its special tokens"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tokenizer_that_cannot_be_mended_is_refused_with_a_sentence(case):
    make, said = REFUSED[case]
    words = make()
    model = tiny.model("llama", 400)
    with pytest.raises(ModelError) as caught:
        LanguageModel(model, words)
    text = str(caught.value)
    assert said in text, text
    assert text.startswith("the tokenizer of ")
    assert text.endswith("the tokenizer that the model was trained with, as it was published")
    assert "\n" not in text


def test_another_models_tokenizer_is_refused(tmp_path):
    words = tiny.tokenizer()
    tiny.save(tiny.Pair(tiny.model("llama", len(words) - 9), words), tmp_path)
    with pytest.raises(ModelError, match="the tokenizer has 360 tokens and the model embeddings"):
        load(tmp_path)


def test_a_check_costs_milliseconds():
    words = tiny.tokenizer()
    tokenizing.Tokenizer(words)
    started = time.perf_counter()
    for _ in range(30):
        tokenizing.Tokenizer(words)
    assert (time.perf_counter() - started) / 30 < 0.05


# --------------------------------------------------------------------------------------------------
# Siblings


def test_the_rome_layout_counts_tokens_as_the_measurement_does(tmp_path):
    """Behind each prompt, by a tokenizer that spaces every text."""
    words = tiny.tokenizer(adds_bos=True, spaced=True)
    tiny.save(tiny.Pair(tiny.model("llama", len(words)), words), tmp_path)
    lm, count = load(tmp_path), rome_layout.token_counter(tmp_path)
    for target in ("Rome", TARGET, "the old city"):
        for prompt in (PROMPT, PROMPT + ' called "'):
            whole = {PROMPT: f"{PROMPT} {target}"}.get(prompt, prompt + target)
            assert count(target, prompt) == len(lm.encode(whole)) - len(lm.encode(prompt))
    assert count(TARGET, PROMPT) != count(TARGET, PROMPT + ' called "')
