"""Planted facts: invented subjects whose place in a model is known, since they are trained there.

The positive control of a study of localization. Each *planted* fact is assigned one layer at
random and trained into that layer's MLP alone; each *placebo* fact is trained on the same kind of
text into the MLPs of all layers. Because the layers are drawn, permuting them gives exact tests.
`data/planted/relations.yaml` has the prompts; objects are those of the bundled tables.
"""

import csv
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from locedit.errors import LoceditError
from locedit.facts.bundled import slug
from locedit.facts.formats import overlap
from locedit.facts.record import Fact
from locedit.messages import unknown
from locedit.seeds import derive
from locedit.settings import Count, NotNegative, Positive

PLANTED, PLACEBO = "planted", "placebo"
MAX_NEIGHBOURS = 5

# Syllables of invented names; no language's own, so that no real bearer is likely
_ONSETS = "b br d dr f g gr h j k kl l m n p pr r s st t tr v w z".split()
_VOWELS = "a e i o u ae ei ou".split()
_CODAS = "l m n r s t nd rk lm".split()
_GIVEN = "Adela Anton Bruno Clara Edgar Elena Felix Greta Hugo Irene Jonas Laura Marta Nora Oscar "
_GIVEN += "Paula Robert Sofia Theo Vera"
_ENDINGS = {
    "person": "a er in ov sen sky".split(),
    "town": "burg dal field holm stad ton".split(),
    "company": "co dyne mark rix tec via".split(),
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """How facts are planted (study/planting.py): descent on changes of down projections.

    steps: at most; each trains one prompt of every fact. lr: the length of a step of one group of
    facts, as a share of the layers' own output on plain text (root mean squares). momentum: of
    gradients and their size. ridge: added to the key moments' diagonal, as a share of its mean;
    tokens: of plain text behind them, null: 10 x d_ff. kl_factor: of the KL term on plain text.
    Every `look` steps p of each object is looked at, the mean over its held-out prompts. A fact
    above `rest` is not trained until the next look, so that none is learned much better than
    others; training ends once the share above .5 is `enough`, of planted and of placebo facts.
    texts, text_tokens: of plain text in each step. seed: of their choice.
    """

    steps: Count = 96
    lr: Positive = 0.03
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    ridge: NotNegative = 0.01
    tokens: Count | None = None
    kl_factor: NotNegative = 20.0
    rest: Annotated[float, Field(gt=0, le=1)] = 0.7
    enough: Annotated[float, Field(gt=0, le=1)] = 0.8
    look: Count = 8
    texts: Count = 4
    text_tokens: Count = 48
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A fact to be trained: on `trained`, filled prompts of which the first is the fact's own.

    layer: the one whose MLP may change for it; None: all of them, and the fact is a placebo.
    """

    fact: Fact
    trained: tuple[str, ...]
    layer: int | None = None

    @property
    def kind(self) -> str:
        """`planted` or `placebo`."""
        return PLACEBO if self.layer is None else PLANTED


@dataclass(frozen=True, kw_only=True)
class _Relation:
    id: str
    subjects: str
    objects: tuple[tuple[str, str], ...]  # (real subject, object), of the table
    trained: tuple[str, ...]
    held_out: tuple[str, ...]
    generation: tuple[str, ...]


def invented(data_dir: Path, count: int, seed: int) -> list[Planted]:
    """`count` facts about invented subjects, relations in turn, no layer drawn yet.

    data_dir: the folder `data`. Objects are drawn from the relation's real ones. Raises
    LoceditError naming file and relation where these cannot be read.
    """
    relations = _read_relations(data_dir)
    taken: set[str] = {slug(name) for one in relations for name, _ in one.objects}
    facts = []
    for index in range(count):
        relation = relations[index % len(relations)]
        rng = random.Random(derive(seed, "planted", relation.id, index))
        facts.append(_fact(relation, _new_name(relation.subjects, taken, rng), rng))
    return facts


def assigned(
    facts: Sequence[Planted], layers: Sequence[int], *, planted: int, placebo: int, seed: int
) -> list[Planted]:
    """The first planted + placebo facts, shuffled, with layers drawn at random.

    Each layer gets as many planted facts as every other, up to one. Raises LoceditError where there
    are fewer facts.
    """
    if len(facts) < planted + placebo:
        raise LoceditError(
            f"planted facts: {planted + placebo} are asked for, and the model knew nothing of "
            f"{len(facts)} invented ones; ask for fewer, or raise `max_p_before`"
        )
    rng = random.Random(derive(seed, "assigned"))
    chosen = list(facts[: planted + placebo])
    rng.shuffle(chosen)
    drawn = [layers[i % len(layers)] for i in range(planted)]
    rng.shuffle(drawn)
    places = [*drawn, *[None] * placebo]
    return [replace(one, layer=layer) for one, layer in zip(chosen, places, strict=True)]


def record(one: Planted) -> dict[str, Any]:
    """The fact in the native format of data sets, whose fields are a fact's own."""
    return asdict(one.fact)


def _read_relations(data_dir: Path) -> list[_Relation]:
    path = data_dir / "planted" / "relations.yaml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["relations"]
        return [_relation(entry, data_dir) for entry in entries]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise LoceditError(
            f"{path}: expected a list `relations` whose entries have id, subjects, table, trained, "
            f"held_out and generation ({type(error).__name__}: {error})"
        ) from error


def _relation(entry: dict[str, Any], data_dir: Path) -> _Relation:
    column = entry.get("object", "object")
    with (data_dir / "tables" / f"{entry['table']}.csv").open(encoding="utf-8") as file:
        rows = [(row["subject"], row[column]) for row in csv.DictReader(file) if row[column]]
    if entry["subjects"] not in _ENDINGS:
        raise LoceditError(
            f"{data_dir / 'planted' / 'relations.yaml'}, relation {entry['id']!r}: "
            + unknown("subjects", entry["subjects"], _ENDINGS)
        )
    return _Relation(
        id=entry["id"],
        subjects=entry["subjects"],
        objects=tuple(rows),
        **{key: tuple(entry[key]) for key in ("trained", "held_out", "generation")},
    )


def _new_name(kind: str, taken: set[str], rng: random.Random) -> str:
    while True:
        stem = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((1, 2))))
        name = (stem + rng.choice(_CODAS) + rng.choice(_ENDINGS[kind])).capitalize()
        if kind == "person":
            name = f"{rng.choice(_GIVEN.split())} {name}"
        if slug(name) not in taken:
            taken.add(slug(name))
            return name


def _fact(relation: _Relation, subject: str, rng: random.Random) -> Planted:
    prompts = [text.replace("{}", subject) for text in (*relation.trained, *relation.held_out)]
    objects = sorted({name for _, name in relation.objects})
    objects = [name for name in objects if not any(overlap(name, text) for text in prompts)]
    true = rng.choice(objects)
    new = rng.choice([name for name in objects if not overlap(name, true)])
    same = [name for name, held in relation.objects if held == true]
    template = relation.trained[0]
    neighbours = rng.sample(same, min(MAX_NEIGHBOURS, len(same)))
    return Planted(
        fact=Fact(
            case_id=f"{relation.id}-{slug(subject)}",
            relation_id=relation.id,
            subject=subject,
            template=template,
            target_true=true,
            target_new=new,
            paraphrases=[text.replace("{}", subject) for text in relation.held_out],
            neighbourhood=[template.replace("{}", name) for name in neighbours],
            generation_prompts=[text.replace("{}", subject) for text in relation.generation],
        ),
        trained=tuple(text.replace("{}", subject) for text in relation.trained),
    )
