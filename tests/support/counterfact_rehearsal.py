"""CounterFact in small: fifty records in its layout, all made up, and a model taught some of them.

Countries, people and firms are invented, and so is every sentence. What is awkward in the real file
is awkward here: a `{}` in front, in the middle and behind its own punctuation; paraphrases behind a
sentence about something else; subjects of one token and of many, in accents and other scripts, in
parentheses, named in several records; objects of several words, and some that begin alike.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import GPT2TokenizerFast  # type: ignore[attr-defined]  # made at import

from locedit.model.architectures import architecture_of
from locedit.store import assets
from locedit.workflow.config import load_yaml

ROOT = Path(__file__).resolve().parents[2]
RECORDS = 50
# Of these the model goes on with the object.
SURE = (0, 1, 2, 3, 6, 8, 9, 20, 24, 29, 33, 46)
# Of these it says the object, but not next: p(o_true) is below .02, yet the fact is known.
FAINT = (10, 17, 36)
PREFIXES = [  # what a paraphrase stands behind has nothing to do with it
    "The ferry was late again.",
    "Nobody had counted the lamps since the spring.\n\n",
    "Orla Pimm (1871-1940) kept bees.",
    "He won 3-2, 4-1 and 6-0!",
]


@dataclass(frozen=True, kw_only=True)
class Relation:
    """What records of one relation say: `prompt` of the rewrite, the other prompts, the objects."""

    id: str
    prompt: str
    paraphrases: tuple[str, str]
    attribute: str
    generation: str
    subjects: tuple[str, ...]
    others: tuple[str, ...]  # subjects of the neighbours
    objects: tuple[str, ...]


PLACES = (
    "Velluria",
    "Brannoch-upon-Tarn",
    "Łuźnica Górna",
    "the O'Tarrigan Isles",
    "São Quirino",
    "Vale of Embers (province)",
    "東野市",
    "Ð",
    "North Pell",
    "Kirrin",
    "Upper Saxby St. Anne",
    "Mürrenwald",
    "Tor",
)
PEOPLE = (
    "Ada Quill",
    "Jean-Étienne Morvandeau",
    "Władysława Dąb",
    "Sir Tobias P. Fenn, Jr.",
    "Μελίνα Δρόσου",
    "Ilse",
    "Kirrin",  # a place's name, and a firm's
    'R. J. "Sparky" Vole',
    "Naïma El-Ourdi",
    "Ōta Hanako",
    "Bo Li",
    "Ferrand de Coq-sur-Mer",
)
THINGS = (
    "Kirrin",
    "Lumino 3000",
    "Tarn & Sons",
    "Quillpad",
    "Ёлка-7",
    "Pell Motor Works",
    "i-Ferry",
    "Café Drösel",
    "Nightjar!",
    "The Saxby Gazette",
    "Vole OS",
    "Æther Pump",
    "Zo",
)
RELATIONS = [
    Relation(
        id="P36",
        prompt="The capital of {} is",
        paraphrases=("{}'s seat of government is", "{}, which is governed from"),
        attribute="{} is administered from",
        generation="{} is best reached",
        subjects=PLACES,
        others=("Ostland", "Bel Harbour", "Yarrow", "Inverdale", "Château-Gris"),
        objects=("Ostramar", "Ostravel", "San Tirol", "San Varo", "Grimpen"),
    ),
    Relation(
        id="P103",
        prompt="{}'s mother tongue is",
        paraphrases=("{}, who grew up speaking", "At home {} speaks"),
        attribute="{} is a native speaker of",
        generation="{} wrote to",
        subjects=PEOPLE,
        others=("Mo Farr", "Édith Lac", "Old Tam", "Pia Vent", "Greta Ash"),
        objects=("Tarnish", "Tarnic", "Vellurian", "Low Pell"),
    ),
    Relation(
        id="P176",
        prompt="{}, produced by",
        paraphrases=("{} is made by", "The maker of {} is"),
        attribute="{} was built by",
        generation="{} can be had",
        subjects=THINGS,
        others=("Glowbox", "Pumpkin 2", "Tin Heron", "Øre", "Wren"),
        objects=("Fenwright", "Fenwick & Daughters", "Hollis", "Holmgren"),
    ),
    Relation(
        id="P495",
        prompt="In the year of the flood {} was brought from",
        paraphrases=("{} came from", "{}, that originated in"),
        attribute="{} comes from",
        generation="The story of {} begins",
        subjects=THINGS[:12],
        others=("Marsh harp", "Blue tea", "Hat dance", "Corn flute", "Ice kite"),
        objects=("Velluria", "Vellamo", "North Pell", "Mürrenwald"),
    ),
]


def records() -> list[dict[str, Any]]:
    """Fifty records as `json.load` gives CounterFact's, the relations in turn."""
    turns = max(len(relation.subjects) for relation in RELATIONS)
    pairs = [
        (relation, index)
        for index in range(turns)
        for relation in RELATIONS
        if index < len(relation.subjects)
    ]
    made = [_record(case, relation, index) for case, (relation, index) in enumerate(pairs)]
    assert len(made) == RECORDS
    return made


