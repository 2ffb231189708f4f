"""Fine-tuning of the embedding, against autograd on the whole of its weight; and what it is named.

Tiny models in float64, of families whose head is a weight of its own and of those that share it.
"""

import math
from typing import Any

import oracle
import oracle_editors
import pytest
import test_engine as engine
import tiny
import torch
from test_engine import NOISE, left_alone, probe, requests

import locedit
from locedit.engine.updates import applied, felt, joined, total_norms
from locedit.errors import LoceditError
from locedit.exchange import edited_weights, rome_layout
from locedit.methods import METHODS, Edit, SharedInputs, together
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel
from locedit.study import measure
from locedit.study.edit import Cell, Measuring, Subject, baseline, edit_cell
from locedit.study.held_out import HeldOut
from locedit.windows import EMBEDDING
from locedit.workflow import pairs

pytestmark = pytest.mark.usefixtures("nothing_in_float32")

# Their heads: of its own; shared; with a bias; shared, behind scaled embeddings, logits capped
FAMILIES = ["llama", "gpt2", "gptj", "gemma2", "gemma3", "opt"]
WRITES = [name for name, method in METHODS.items() if method.embedding]
STEPS = {"embedding_lr": 0.05, "embedding_steps": 6}  # wide weights need long steps


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request) -> LanguageModel:
    return LanguageModel(*tiny.pair(request.param, layers=2))


def settings(method: str, problem: str, **more: float) -> Any:
    bound = {} if method == "FT-M" else {"embedding_eps": 0.12}
    return METHODS[method].hyperparameters(problem, "paper", {"all": STEPS | bound | more})


def edit(lm: LanguageModel, method: str, facts: list[Request], **more: float) -> Edit:
    hyper = settings(method, facts[0].problem.name, **more)
    return METHODS[method].edit(lm, facts, EMBEDDING, hyper, SharedInputs(**NOISE))


def textbook(lm: LanguageModel, method: str, fact: Request, **more: float):
    hyper = settings(method, fact.problem.name, **more)
    return oracle_editors.embedding_edit(
        *(lm.model, lm.tokenizer, fact.template, fact.subject, fact.target, fact.problem.name),
        learning_rate=hyper.embedding_lr,
        iterations=hyper.embedding_steps,
        epsilon=getattr(hyper, "embedding_eps", None),
        masked=method == "FT-M",
        **NOISE,
    )


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_rows_of_the_subject_change_as_by_autograd_on_the_whole_weight(lm, method, problem):
    facts = requests(problem)
    with left_alone(lm):
        got = edit(lm, method, facts)
    update = got.updates[EMBEDDING]
    for i, fact in enumerate(facts):
        change, losses, steps = textbook(lm, method, fact)
        size = change.abs().max()
        assert (size > 0) == (steps > 0)
        torch.testing.assert_close(update.matrix(i), change, rtol=0, atol=1e-9)
        assert got.steps[i] == steps
        assert got.losses[i][0] == pytest.approx(losses[0], rel=1e-9)
        b, e = lm.subject_range(fact.prompt, fact.subject, fact.subject_start)
        own = set(lm.encode(fact.prompt)[b:e])
        assert set(change.abs().sum(dim=1).nonzero()[:, 0].tolist()) <= own


def test_a_fact_is_left_alone_once_its_loss_is_small(lm):
    fact = requests("error_injection")[0]
    far = {"embedding_lr": 0.3, "embedding_steps": 60, "embedding_eps": 9.0}
    change, losses, steps = textbook(lm, "FT-1", fact, **far)
    got = edit(lm, "FT-1", [fact], **far)
    assert steps == got.steps[0]
    assert (steps < 60) == (min(losses) < 1e-2)
    torch.testing.assert_close(got.updates[EMBEDDING].matrix(), change, rtol=1e-5, atol=1e-6)


