"""A subject acts where its template has it, though its text also stands in another word.

Everything that reads the place is held to the oracle, which is told it; that the other place would
give other numbers is part of each test.
"""

import unicodedata

import numpy as np
import oracle
import oracle_variants
import pytest
import test_datasets as samples
import test_engine as engine
import tiny
import torch

from locedit.cli.main import main
from locedit.engine import sampling
from locedit.facts import formats
from locedit.facts.record import Fact, read_records
from locedit.localizers import NoSettings, Place, SharedInputs, restoration, zeroing
from locedit.methods import problems
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel
from locedit.store import tables
from locedit.study import measure
from locedit.study.edit import OK, Measuring, Subject, baseline, batches
from locedit.text import subjects

pytestmark = pytest.mark.usefixtures("nothing_in_float32")

TEMPLATE, SUBJECT, TARGET = "{} borders Nigeria. Its capital city is", "Niger", "Rome, Italy"
PROMPT = TEMPLATE.replace("{}", SUBJECT)
TEMPLATES = {"in another word": TEMPLATE, "as a word again": "{} is old. The city of Niger is in"}


def fact_of(template: str, case_id: str = "niger") -> Fact:
    return Fact(
        case_id=case_id,
        relation_id="",
        subject=SUBJECT,
        template=template,
        target_true=TARGET,
        target_new="Paris",
    )


@pytest.fixture(params=TEMPLATES)
def fact(request) -> Fact:
    """Its subject stands first in the prompt, and its text once more, where searching finds it."""
    return fact_of(TEMPLATES[request.param])


def places(fact: Fact) -> tuple[int, int]:
    """Where the subject begins, and the prompt's last occurrence of its text."""
    return 0, fact.prompt.rindex(SUBJECT)


def asked(fact: Fact, problem: str, *quirks: str) -> Request:
    return Request(
        case_id=fact.case_id,
        template=fact.template,
        subject=fact.subject,
        target=fact.target_true,
        problem=problems.named(problem, quirks),
    )


def differ(one, other) -> bool:
    return not np.allclose(one, other, rtol=1e-3, atol=0)


# ---- the engine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "start"),
    [(TEMPLATE, 0), ("The Nigerian neighbour {} is", 23), ("In {} and of {}:", 16)],
)
def test_a_template_says_where_its_subject_begins(template, start):
    """Of several holes, which no data file may have, the last one, as METHODS has it."""
    fact = fact_of(template)
    request = asked(fact, "error_injection")
    assert request.subject_start == fact.subject_start == start
    assert request.prompt.startswith(SUBJECT, start)


def test_a_template_without_a_hole_has_no_place(tiny_lm):
    with pytest.raises(ValueError, match=r"no \{\} for the subject 'Niger' in 'Its capital is'"):
        subjects.in_template("Its capital is", SUBJECT)
    with pytest.raises(ValueError, match="'Niger' does not occur in prompt 'Its capital is'"):
        tiny_lm.subject_range("Its capital is", SUBJECT, 3)


def test_the_subjects_tokens_are_the_templates(tiny_lm):
    b, e = tiny_lm.subject_range(PROMPT, SUBJECT, 0)
    assert tiny_lm.decode(tiny_lm.encode(PROMPT)[:e]) == SUBJECT
    assert b == len(tiny_lm.encode(""))
    wrong = tiny_lm.subject_range(PROMPT, SUBJECT, PROMPT.index("Nigeria"))
    assert wrong[0] >= e
    assert "iger" in tiny_lm.decode(tiny_lm.encode(PROMPT)[slice(*wrong)])


def test_a_trace_noises_and_restores_the_templates_subject(tiny_lm, fact):
    how = {"module": "mlp", "window": 3, **engine.NOISE}
    what = (tiny_lm.model, tiny_lm.tokenizer, fact.prompt, SUBJECT, TARGET)
    right, wrong = (oracle.trace(*what, **how, start=start) for start in places(fact))
    assert differ(right["p_corrupted"], wrong["p_corrupted"])
    rows = restoration.trace_rows(tiny_lm, fact, **how)
    b, e = right["subject_range"]
    assert {row["token"] for row in rows if row["is_subject"]} == set(range(b, e))
    assert {row["token"] for row in rows if row["is_last_subject"]} == {e - 1}
    engine.close(rows[0]["p_corrupted"], right["p_corrupted"])
    engine.close([row["p_restored"] for row in rows], right["p_restored"].ravel())


