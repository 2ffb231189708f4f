"""Where a blank belongs between prompt and target, and that all that puts them together agrees.

The rule is text alone. What is computed by it is compared with the textbook algorithms.
"""

import math
import re
from pathlib import Path

import numpy as np
import oracle
import pytest
import tiny
import torch
from test_engine import (
    CONTEXTS,
    MIDDLE,
    NOISE,
    change_of,
    check_changes,
    check_measurement,
    close,
    edit,
    textbook,
)
from test_sampling import PROMPTS as PLAIN
from tokenizers import trainers

from locedit.cli.main import main
from locedit.engine import sampling
from locedit.exchange import rome_layout
from locedit.facts import bundled
from locedit.facts.record import KEPT, _row
from locedit.localizers import MODULES, restoration, zeroing
from locedit.methods import SharedInputs, problems, values
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel
from locedit.store import tables
from locedit.study import measure
from locedit.study.knowledge import add_knowledge
from locedit.text import joining
from locedit.text.joining import doubt, first_word, join

pytestmark = pytest.mark.usefixtures("nothing_in_float32")

# --------------------------------------------------------------------------------------------------
# The rule

PROSE = [
    ("The capital of France is", "Paris"),
    ("Question: What is the capital of France? Answer:", "Paris"),
    ("He said that,", "Paris"),
    ("In 1990", "Paris"),
    ('The author of "Dracula"', "Bram Stoker"),
    ('The author of {"title":"Dracula"', "is Bram Stoker"),
    ('The author of title="Dracula"', "is Bram Stoker"),
    ("The author of title='Dracula'", "is Bram Stoker"),
    ("The author of 'Dracula'", "Bram Stoker"),
    ("The author of \u201cDracula\u201d", "Bram Stoker"),
    ("Der Autor von \u201eDracula\u201c", "Bram Stoker"),
    ("L'auteur de \u00ab Dracula \u00bb", "Bram Stoker"),
    ("The capital (of France)", "Paris"),
    ("\ud504\ub791\uc2a4\uc758 \uc218\ub3c4\ub294", "\ud30c\ub9ac"),  # Korean has blanks
    ("The Chinese name of China is", "\u4e2d\u56fd"),
    ("The capital of \u4e2d\u56fd is", "\u5317\u4eac"),
    ("\u0627\u0644\u0639\u0627\u0635\u0645\u0629", "\u0628\u0627\u0631\u064a\u0633"),  # Arabic
    ("", "Paris"),
]
OPENING = [
    *("(", "[", "{", "\u201c", "\u2018", "\u00ab", "\u201e", "\u201a", "\u2039", "\u00bf"),
    *("\u300c", "\u300e", "\u300a", "\uff08", "\u3010"),
]
WITHOUT = [
    *((f"The capital of France is called {mark}", "Paris") for mark in (*OPENING, '"', "'", "`")),
    *((f"The capital of France {mark}", "Paris") for mark in OPENING),
    ('"', "Paris"),
    *(
        (data, "Paris")
        for data in (
            '{"country": "France", "capital":"',
            '{"country":"France","capital":"',
            '{"year":1990,"name":"","capital":"',
            "{'country':'France','capital':'",
            '<country name="France" capital="',
            'capital("France","',
        )
    ),
    ('(said of "France" and "', "Paris"),
    ("is called \"'", "Paris"),
    ("is called ``", "Paris"),
    ("The dog's name is '", "Rex"),
    ("Q: the capital of France?\nA:\n", "Paris"),
    ("The capital of France is\t", "Paris"),
    ("\u65e5\u672c\u306e\u9996\u90fd\u306f", "\u6771\u4eac"),  # Japanese
    ("\u6cd5\u56fd\u7684\u9996\u90fd\u662f", "\u5df4\u9ece"),  # Chinese
    ("\u6cd5\u56fd\u7684\u9996\u90fd\u662f\uff1a", "\u5df4\u9ece"),
    ("\u6cd5\u56fd\u7684\u9996\u90fd\u662f:", "\u5df4\u9ece"),
    ('\u6cd5\u56fd\u7684\u9996\u90fd\u53eb\u505a"', "\u5df4\u9ece"),
    ('\u4ed6\u559c\u6b22"\u7ea2\u697c\u68a6"', "\u5417"),
    ("\u300c\u6771\u4eac\u300d", "\u306f"),
    ("\u0e40\u0e21\u0e37\u0e2d\u0e07\u0e2b\u0e25\u0e27\u0e07\u0e04\u0e37\u0e2d", "\u0e1b\u0e32"),
    ("\u0e99\u0eb0\u0e84\u0ead\u0e99", "\u0e9b\u0eb2"),  # Lao
    ("\u179a\u178a\u17d2\u178b\u1792\u17b6\u1793\u17b8", "\u1794\u17c9\u17b6"),  # Khmer
    ("\u1019\u103c\u102d\u102f\u1037", "\u1015\u102b"),  # Burmese
    ("\u0f56\u0f7c\u0f51\u0f0b", "\u0f63\u0fb7"),  # Tibetan, behind the mark of a syllable
    ("\ua98f\ua9b8", "\ua997\ua9ae"),  # Javanese
    ("\u1b13\u1b38", "\u1b22\u1b36"),  # Balinese
    ("\u1950", "\u1951"),  # Tai Le
    ("\u1980", "\u1981"),  # New Tai Lue
    ("\u1a20", "\u1a21"),  # Tai Tham
    ("\uaa80", "\uaa81"),  # Tai Viet
]
DOUBTFUL = [  # and what is put there
    ('The screen measures 27"', "Paris", " "),
    ('The "5 inch disc is called "', "Paris", ""),
    ('The screens measure 27" and 32"', "each", " "),
    ('The capital of France is"', "Paris", ""),
    ('The capital of France?"', "Paris", ""),
    ('"Dracula" was written by"', "Bram Stoker", ""),
    ("The capital of France is`", "Paris", ""),
    ("The Beatles'", "album", " "),
    ("The people of the U.S.'", "president", " "),
    ("Il \u00e9tait l\u2019", "auteur", " "),
    ("It is in New York-", "based", " "),
    ("It is \u2014", "Paris", " "),
    ("Berlin/", "Paris", " "),
    ("The answer is: **", "Paris", " "),
    ("The tag #", "Paris", ""),
    ("The language C#", "Paris", " "),
    ("The ticket costs $", "5", ""),
    ("It is 5 \u20ac", "today", ""),
    ("It is", ", as one says", " "),
    ("\u6cd5\u56fd\u7684\u9996\u90fd\u662f", "Paris", ""),
    ("\u4ed6\u4f7f\u7528Windows", "\u7cfb\u7edf", ""),
]