def test_facts_side_by_side_are_those_alone(lm):
    facts = requests("fact_forcing")
    several = edit(lm, "FT-5", facts).updates[EMBEDDING]
    for i, fact in enumerate(facts):
        alone = edit(lm, "FT-5", [fact]).updates[EMBEDDING].matrix()
        torch.testing.assert_close(several.matrix(i), alone, rtol=0, atol=1e-9)


def test_what_is_measured_is_what_the_changed_weight_says(lm):
    """Its head too, where that is the embedding."""
    facts = requests("error_injection")
    updates = edit(lm, "FT-1", facts).updates
    rows = [lm.encode(text)[:6] for text in tiny.SENTENCES[:3]]
    for i, fact in enumerate(facts):
        with left_alone(lm), felt(lm, updates, i) as left:
            got = measure.measure(lm, [probe(fact)], left, **NOISE)[0]
            said = measure.continuations(lm, [probe(fact)], left, steps=3, **NOISE)
            [text] = HeldOut(rows).perplexities(lm, left)
        embedding = oracle.parts(lm.model).embedding
        with oracle.weights_restored([embedding]), torch.no_grad():
            embedding.weight += updates[EMBEDDING].matrix(i)
            engine.check_measurement(got, lm, probe(fact))
            assert said == measure.continuations(lm, [probe(fact)], steps=3, **NOISE)
            assert text == pytest.approx(HeldOut(rows).perplexities(lm)[0], rel=1e-9)
    with pytest.raises(ValueError, match="felt in the weights alone"), applied(lm, updates, [1]):
        pass


# ---- the study -----------------------------------------------------------------------------------


def subjects(lm: LanguageModel, how: Measuring) -> list[Subject]:
    from locedit.facts.record import Fact

    facts = [
        Fact(
            case_id=one.case_id,
            relation_id="r",
            subject=one.subject,
            template=one.template,
            target_true="English",
            target_new=one.target,
            paraphrases=("The king of",),
            neighbourhood=(),
            generation_prompts=(),
        )
        for one in requests("error_injection")
    ]
    problem = PROBLEMS["error_injection"]
    rows = baseline(lm, problem, facts, [1.0] * len(facts), how, 0.0)
    return [
        Subject(fact=fact, before=row, texts=["The king is here."], perplexity=[1.0])
        for fact, row in zip(facts, rows, strict=True)
    ]


@pytest.mark.parametrize("n", [1, 3])
def test_rows_of_the_editing_table(lm, n):
    rows = [lm.encode(text)[:6] for text in tiny.SENTENCES[:3]]
    how = Measuring(greedy_tokens=2, held_out=HeldOut(rows, [1.0] * 3))
    some = subjects(lm, how)
    cell = Cell(
        method="FT-1",
        problem="error_injection",
        layer=EMBEDDING,
        hyper=settings("FT-1", "error_injection"),
        together=n,
    )
    with left_alone(lm):
        found = list(edit_cell(lm, cell, [some], SharedInputs(), how))
    assert [row["status"] for row in found] == ["ok"] * 3
    assert [row["layers"] for row in found] == [[EMBEDDING]] * 3
    facts = requests("error_injection")
    if n == 1:
        changes = [textbook(lm, "FT-1", fact)[0] for fact in facts]
    else:  # one after another, each in the weights as those before it left them
        embedding = oracle.parts(lm.model).embedding
        with oracle.weights_restored([embedding]):
            before = embedding.weight.detach().clone()
            for fact in facts:
                change = textbook(lm, "FT-1", fact)[0]
                with torch.no_grad():
                    embedding.weight += change
            changes = [embedding.weight.detach() - before] * 3
    embedding = oracle.parts(lm.model).embedding
    for row, fact, change in zip(found, facts, changes, strict=True):
        assert row["update_norm"] == pytest.approx(change.norm().item(), rel=1e-6)
        with oracle.weights_restored([embedding]), torch.no_grad():
            embedding.weight += change
            what = (lm.model, lm.tokenizer, fact.prompt, fact.target)
            expected = oracle.target_logprob(*what)
            texts = HeldOut(rows).perplexities(lm)[0]
        assert row["rewrite_target_after"] == pytest.approx(expected, rel=1e-6)
        assert row["text_after"] == pytest.approx(texts, rel=1e-6)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("method", sorted(set(METHODS) - set(WRITES)))
