"""Edits to take home, from the command line: what is written says what the textbook says."""

import copy
import json

import pytest
import tiny
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from locedit.api import inputs
from locedit.cli.main import main
from locedit.exchange import edited_weights
from locedit.methods import METHODS
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel

FACTS = [
    {
        "subject": subject,
        "template": template,
        "target_true": true,
        "target_new": new,
        "paraphrases": ["You can see {} from"],
        "neighbourhood": ["The river is"],
    }
    for subject, template, true, new in (
        ("France", "The capital city of {} is", "Paris", "Rome"),
        ("Windows", "{} was developed by", "Microsoft", "Apple"),
        ("the king", "The mother tongue of {} is", "English", "French"),
    )
]
FT = ("--method", "FT-1", "--tuned", "none")


@pytest.fixture(scope="module")
def pair():
    return tiny.pair("llama", dtype=torch.float32)


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory):
    return tiny.save(pair, tmp_path_factory.mktemp("tiny") / "weights")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inputs, "_texts", lambda _: iter(tiny.SENTENCES * 9))
    monkeypatch.chdir(tmp_path)

    def command(*arguments, model=folder):
        status = main([*map(str, arguments), "--model", str(model)])
        said = capsys.readouterr()
        return status, said.out if status == 0 else said.err

    return command


def facts(tmp_path, *more):
    (tmp_path / "facts.json").write_text(json.dumps([*FACTS, *more]))
    return tmp_path / "facts.json"


def log_p(model, tokenizer, fact):
    prompt = fact["template"].replace("{}", fact["subject"])
    start, whole = (
        tokenizer(prompt).input_ids,
        tokenizer(f"{prompt} {fact['target_new']}").input_ids,
    )
    with torch.inference_mode():
        found = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(found[i, whole[i + 1]] for i in range(len(start) - 1, len(whole) - 1)).item()


def one_by_one(pair, method, **settings):
    """The textbook: each change is added to the weights before the next fact is edited."""
    lm = LanguageModel(copy.deepcopy(pair.model), pair.tokenizer)
    hyper = METHODS[method].hyperparameters("error_injection", "paper", {"all": settings})
    for fact in FACTS:
        request = Request(
            case_id="x",
            template=fact["template"],
            subject=fact["subject"],
            target=fact["target_new"],
            problem=PROBLEMS["error_injection"],
        )
        found = METHODS[method].edit(lm, [request], 2, hyper, inputs.SharedInputs())
        with torch.no_grad():
            for layer, update in found.updates.items():
                lm.down_weight(layer).add_(update.weights[0])
    return lm


def test_facts_are_written_one_after_another(pair, run, tmp_path):
    wanted = one_by_one(pair, "FT-1")
    status, out = run("apply", facts(tmp_path), "--layer", "2", *FT, "--save", "edited")
    assert status == 0, out
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "edited", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "edited")
    for fact in FACTS:
        found = log_p(model, tokenizer, fact)
        assert found == pytest.approx(log_p(wanted.model, tokenizer, fact), abs=1e-5)
        assert abs(found - log_p(pair.model, tokenizer, fact)) > 1e-3
        assert f"p({fact['target_new']})" in out
        shown = out.split(f"p({fact['target_new']}) ")[1].split(" -> ")[1].split(",")[0]
        assert float(shown) == pytest.approx(torch.tensor(found).exp().item(), rel=2e-3)


def test_facts_are_written_together_in_one_update(pair, run, tmp_path):
    """As the textbook's one update of them all; a method that has none is told."""
    lm = LanguageModel(copy.deepcopy(pair.model), pair.tokenizer)
    requests = [
        Request(
            case_id=str(number),
            template=fact["template"],
            subject=fact["subject"],
            target=fact["target_new"],
            problem=PROBLEMS["error_injection"],
        )
        for number, fact in enumerate(FACTS)
    ]
    hyper = METHODS["FT-M"].hyperparameters("error_injection", "paper")
    shared = inputs.SharedInputs(jointly=len(FACTS))
    found = METHODS["FT-M"].edit(lm, requests, 2, hyper, shared)
    with torch.no_grad():
        for layer, update in found.updates.items():
            lm.down_weight(layer).add_(update.weights[0])
    command = ("apply", facts(tmp_path), "--layer", "2", "--tuned", "none", "--together")
    status, out = run(*command, "--method", "FT-M", "--save", "edited")
    assert status == 0, out
    assert f"{len(FACTS)} of {len(FACTS)}: " in out
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "edited", dtype=torch.float32)
    for fact in FACTS:
        wanted = log_p(lm.model, lm.tokenizer, fact)
        assert log_p(model, pair.tokenizer, fact) == pytest.approx(wanted, abs=1e-5)
    status, said = run(*command, "--method", "FT-1", "--save", "other")
    assert (status, said.count("\n")) == (1, 1)
    assert "--together: FT-1 writes one fact at a time" in said
    assert not (tmp_path / "other").exists()