@pytest.mark.parametrize(("prompt", "target"), PROSE)
def test_a_blank_belongs_between_the_words_of_prose(prompt, target):
    assert (join(prompt, target), doubt(prompt, target)) == (" ", "")


@pytest.mark.parametrize(("prompt", "target"), WITHOUT)
def test_no_blank_belongs(prompt, target):
    assert (join(prompt, target), doubt(prompt, target)) == ("", "")


@pytest.mark.parametrize(("prompt", "target", "gap"), DOUBTFUL)
def test_either_could_be_meant(prompt, target, gap):
    assert join(prompt, target) == gap
    said = doubt(prompt, target)
    assert said
    assert joining.doubts([prompt, "It is", prompt], [target, target]) == said


def test_the_bundled_facts_are_prose():
    records = bundled.build_records(Path(__file__).parents[2] / "data")
    for record in records[::7]:
        for prompt in (
            record["template"].replace("{}", record["subject"]),
            *record["paraphrases"],
            *record["neighbourhood"],
        ):
            for target in (record["target_true"], record["target_new"]):
                assert (join(prompt, target), doubt(prompt, target)) == (" ", "")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (" Paris, which", "Paris"),
        ('Paris".', "Paris"),
        ("Paris) is", "Paris"),
        ("Paris\u00bb,", "Paris"),
        ("\u6771\u4eac\u3067\u3059\u3002\u65e5\u672c", "\u6771\u4eac\u3067\u3059"),
        ("\u30ec\u30aa\u30fb\u30c0\u300d", "\u30ec\u30aa\u30fb\u30c0"),
        (" \u0f54\u0f0b\u0f62\u0f72\u0f0d", "\u0f54\u0f0b\u0f62\u0f72"),  # Tibetan: Paris
        (" ...", ""),
        ("", ""),
    ],
)
def test_the_first_word_of_a_continuation(text, word):
    assert first_word(text) == word