def test_zeroing_takes_the_templates_subject(tiny_lm, fact):
    what = (tiny_lm.model, tiny_lm.tokenizer, fact.prompt, SUBJECT, TARGET)
    right, wrong = (
        oracle.zeroing_effect(*what, window=3, module="mlp", start=start) for start in places(fact)
    )
    assert differ(right, wrong)
    place, shared = Place(module="mlp", window=3), SharedInputs(study=[fact])
    (found,) = zeroing.localize(tiny_lm, [fact], place, NoSettings(), shared)
    engine.close(found.values, right)


@torch.no_grad()
def corrupted_by_hand(lm: LanguageModel, prompt: str, start: int) -> str:
    """The likeliest token that begins a word behind the prompt noised there, and four more."""
    row = oracle.Row(ids=lm.encode(prompt))
    noise = {**engine.NOISE, "start": start}
    rows = oracle.with_noise(lm.model, lm.tokenizer, row, prompt, SUBJECT, **noise)
    chosen: list[int] = []
    for step in range(5):
        grown = [oracle.replace(r, ids=r.ids + chosen) for r in rows]
        mean = oracle.forward(lm.model, grown)[:, -1].exp().mean(0)
        texts = ((t, lm.tokenizer.decode([t])) for t in mean.argsort(descending=True).tolist())
        begins = (t for t, text in texts if step or (text[:1] == " " and text[1:2].isalnum()))
        chosen.append(next(begins))
    return lm.decode(chosen)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_o_noise_is_what_follows_the_noised_subject_of_the_template(family, fact):
    lm = LanguageModel(*tiny.pair(family))
    right, wrong = (corrupted_by_hand(lm, fact.prompt, start).split()[0] for start in places(fact))
    assert right != wrong
    how = Measuring(sigma=engine.SIGMA, n_noise=engine.N_NOISE, noise_seed=engine.SEED)
    (row,) = baseline(lm, problems.named("tracing_reversal"), [fact], [1.0], how, 0.0)
    assert row["target"] == right.rstrip(".,;:!?\"')")


def test_the_quirks_o_noise_follows_the_noised_subject_too(fact, monkeypatch):
    lm = LanguageModel(*tiny.pair("gpt2"))
    tokens, noise = len(lm.encode(fact.prompt)) + 6, {"sigma": 2.0, "n_noise": 3}
    right, wrong = (
        sampling.corrupted_texts(
            lm, [fact.prompt], [SUBJECT], starts=[start], tokens=tokens, seed=1, **noise
        )
        for start in places(fact)
    )
    assert right != wrong
    monkeypatch.setattr(sampling.corrupted_texts, "__kwdefaults__", {"tokens": tokens})
    problem = problems.named("tracing_reversal", ["reversal_prompt_in_target"])
    how = Measuring(noise_seed=1, **noise)
    (row,) = baseline(lm, problem, [fact], [1.0], how, 0.0)
    assert [row["target"]] == right


@pytest.fixture(scope="module")
def moments(tiny_lm) -> dict[int, torch.Tensor]:
    return oracle.key_statistics(tiny_lm.model, tiny_lm.tokenizer, tiny.SENTENCES, range(5))


@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
@pytest.mark.parametrize("method", ["FT-1", "ROME", "MEMIT"])
def test_an_edit_acts_on_the_templates_subject(tiny_lm, moments, fact, method, problem):
    """ROME's and MEMIT's keys, values and noise, also behind a context; FT's noise."""
    check_edit(tiny_lm, moments, method, asked(fact, problem))


@pytest.mark.parametrize("method", ["ROME", "MEMIT"])
def test_the_bare_prompts_positions_are_the_templates(tiny_lm, moments, fact, method, monkeypatch):
    monkeypatch.setattr(oracle, "context_rows", oracle_variants.context_rows_at_bare_positions)
    check_edit(tiny_lm, moments, method, asked(fact, "fact_forcing", "forcing_noise_position"))


@pytest.mark.parametrize("method", ["ROME", "MEMIT"])
def test_the_subject_of_the_kl_row_stands_first(tiny_lm, moments, method):
    """ "a is a", and contexts that hold it as well: the template alone knows."""
    letter = Fact(**{**vars(fact_of("In {} city")), "subject": "a"})
    check_edit(tiny_lm, moments, method, asked(letter, "error_injection"))