def test_a_table_with_its_own_columns_is_applied_as_a_study_reads_it(run, tmp_path):
    (tmp_path / "own.csv").write_text(
        "entity,sentence,answer,wrong,paraphrases\n"
        "France,The capital city of {} is,Paris,Rome,One is;Two is\n"
    )
    named = ("subject=entity", "template=sentence", "target_true=answer", "target_new=wrong")
    columns = [word for pair in named for word in ("--column", pair)]
    apply = ("apply", tmp_path / "own.csv", "--layer", "2", *FT)
    status, said = run(*apply, *columns, "--separator", ";")
    assert (status, '"The capital city of France is" -> "Rome"' in said) == (0, True), said
    status, said = run(*apply)
    assert (status, "name its columns by `--column FIELD=COLUMN`" in said) == (1, True), said
    status, said = run(*apply, "--column", "subject=entity", "--column", "subject=answer")
    assert (status, "--column: subject is both 'entity' and 'answer'" in said) == (1, True), said
    status, said = run(*apply, "--column", "subject")
    assert (status, "expected FIELD=COLUMN, as subject=entity, got 'subject'" in said) == (2, True)


def test_an_applied_files_format_can_be_named(run, tmp_path):
    both = {**FACTS[0], "prompt": "The capital city of France is", "ground_truth": "Lyon"}
    (tmp_path / "both.json").write_text(json.dumps([both]))
    apply = ("apply", tmp_path / "both.json", "--layer", "2", *FT)
    assert "not read: template" in run(*apply)[1]  # as EasyEdit's, of which it has all keys
    assert "not read: ground_truth" in run(*apply, "--format", "native")[1]


def test_objects_that_are_drawn_are_said(run, tmp_path):
    (tmp_path / "known_1000.json").write_text(
        json.dumps(
            [
                {"subject": s, "prompt": f"The capital of {s} is", "attribute": o, "template": "r"}
                for s, o in (("France", "Paris"), ("Italy", "Rome"))
            ]
        )
    )
    status, said = run("apply", tmp_path / "known_1000.json", "--layer", "2", *FT)
    assert (status, "2 new objects were drawn from its other facts" in said) == (0, True), said


def test_the_card_tells_base_facts_method_settings_hashes_and_scores(run, tmp_path):
    odd = {**FACTS[0], "subject": "Spain", "target_new": "Paris"}
    status, out = run("apply", facts(tmp_path, odd), "--layer", "2", *FT, "--save", "edited")
    assert status == 0, out
    assert "record-3: left out, target_new equals target_true" in out
    card = (tmp_path / "edited" / "README.md").read_text()
    for said in ("weights, with facts edited by FT-1", "| layer | 2 ", "eps 0.0001", "| Rome | "):
        assert said in card
    assert "left out: target_new equals target_true" in card
    assert "Its weights are float32, as the base's; rounding them loses" in card
    assert card.count("`model.layers.2.mlp.down_proj.weight` | `") == 1