# --------------------------------------------------------------------------------------------------
# What is computed by it

QUOTED = {
    "a quotation mark": ('The capital city of {} is called "', "Madrid", "Rome, Italy"),
    "a bracket": ("The city of {} (", "Madrid", "the king"),
    "a line feed": ("The capital of {} is\n", "Madrid", "Rome, Italy"),
    "a mark behind the subject": ("It is the city of {} [", "France", "Paris"),
}


@pytest.fixture(scope="module")
def moments(tiny_lm) -> dict[int, torch.Tensor]:
    return oracle.key_statistics(tiny_lm.model, tiny_lm.tokenizer, tiny.SENTENCES, range(5))


def request_of(case: str, problem: str = "error_injection") -> Request:
    template, subject, target = QUOTED[case]
    return Request(
        case_id="0",
        template=template,
        subject=subject,
        target=target,
        problem=problems.named(problem),
    )


@pytest.mark.parametrize("case", QUOTED)
def test_a_trace_is_the_textbook_one(tiny_lm, case):
    fact = request_of(case)
    what = (fact.prompt, fact.subject, fact.target)
    for module in MODULES:
        settings = {"module": module, "window": 3, **NOISE}
        got = restoration.trace(tiny_lm, *what, **settings)
        expected = oracle.trace(tiny_lm.model, tiny_lm.tokenizer, *what, **settings)
        assert got.subject_range == expected["subject_range"]
        close(got.p_clean, expected["p_clean"])
        close(got.p_corrupted, expected["p_corrupted"])
        close(got.p_restored, expected["p_restored"])
    both = (tiny_lm.model, tiny_lm.tokenizer)
    whole = tiny_lm.tokenizer(fact.prompt + fact.target)["input_ids"]
    start = len(tiny_lm.encode(fact.prompt))
    row = oracle.Row(ids=whole, target=whole[start:], predicted_from=start - 1)
    close(got.p_clean, oracle.target_logprobs(oracle.forward(both[0], [row]), [row]).exp().item())
    zeroed = zeroing.zero(tiny_lm, *what, module="mlp", window=3)
    share = oracle.zeroing_effect(*both, *what, window=3)
    np.testing.assert_allclose(1 - zeroed.p_zeroed / zeroed.p_clean, share, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", ["a quotation mark", "a line feed"])
@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
@pytest.mark.parametrize("method", ["FT-1", "ROME", "MEMIT"])
def test_an_edit_is_the_textbook_one(tiny_lm, moments, method, problem, case):
    """And each prompt is scored by its own end: some open a quotation, some do not."""
    fact = request_of(case, problem)
    expected = textbook(tiny_lm, method, fact, MIDDLE, moments)
    got = edit(tiny_lm, method, [fact], MIDDLE, moments)
    check_changes(change_of(got.updates, 0), expected.changes)
    assert got.losses[0][0] == pytest.approx(expected.losses[0], rel=1e-9)
    asked = measure.Probe(
        request=fact,
        other="the government",
        paraphrases=["The city of Madrid is in", "Madrid is said to be in '"],
        neighbourhood=["The capital of Italy (", "The king of Spain"],
    )
    after = measure.measure(tiny_lm, [asked], got.updates, **NOISE)[0]
    with oracle.edited(tiny_lm.model, expected.changes):
        check_measurement(after, tiny_lm, asked)


def test_facts_that_join_otherwise_are_edited_side_by_side(tiny_lm, moments):
    wanted = [request_of(case) for case in QUOTED]
    for method in ("FT-5", "ROME", "MEMIT"):
        together = edit(tiny_lm, method, wanted, MIDDLE, moments)
        for i, fact in enumerate(wanted):
            alone = edit(tiny_lm, method, [fact], MIDDLE, moments)
            check_changes(change_of(together.updates, i), change_of(alone.updates, 0))


def test_the_target_of_tracing_reversal_begins_as_the_prompt_asks(tiny_lm):
    """The word that the model says there, and scored as it was said."""
    cases = [request_of(case) for case in QUOTED]
    prompts = [fact.prompt for fact in cases] + [PLAIN[0]]
    subjects = [fact.subject for fact in cases] + ["Madrid"]
    subjects[-1] = next(word for word in PLAIN[0].split() if word.isalpha())
    words = sampling.corrupted_continuations(tiny_lm, prompts, subjects, **NOISE)
    for prompt, subject, word in zip(prompts, subjects, words, strict=True):
        gap = " " if prompt == PLAIN[0] else ""
        assert join(prompt, word) == gap
        texts = [tiny_lm.continuation([[token]])[0] for token in range(tiny_lm.vocabulary_size)]
        allowed = [
            token
            for token, text in enumerate(texts)
            if text.startswith(gap) and text[len(gap) : len(gap) + 1].isalnum()
        ]
        row = oracle.Row(ids=oracle.prompt_ids(tiny_lm.tokenizer, prompt))
        rows = oracle.with_noise(tiny_lm.model, tiny_lm.tokenizer, row, prompt, subject, **NOISE)
        with torch.no_grad():
            p = oracle.forward(tiny_lm.model, rows)[:, len(row.ids) - 1].exp().mean(0)
        likeliest = max(allowed, key=lambda token: p[token].item())
        assert (gap + word).startswith(texts[likeliest])


def test_a_prompt_that_is_continued_with_no_word_fails_with_a_sentence(tiny_lm, monkeypatch):
    monkeypatch.setattr(
        sampling, "_corrupted_greedy", lambda *_a, **_s: [[tiny_lm.encode(".")[-1]]]
    )
    with pytest.raises(ValueError, match="continues the corrupted 'It is France' with no word"):
        sampling.corrupted_continuations(tiny_lm, ["It is France"], ["France"], **NOISE)


# --------------------------------------------------------------------------------------------------
# Facts


def row_of(template: str, target: str, **more) -> dict:
    record = {"case_id": "1", "template": template, "subject": "Madrid", "target_new": "Rome"}
    return _row("1", {**record, "target_true": target, **more}, "")


def test_p_true_is_that_of_the_target_as_text_has_it(tiny_lm):
    row = row_of('The capital city of {} is called "', "the government")
    add_knowledge(tiny_lm, [row], completion_tokens=3)
    both = (tiny_lm.model, tiny_lm.tokenizer)
    p = oracle.target_logprob(*both, row["prompt"], "the government")
    close(row["p_true"], math.exp(p))
    assert (row["status"], row["remark"]) == (KEPT, None)


def test_a_kept_row_says_where_the_join_is_doubtful(tiny_lm, tmp_path):
    rows = [
        row_of("{} is in New York-", "based", paraphrases=["It is in", "It is #"]),
        row_of("The capital of {} is", "Paris"),
        _row("3", {"template": "{} is -", "target_true": "", "target_new": "x"}, "it is bad"),
    ]
    said = "behind '-' a blank is put; behind '#' no blank is put"
    assert [row["remark"] for row in rows] == [said, None, None]
    add_knowledge(tiny_lm, rows[:2], completion_tokens=3)
    tables.write(tmp_path / "facts.parquet", rows, "facts")
    assert tables.read(tmp_path / "facts.parquet", "facts")["remark"][0] == said


JAPANESE = ("\u65e5\u672c\u306e{}\u306f", "\u9996\u90fd", "\u6771\u4eac")


@pytest.fixture
def merging() -> LanguageModel:
    """A tokenizer with a token that reaches from a Japanese prompt into its target."""
    words = tiny.tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=[t for t in words.get_vocab() if len(t) == 1],
        show_progress=False,
    )
    text = JAPANESE[0].replace("{}", JAPANESE[1]) + JAPANESE[2]
    words.backend_tokenizer.train_from_iterator([*tiny.SENTENCES, *[text] * 9], trainer)
    return LanguageModel(tiny.model("llama", len(words)), words)