def check_edit(lm: LanguageModel, moments: dict, method: str, request: Request) -> None:
    expected = engine.textbook(lm, method, request, engine.MIDDLE, moments)
    got = engine.edit(lm, method, [request], engine.MIDDLE, moments)
    engine.check_changes(engine.change_of(got.updates, 0), expected.changes)
    assert got.losses[0][0] == pytest.approx(expected.losses[0], rel=1e-9)


def test_forcing_is_scored_under_noise_on_the_templates_subject(tiny_lm, fact):
    probe = measure.Probe(
        request=asked(fact, "fact_forcing"),
        other="Paris",
        paraphrases=["Nigeria borders Niger. Its capital is"],
        neighbourhood=["The capital city of Italy is"],
    )
    got = measure.measure(tiny_lm, [probe], **engine.NOISE)[0]
    pair, noise = (tiny_lm.model, tiny_lm.tokenizer), {"subject": SUBJECT, **engine.NOISE}
    right, wrong = (
        [
            oracle.target_logprob(*pair, fact.prompt, o, start=start, **noise)
            for o in (TARGET, "Paris")
        ]
        for start in places(fact)
    )
    assert differ(right, wrong)
    engine.close(got.rewrite, right)
    for prompts, logs in (
        (probe.paraphrases, got.paraphrase),
        (probe.neighbourhood, got.neighbourhood),
    ):
        clean = [[oracle.target_logprob(*pair, p, o) for p in prompts] for o in (TARGET, "Paris")]
        engine.close(logs, clean)


def test_facts_are_batched_by_what_follows_the_templates_subject(tiny_lm):
    """Behind the first fact's subject stands more than "ia"."""
    templates = {"long": "{} is the old neighbour of Nigeria", "short": "The city of {} is in"}
    of = [
        Subject(
            fact=fact_of(template, case_id=name),
            before={"status": OK},
            texts=[],
            perplexity=[],
        )
        for name, template in templates.items()
    ]
    order = [batch[0].fact.case_id for batch in batches(tiny_lm, of, 1)]
    assert order == ["short", "long"]


# ---- filled prompts ------------------------------------------------------------------------------

ACUTE, NUKTA, THAI_I = "\u0301", "\u093c", "\u0e34"