def test_one_edit_is_kept_in_three_ways_that_say_the_same(pair, run, tmp_path):
    fact = FACTS[0]
    command = ["edit", fact["template"], "--subject", fact["subject"], "--to", "Rome"]
    kept = ("--save", "edited", "--save-delta", "d.safetensors", "--save-lora", "adapter")
    status, out = run(*command, "--layer", "2", "--tuned", "none", *kept)
    assert status == 0, out
    tokenizer = pair.tokenizer
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "edited", dtype=torch.float32)
    wanted = log_p(whole, tokenizer, fact)
    assert abs(wanted - log_p(pair.model, tokenizer, fact)) > 1e-3
    adapted = PeftModel.from_pretrained(copy.deepcopy(pair.model), tmp_path / "adapter")
    assert log_p(adapted, tokenizer, fact) == pytest.approx(wanted, abs=1e-5)
    status, out = run("apply", "d.safetensors", "--save", "again")
    assert status == 0, out
    again = load_file(tmp_path / "again" / "model.safetensors")
    first = load_file(tmp_path / "edited" / "model.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    about = edited_weights.read(tmp_path / "d.safetensors").about
    assert (about["editor"], about["base_model"]) == ("ROME", "weights")
    for name in ("edited", "adapter", "again"):
        assert "The capital city of" in (tmp_path / name / "README.md").read_text()


def test_a_difference_is_refused_on_another_base(run, tmp_path):
    run("apply", facts(tmp_path), "--layer", "2", *FT, "--save-delta", "d.safetensors")
    other = tiny.save(tiny.pair("llama", dtype=torch.float32, seed=1), tmp_path / "other")
    status, said = run("apply", "d.safetensors", "--save", "edited", model=other)
    assert (status, "has other values; give its base model" in said) == (1, True)
    assert not (tmp_path / "edited").exists()


@pytest.mark.parametrize(
    "option", [("--layer", "3"), ("--together",), ("--preset", "paper"), ("--tuned", "none")]
)
def test_a_difference_takes_no_option_of_facts(run, tmp_path, option):
    run("apply", facts(tmp_path), "--layer", "2", *FT, "--save-delta", "d.safetensors")
    status, said = run("apply", "d.safetensors", *option, "--save", "edited")
    assert (status, said.count("\n")) == (1, 1), said
    assert f"{option[0]}: d.safetensors is a difference of weights, made as it says itself" in said
    assert not (tmp_path / "edited").exists()


def test_the_base_folders_dtype_and_terms_are_kept(run, tmp_path):
    half = tiny.save(tiny.pair("llama", dtype=torch.bfloat16), tmp_path / "half")
    (half / "LICENSE.txt").write_text("terms")
    status, out = run("apply", facts(tmp_path), "--layer", "2", *FT, "--save", "edited", model=half)
    assert status == 0, out
    assert "Its weights are bfloat16, as the base's; rounding them loses 0." in out
    weights = load_file(tmp_path / "edited" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert (tmp_path / "edited" / "LICENSE.txt").read_text() == "terms"


def test_many_facts_by_alphaedit_are_an_adapter(pair, run, tmp_path):
    command = ("apply", facts(tmp_path), "--layer", "2", "--method", "AlphaEdit")
    status, out = run(*command, "--save-lora", "adapter")
    assert status == 0, out
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert set(settings["rank_pattern"].values()) == {3}


FAULTS = {
    "a target that is there": (["--layer", "2", "--save", "there"], "there is there already"),
    "no folder for it": (["--layer", "2", "--save", "no/where"], "no folder no; make it"),
    "one name for two": (
        ["--layer", "2", "--save", "new", "--save-lora", "./new"],
        "new: each of what is kept takes a name of its own, and two have the same",
    ),
    "a difference by another name": (
        ["--layer", "2", "--save", "new", "--save-delta", "difference"],
        "difference: a difference is a safetensors file; give it a name that ends in .safetensors",
    ),
    "no name": (["--layer", "2", "--save", ""], ". is there already; give a new name"),
    "no layer": (["--save", "new"], "--layer: facts are written at a layer"),
    "a layer beyond": (["--layer", "9", "--save", "new"], "has no layer 9"),
    "an adapter of a whole change": (
        ["--layer", "2", *FT, "--save", "new", "--save-lora", "a"],
        "no product of low rank",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_kept_is_one_sentence_and_nothing_is_written(run, tmp_path, name):
    arguments, part = FAULTS[name]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("mine")
    status, said = run("apply", facts(tmp_path), *arguments)
    assert (status, part in said, said.count("\n")) == (1, True, 1), said
    assert (tmp_path / "there" / "mine").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_the_recommended_layer_and_settings_are_taken(run, folder, tmp_path, capsys):
    model = {"label": "T", "n_layers": 5, "noise": "3sd", "path": str(folder)}
    advice = {"layer": 1, "hyperparameters": {"eps": 0.0321}, "overall": 0.5, "origin": "a search"}
    model["recommended"] = {"FT-1": {"error_injection": advice}}
    (tmp_path / "tiny.yaml").write_text(json.dumps(model))
    bare = {k: v for k, v in FACTS[0].items() if k not in ("paraphrases", "neighbourhood")}
    of = (
        "apply",
        facts(tmp_path, bare),
        "--tuned",
        "recommended",
        "--model",
        tmp_path / "tiny.yaml",
    )
    assert main([*map(str, of), "--method", "FT-1", "--save-delta", "d.safetensors"]) == 0
    assert "nan" not in capsys.readouterr().out
    about = edited_weights.read(tmp_path / "d.safetensors").about
    assert (about["layer"], json.loads(about["settings"])["eps"]) == ("1", 0.0321)
    capsys.readouterr()
    one = ["edit", FACTS[0]["template"], "--subject", FACTS[0]["subject"], "--to", "Rome"]
    assert main([*one, *map(str, of[2:]), "--method", "FT-1"]) == 0
    said = capsys.readouterr().out
    assert "FT-1 at layer 1 (number 2 of 5)" in said
    assert "eps 0.0321" in said
    assert main([*map(str, of), "--method", "ROME"]) == 1
    said = "recommended: the model has nothing for ROME and error_injection (it has: FT-1 for error"
    assert said in capsys.readouterr().err


def test_a_fact_that_fails_is_told_and_the_others_are_written(run, tmp_path, monkeypatch):
    long = {**FACTS[0], "template": "the city " * 200 + "{} is"}
    status, out = run("apply", facts(tmp_path, long), "--layer", "2", *FT, "--save", "edited")
    assert status == 0, out
    assert "failed: the prompt and its target have" in out
    assert "failed: the prompt and its target" in (tmp_path / "edited" / "README.md").read_text()
    (tmp_path / "facts.json").write_text(json.dumps([long]))
    status, said = run("apply", "facts.json", "--layer", "2", *FT)
    assert (status, "none of 1 facts could be edited" in said) == (1, True)