@pytest.mark.parametrize("tokenizer", ["merging", "letters of several tokens"])
def test_a_target_that_merges_with_its_prompt_stays_apart(tokenizer, request, tiny_lm):
    lm = request.getfixturevalue("merging") if tokenizer == "merging" else tiny_lm
    template, subject, target = JAPANESE
    row = row_of(template, target, subject=subject, target_new="\u4eac\u90fd")
    prompt, ids = lm.encode(row["prompt"]), lm.encode_target(target, row["prompt"])
    assert lm.decode(prompt + ids) == row["prompt"] + target
    add_knowledge(lm, [row], completion_tokens=3)
    assert row["status"] == KEPT
    assert bool(row["remark"]) == (tokenizer == "merging")
    if row["remark"]:
        assert f"as one text, the prompt and {target!r} have other tokens" in row["remark"]
    fact = Request(
        case_id="0",
        template=template,
        subject=subject,
        target=target,
        problem=PROBLEMS["error_injection"],
    )
    rows = values.build(lm, [fact], SharedInputs(contexts=[CONTEXTS]))
    for i, context in enumerate(CONTEXTS):
        head = lm.encode(context.replace("{}", fact.prompt))
        assert rows.ids[i, : rows.lengths[i]].tolist() == head + ids[:-1]