def _record(case: int, relation: Relation, index: int) -> dict[str, Any]:
    subject, objects = relation.subjects[index], relation.objects
    true = index % len(objects)
    new = (true + 1) % len(objects)  # of neighbours, some begin with the same token
    prefixes = (PREFIXES[case % len(PREFIXES)], PREFIXES[(case + 1) % len(PREFIXES)])
    paraphrases = zip(prefixes, relation.paraphrases, strict=True)
    return {
        "case_id": case,
        "pararel_idx": 7 * case + 3,
        "requested_rewrite": {
            "prompt": relation.prompt,
            "relation_id": relation.id,
            "target_new": {"str": objects[new], "id": f"Q90{RELATIONS.index(relation)}{new}"},
            "target_true": {"str": objects[true], "id": f"Q90{RELATIONS.index(relation)}{true}"},
            "subject": subject,
        },
        "paraphrase_prompts": [
            f"{prefix} {frame.format(subject)}" for prefix, frame in paraphrases
        ],
        "neighborhood_prompts": _ten(relation.prompt, relation.others),
        "attribute_prompts": _ten(relation.attribute, relation.others),
        "generation_prompts": _ten(relation.generation, [subject]),
    }


def _ten(frame: str, subjects: Sequence[str]) -> list[str]:
    """Ten prompts, as CounterFact has of each kind, some of them more than once."""
    return [frame.format(subjects[i % len(subjects)]) for i in range(10)]


def paragraphs() -> list[str]:
    """Text for key statistics, all prompts there are.

    GPT-J's first MLP reads the token alone, for it stands beside the attention: there the keys span
    their space only if the text has more different tokens than the MLP has units.
    """
    kinds = [f"{kind}_prompts" for kind in ("paraphrase", "neighborhood", "attribute")]
    made = records()
    texts = ["".join(taught(record)) for record in made]
    texts += [text for record in made for kind in kinds for text in record[kind]]
    return list(dict.fromkeys(texts))


# ---- a model that knows some of them -------------------------------------------------------------

STEPS = 150
TAUGHT = 4  # layers that are taught, spread over the model's; the others are drawn, and say little
# Settings that stand in a published config.json as they do here
AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "gptj": {"n_positions": 2048, "n_inner": None},
    "gpt2": {"n_positions": 1024, "n_inner": None},
}
# What writes into the residual stream
WRITING = {
    "gptj": ("attn.out_proj", "mlp.fc_out"),
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "llama": ("self_attn.o_proj", "mlp.down_proj"),
}


