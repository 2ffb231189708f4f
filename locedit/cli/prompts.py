"""A paraphrase and a neighbour for a prompt, out of the bundled relations where one fits."""

from dataclasses import dataclass
from pathlib import Path

from locedit.facts import bundled

PREFIX = "It was reported on Monday. "


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt to look at. why: where it is from, for the reader; text is None: there is none."""

    text: str | None
    why: str


def relation_of(
    template: str, subject: str, known: str, data: Path
) -> tuple[bundled.Relation, list[bundled.Row]] | None:
    """The bundled relation that a prompt is of, with its rows; None where none fits.

    It fits if it has the very template, or holds that subject with the object that the model
    itself says (`known`).
    """
    rows = [row for row in bundled.read_rows(data) if bundled.exclusion(row) is None]

    def same_fact(row: bundled.Row) -> bool:
        objects = {other.lower() for other in row.true_objects}
        return row.subject.lower() == subject.lower() and known.lower() in objects

    fits = [row.relation for row in rows if row.relation.template == template]
    fits += [row.relation for row in rows if same_fact(row)]
    if not fits:
        return None
    return fits[0], [row for row in rows if row.relation.id == fits[0].id]


def paraphrase(
    given: str | None, template: str, subject: str, relation: bundled.Relation | None
) -> Prompt:
    """What was given, else the relation's first paraphrase, else the prompt behind a sentence."""
    if given is not None:
        return Prompt(text=given.replace("{}", subject), why="given")
    if relation is not None:
        text = relation.paraphrases[0].replace("{}", subject)
        return Prompt(text=text, why=f"of the bundled relation {relation.id}")
    return Prompt(text=PREFIX + template.replace("{}", subject), why="the prompt behind a sentence")


def neighbour(
    given: str | None, template: str, subject: str, to: str, rows: list[bundled.Row]
) -> Prompt:
    """What was given, else the prompt with another of the relation's subjects.

    One with the subject's own object if there is one, since an edit would spill over to it first;
    in any case one of which the new object is not true.
    """
    if given is not None:
        return Prompt(text=given, why="given")
    own = [row.true_objects for row in rows if row.subject.lower() == subject.lower()]
    others = [
        row
        for row in rows
        if not bundled.overlap(row.subject, subject)
        and to.lower() not in {other.lower() for other in row.true_objects}
    ]
    if not others:
        why = "left out: the prompt is of no bundled relation; give one with --neighbour"
        return Prompt(text=None, why=why)
    others.sort(key=lambda row: not any(row.object in objects for objects in own))
    text = template.replace("{}", others[0].subject)
    return Prompt(text=text, why=f"of the bundled relation {others[0].relation.id}")