def test_the_rome_layout_counts_each_prompts_own_tokens():
    fact = {
        "template": "{} is",
        "relation_id": "",
        "subject": "It",
        "prompt": "It is",
        "paraphrases": ["a", "b ("],
        "neighbourhood": ["c", "d"],
    }
    log_p = {"rewrite": -6.0, "paraphrase": [-6.0, -6.0], "neighbourhood": [-6.0]}
    row = {"case_id": "1", "problem": "error_injection", "target": "new", "other": "old"}
    for kind, value in log_p.items():
        for when in ("before", "after"):
            row |= {f"{kind}_target_{when}": value, f"{kind}_other_{when}": value}
    row |= {
        f"{name}_{when}": []
        for name in ("generations", "perplexity")
        for when in ("before", "after")
    }
    tokens = {("new", "b ("): 1, ("old", "b ("): 3}
    found = rome_layout.case(row, fact, 0, lambda *asked: tokens.get(asked, 2))
    for stage in ("pre", "post"):
        assert found[stage]["rewrite_prompts_probs"] == [{"target_new": 3, "target_true": 3}]
        assert found[stage]["paraphrase_prompts_probs"] == [
            {"target_new": 3, "target_true": 3},
            {"target_new": 6, "target_true": 2},
        ]
        assert len(found[stage]["neighborhood_prompts_probs"]) == 1


# --------------------------------------------------------------------------------------------------
# The command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.save(
        tiny.pair("llama", dtype=torch.float32), tmp_path_factory.mktemp("tiny") / "weights"
    )


def say(capsys, folder, *arguments: str) -> str:
    more = ["--model", str(folder), "--noise", "0.5", "--n-noise", "2"]
    assert main([*arguments, "--subject", "France", *more]) == 0
    return capsys.readouterr().out


def test_the_command_traces_a_target_behind_an_opening_mark(capsys, folder, monkeypatch):
    template = 'The capital city of {} is called "'
    out = say(capsys, folder, "trace", template, "--target", "Paris")
    pair = tiny.pair("llama", dtype=torch.float32)
    p = math.exp(oracle.target_logprob(*pair, template.replace("{}", "France"), "Paris"))
    (found,) = re.findall(r"p clean ([\d.]+)", out)
    assert float(found) == pytest.approx(p, abs=6e-5)
    assert "blank" not in out
    monkeypatch.setattr(sampling, "complete", lambda *_: ['Paris", and'])
    out = say(capsys, folder, "trace", template)
    assert 'the model continues with "Paris", so that is traced' in out


def test_the_command_says_where_the_join_is_doubtful(capsys, folder, monkeypatch):
    monkeypatch.setattr(sampling, "complete", lambda *_: ["based, and"])
    out = say(capsys, folder, "trace", "{} is in New York-")
    assert "the model continues with 'based, and', and ' based' is traced" in out
    assert (
        '"France is in New York-" and "based": behind \'-\' a blank is put, though text may go on '
        "the other way"
    ) in out