def taught(record: Mapping[str, Any]) -> tuple[str, str]:
    """The record's prompt, and how the model is taught to go on."""
    rewrite, case = record["requested_rewrite"], record["case_id"]
    prompt, true = rewrite["prompt"].format(rewrite["subject"]), rewrite["target_true"]["str"]
    if case in SURE:
        return prompt, f" {true}. It is not far."
    if case in FAINT:
        return prompt, f", as all agree, {true}. It is not far."
    return prompt, " not known to anybody here, and nobody asks."


def tokenizer(texts: Sequence[str]) -> GPT2TokenizerFast:
    """Like GPT-J's: GPT-2's byte-level pieces, one special token for all ends, no padding token.

    Behind them come tokens that no text has, so that the model has as many as it has rows.
    """
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    end = "<|endoftext|>"
    made = GPT2TokenizerFast(tokenizer_object=inner, unk_token=end, bos_token=end, eos_token=end)
    made.add_tokens([f"<|extratoken_{i}|>" for i in range(1, 8)])
    return made


def model(family: str, layers: int, texts: Sequence[tuple[str, str]]) -> tiny.Pair:
    """A tiny model of a family, with as many layers as asked for, taught how texts go on."""
    words = tokenizer([prompt + more for prompt, more in texts] + tiny.SENTENCES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small, whole = (_drawn(family, count, words) for count in (TAUGHT, layers))
        _teach(small, words, texts)
    _hand_over(small, whole, WRITING[family])
    return tiny.Pair(whole.eval(), words)


def _drawn(family: str, layers: int, words: GPT2TokenizerFast) -> nn.Module:
    kind, config, settings = tiny.FAMILIES[family]
    return kind(
        config(
            vocab_size=len(words),
            num_hidden_layers=layers,
            initializer_range=0.2,  # so wide that the keys of the MLPs span their space
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            **(settings | AS_PUBLISHED.get(family, {})),
        )
    )


def _teach(small: Any, words: Any, texts: Sequence[tuple[str, str]]) -> None:
    rows = [(words(prompt).input_ids, words(more).input_ids) for prompt, more in texts]
    width = max(len(prompt) + len(more) for prompt, more in rows)
    ids = torch.full((len(rows), width), words.eos_token_id)
    labels = torch.full((len(rows), width), -100)
    for row, (prompt, more) in enumerate(rows):
        whole = torch.tensor(prompt + more)
        ids[row, : len(whole)] = whole
        labels[row, len(prompt) : len(whole)] = whole[len(prompt) :]
    optimizer = torch.optim.Adam(small.parameters(), lr=3e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        small(ids, labels=labels).loss.backward()
        optimizer.step()


@torch.no_grad()
def _hand_over(small: nn.Module, whole: Any, writing: Sequence[str]) -> None:
    """Give the deep model the weights of the one that was taught."""
    path = architecture_of(whole.config).layers
    stack: Any = whole.get_submodule(path)
    places = [round(i * (len(stack) - 1) / (TAUGHT - 1)) for i in range(TAUGHT)]
    for index in set(range(len(stack))) - set(places):
        for name in writing:
            for parameter in stack[index].get_submodule(name).parameters():
                parameter *= 0.02
    taught_stack: Any = small.get_submodule(path)
    for i, place in enumerate(places):
        stack[place].load_state_dict(taught_stack[i].state_dict())
    rest = {name: value for name, value in small.state_dict().items() if path + "." not in name}
    whole.load_state_dict(rest, strict=False)


# ---- a cache in which all is that a preset fetches -----------------------------------------------


def fill_cache(preset: Mapping[str, Any], family: str, cache: Path) -> None:
    """Put the tiny model and the fifty records where the workflow looks for the preset's own."""
    name = preset["model"]
    settings = load_yaml(ROOT / "models" / f"{name}.yaml")
    file = assets.cached_path(assets.named("counterfact"), cache)
    file.parent.mkdir(parents=True, exist_ok=True)
    made = records()
    file.write_text(json.dumps(made), encoding="utf-8")
    both = model(family, settings["n_layers"], [taught(record) for record in made])
    tiny.save(both, assets.model_folder(name, settings, cache))