PLACES = {
    "a word before a longer one": ("Niger borders Nigeria", "Niger", 0),
    "a word behind a longer one": ("Nigeria borders Niger", "Niger", 16),
    "a genitive": ("Nigeria is Niger's neighbour", "Niger", 11),
    "a curly genitive": ("Nigeria is Niger’s neighbour", "Niger", 11),
    "punctuation": ("Is Nigeria “Niger”?", "Niger", 12),
    "a hyphen": ("Nigeria and the Niger-Benue area", "Niger", 16),
    "inside the middle": ("Rome is in Romania, Jerome", "Rome", 0),
    "digits": ("iPhone 4 or iPhone 4S", "iPhone 4", 0),
    "digits in front": ("7 is not 17", "7", 0),
    "a subject that ends in a sign": ("C++ and C++11", "C++", 8),
    "a mark that follows": (f"Jose met Jose{ACUTE} there", "Jose", 0),
    "a mark between letters": (f"Ren met Re{ACUTE}n", "Re" + ACUTE + "n", 8),
    "a mark, then a letter": (f"Jose{ACUTE} met Jose{ACUTE}s", f"Jose{ACUTE}", 0),
    "an Indic mark": (f"\u0915 \u0915{NUKTA}", "\u0915", 0),
    "an unseen joiner": ("Niger and Niger\u00adia", "Niger", 0),
    "another script with blanks": ("Нигер граничит с Нигерией", "Нигер", 0),
    "capitals are other letters": ("Niger and NIGER", "Niger", 0),
    "a longer name behind": ("Guinea borders Guinea-Bissau", "Guinea", 0),
    "a longer name behind, unbroken": ("Guinea borders Guinea\u2011Bissau", "Guinea", 0),
    "a longer name in front": ("Bissau is the capital of Guinea-Bissau", "Bissau", 0),
    "a dash parts": ("Guinea - or Guinea \u2013 is", "Guinea", 12),
    "a longer abbreviation": ("The U.S. is the U.S.A. too", "U.S.", 4),
    "a longer abbreviation, no dot": ("The U.S is the U.S.A. too", "U.S", 4),
    "a dot that ends": ("It is U.S.A. or U.S.", "U.S.", 16),
    "a language's sharp": ("C came before C# did", "C", 0),
    "a language's plus": ("C came before C++ did", "C", 0),
    "a web address": ("Amazon owns www.Amazon.com", "Amazon", 0),
    "full-width Latin": ("ＮＨ and ＮＨＫ", "ＮＨ", 0),
    "several words": ("New York and New Yorkers", "New York", 0),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_whole_word_is_preferred_to_a_part_of_one(case):
    prompt, subject, start = PLACES[case]
    assert subjects.locate(prompt, subject).start == start


@pytest.mark.parametrize(
    ("prompt", "subject", "start"),
    [
        ("法国的首都是巴黎", "法国", 0),
        ("日本の首都は東京です", "東京", 6),
        ("これはニジェールです", "ニジェール", 3),
        ("เมืองหลวงของฝรั่งเศสคือ", "ฝรั่งเศส", 12),
        ("2020年的冠军", "2020", 0),
        ("\u0f54\u0f0b\u0f62\u0f72\u0f66", "\u0f62\u0f72", 2),
        ("\ua98f\ua98f\ua992", "\ua992", 2),
        ("\u1b13\u1b14", "\u1b14", 1),
        ("\uaa80\uaa81", "\uaa81", 1),
        ("ﾆｼﾞﾆﾎﾝ", "ﾆﾎﾝ", 3),
        ("Windows和Windows。中国", "中国", 16),
    ],
)
def test_without_blanks_a_word_may_end_after_any_letter(prompt, subject, start):
    place = subjects.locate(prompt, subject)
    assert (place.start, place.remark) == (start, None)


def test_a_mark_belongs_to_its_letter_in_every_script():
    letter = "\u0e01"
    assert unicodedata.category(THAI_I) == "Mn"
    assert subjects.locate(f"{letter} {letter}{THAI_I}", letter).start == 0
    dakuten = "\u3099"
    assert subjects.locate(f"かとか{dakuten}と", "か").start == 0
    assert subjects.locate(f"か{dakuten}と", f"か{dakuten}").remark is None


def test_of_several_words_the_last_is_taken_and_said():
    place = subjects.locate("In France, Frances, the capital of France is", "France")
    assert place.start == 35
    assert place.remark == "the subject stands 2 times in the prompt; the last one is taken"


@pytest.mark.parametrize("subject", ["Guinea", "Bissau"])
def test_a_part_of_a_longer_name_is_no_second_place(subject):
    text = f"{subject} and Guinea-Bissau"
    assert subjects.remark(text, subject) is None
    assert subjects.locate("It is Guinea-Bissau", subject).start == 6 + 7 * (subject == "Bissau")


def test_a_subject_inside_other_words_alone_is_taken_and_said():
    place = subjects.locate("Nigerians say that Nigeria’s capital is", "Niger")
    assert place.start == 19
    assert place.remark == (
        "the subject stands only inside another word of the prompt, 'Nigeria'; taken as it is"
    )


@pytest.mark.parametrize(("prompt", "subject"), [("Its capital is", "Niger"), ("Niger", "")])
def test_a_subject_that_is_not_there_has_no_place(prompt, subject):
    assert subjects.locate(prompt, subject) is None
    assert subjects.remark(prompt, subject) is None


@pytest.mark.parametrize("text", ["\u200d" * 3, ACUTE * 3, f"{ACUTE}a", f"a\u200d{ACUTE}", " a "])
def test_marks_and_joiners_alone_are_looked_through(text):
    for subject in {text, text[0], text[-1], text[1:]}:
        place = subjects.locate(text, subject)
        assert text.startswith(subject, place.start)


def test_the_engine_finds_whole_words_in_a_prompt_without_a_template(tiny_lm):
    assert tiny_lm.subject_range(PROMPT, SUBJECT) == tiny_lm.subject_range(PROMPT, SUBJECT, 0)


# ---- data files ----------------------------------------------------------------------------------

FILLED = {
    "native": lambda prompt: {
        "case_id": "a",
        "subject": SUBJECT,
        "prompt": prompt,
        "target_true": "Niamey",
        "target_new": "Rome",
    },
    "easyedit": lambda prompt: {**samples.EASYEDIT, "subject": SUBJECT, "prompt": prompt},
    "zsre": lambda prompt: {**samples.ZSRE, "subject": SUBJECT, "src": prompt},
    "known_1000": lambda prompt: {
        **samples.KNOWN,
        "subject": SUBJECT,
        "prompt": prompt,
        "template": "{} is",
    },
}


SAID: list[str] = []  # what readers told


def read(tmp_path, form: str, *prompts: str) -> list[dict]:
    path = tmp_path / "facts.json"
    records = [FILLED[form](prompt) for prompt in prompts]
    for number, record in enumerate(records):
        record |= {"case_id": str(number), "known_id": number, "attribute": f"City {number}x"}
        record["answers"] = [f"City {number}x"]
    path.write_text(samples.json.dumps(records), encoding="utf-8")
    return read_records(path, form, say=SAID.append)


@pytest.mark.parametrize("form", FILLED)
def test_every_form_of_filled_prompts_prefers_whole_words_and_says_what_is_doubtful(tmp_path, form):
    rows = read(
        tmp_path,
        form,
        "Niger borders Nigeria, and its capital is",
        "Nigeria is not so, its capital is",
        "In Niger, the capital of Niger is",
        "Its capital is",
    )
    holes = [row["template"].removeprefix("Question: ").removesuffix(" Answer:") for row in rows]
    assert holes[:3] == [
        "{} borders Nigeria, and its capital is",
        "{}ia is not so, its capital is",
        "In Niger, the capital of {} is",
    ]
    assert [row["status"] for row in rows] == ["kept"] * 3 + ["excluded"]
    said = [row["remark"] for row in rows]
    assert said[0] is said[3] is None
    assert said[1].startswith("the subject stands only inside another word of the prompt")
    assert said[2].startswith("the subject stands 2 times in the prompt")
    assert SAID[-1].endswith(f"2 of 3 records changed or odd: 1 x {said[1]}; 1 x {said[2]}")
    tables.write(tmp_path / "facts.parquet", rows, "facts")
    kept = tables.read(tmp_path / "facts.parquet", "facts")["remark"]
    assert list(kept.isna()) == [remark is None for remark in said]
    assert list(kept.dropna()) == said[1:3]


def test_the_template_of_a_known_1000_record_says_where_the_subject_is(tmp_path):
    (row, other) = read(tmp_path, "known_1000", "Niger is near the Niger at", "A Niger is Niger in")
    assert (row["template"], row["remark"]) == ("{} is near the Niger at", None)
    assert other["template"] == "A Niger is {} in", "its prompt does not begin as its template does"


@pytest.mark.parametrize("template", [3, ["{}"], None, "{} {}", "Niger"])
def test_a_known_1000_template_that_is_none_is_no_guide(tmp_path, template):
    record = {**samples.KNOWN, "subject": SUBJECT, "prompt": PROMPT, "template": template}
    assert formats.FORMATS["known_1000"].read(record)["template"] == TEMPLATE


def test_a_records_own_template_leaves_no_doubt(tmp_path):
    path = tmp_path / "facts.json"
    record = {**samples.NATIVE, "template": "Near {} and France is", "remark": "the author's"}
    path.write_text(samples.json.dumps([record]), encoding="utf-8")
    (row,) = read_records(path, "native")
    assert (row["template"], row["remark"]) == ("Near {} and France is", None)


# ---- the command line ----------------------------------------------------------------------------


def said_of(fact: Fact) -> str:
    right, wrong = places(fact)
    where = f"character {right + 1}, where the template has it"
    return f'subject: "Niger" at {where}, not at {wrong + 1}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pair = tiny.pair("llama", dtype=torch.float32)
    return tiny.save(pair, tmp_path_factory.mktemp("tiny") / "weights")


def run(capsys, *arguments) -> list[str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out.splitlines()


def test_a_trace_says_which_occurrence_it_noises_and_marks_its_tokens(folder, fact, capsys):
    how = ["--model", folder, "--target", "Paris", "--noise", "0.5", "--n-noise", "2"]
    lines = run(capsys, "trace", fact.template, "--subject", SUBJECT, *how)
    assert said_of(fact) in lines
    marked = [line.split()[0] for line in lines if line.startswith("*")]
    assert "".join(label.removeprefix("*") for label in marked) == SUBJECT
    blank = lines.index("")
    rows = lines[blank + 2 : lines.index("", blank + 1) - 1]  # without layers' numbers and scale
    assert len(rows) == len(tiny.tokenizer()(fact.prompt)["input_ids"]), "it begins the prompt"
    alone = run(capsys, "trace", "The capital city of {} is", "--subject", SUBJECT, *how)
    assert not any(line.startswith("subject:") for line in alone)


def test_an_edit_says_which_occurrence_it_takes(folder, fact, capsys):
    how = ["--model", folder, "--to", "Rome", "--layer", "2", "--method", "FT-1"]
    assert said_of(fact) in run(capsys, "edit", fact.template, "--subject", SUBJECT, *how)