def test_editors_that_write_to_mlps_alone_say_so(method, n):
    lm = LanguageModel(*tiny.pair(layers=2))
    some = subjects(lm, Measuring())
    hyper = METHODS[method].hyperparameters("error_injection", "paper")
    grid: dict[str, Any] = {"problem": "error_injection", "layer": EMBEDDING, "together": n}
    cell = Cell(method=method, hyper=hyper, **grid)
    rows = list(edit_cell(lm, cell, [some], SharedInputs(), Measuring()))
    why = f"not edited: {method} writes to MLPs and has no meaning for the embedding"
    assert [row["status"] for row in rows] == [why] * 3


# ---- one fact, and what is kept ------------------------------------------------------------------

FACT = {"prompt": "The capital of France is", "subject": "France", "target": "Rome"}


@pytest.fixture(params=["llama", "gpt2"])
def loaded(request, tmp_path) -> LanguageModel:
    folder = tiny.save(tiny.pair(request.param, layers=2), tmp_path / "model")
    return locedit.load(folder, dtype="float64")


def test_one_fact_by_name(loaded, tmp_path):
    lm = loaded
    more = {"hyperparameters": {**STEPS, "embedding_eps": 0.2}, "tuned": "none"}
    got = locedit.edit(lm, **FACT, layer=-1, method="FT-1", **more)
    with left_alone(lm):
        scores = locedit.measure(lm, got)
    changed = edited_weights.of_updates(lm, got.updates, {})
    with edited_weights.changed(lm, changed):
        what = (lm.model, lm.tokenizer, FACT["prompt"], FACT["target"])
        expected = math.exp(oracle.target_logprob(*what))
    assert scores.p_after == pytest.approx(expected, rel=1e-6)
    assert got.norm == pytest.approx(total_norms(joined([got.updates]))[0])
    with pytest.raises(LoceditError, match="an adapter does not reach"):
        edited_weights.write_adapter(lm, changed, tmp_path / "adapter", base="x")
    edited_weights.write(tmp_path / "delta.safetensors", changed)
    again = edited_weights.read(tmp_path / "delta.safetensors")
    for name in changed.names:
        assert torch.equal(again.change(name), changed.change(name))


def test_one_fact_by_a_method_that_has_no_edit_of_it(loaded):
    said = (
        r"^layer: ROME writes to MLPs and has no meaning for the embedding; name a layer, or a "
        r"method that has \(FT-1, FT-5, FT-M\)$"
    )
    with pytest.raises(LoceditError, match=said):
        locedit.edit(loaded, **FACT, layer=-1)


def test_facts_together_by_a_method_that_has_no_edit_of_them(lm):
    told: list[str] = []
    found = together.edit(
        *(lm, METHODS["MEMIT"], requests("error_injection"), EMBEDDING, None, SharedInputs()),
        side_by_side=8,
        told=lambda _, status: told.append(status),
    )
    assert found.edits == told
    assert len(set(told)) == 1
    assert told[0].startswith("not edited: MEMIT writes to MLPs")


def test_its_place_has_a_name_in_files():
    assert pairs.place("embedding", 3) == "embedding-together-3"
    assert pairs.placed("embedding-together-3") == ("embedding", 3)
    assert pairs.number("embedding") == EMBEDDING
    assert pairs.number("7") == 7
    layers: list[int | str] = [2, "embedding", "peak"]
    assert pairs.listed(layers) == [2]
    assert pairs.everywhere(layers) == [2, "embedding"]
    runs = [rome_layout.run_name(p, la, 4) for p in PROBLEMS for la in (*range(4), EMBEDDING)]
    assert len(set(runs)) == len(runs)
