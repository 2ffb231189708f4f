"""Values of a file against a type: what pydantic finds at fault, in one sentence of ours.

Types are pydantic's, strict: JSON schema, editors' completion and the reference page follow from
the same ones. No heavy imports: Snakemake reads this each time it starts.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from locedit import messages
from locedit.errors import LoceditError
from locedit.messages import name as plain_name
from locedit.messages import one_line, shown, unknown
from locedit.registry import remark


class ConfigError(LoceditError):
    """A configuration that cannot be used."""


class Section(BaseModel):
    """Keys of a file with their types: no others, and no value that has to be converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def validate(values: Any, kind: Any, where: str) -> Any:
    """The values as the type `kind` has them.

    Raises ConfigError with the first fault in one sentence, which begins with `where`.
    """
    _check_size(values, where)
    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_python(values, strict=True)
    except ValidationError as error:
        schema = adapter.json_schema()
        faults = [_located(one, schema) for one in _flat(error.errors(include_url=False))]
        raise ConfigError(f"{where}: {_first(faults)}") from None


MAX_VALUES, MAX_DEPTH, MAX_INTEGER = 100_000, 50, 2**63 - 1


def _check_size(values: Any, where: str) -> None:
    """Raise ConfigError for more values than any study has, or numbers longer than any table's.

    A few lines of YAML with aliases can stand for a billion values, or for a list that holds
    itself: nothing may walk through them before this.
    """
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(values, ())]
    seen = 0
    while waiting:
        value, path = waiting.pop()
        seen += 1
        key = ".".join(map(plain_name, path[:6])) or "it"
        if seen > MAX_VALUES or len(path) > MAX_DEPTH:
            raise ConfigError(
                f"{where}: {key} stands for more than {MAX_VALUES:,} values, or values nested more "
                f"than {MAX_DEPTH} deep; give a shorter one"
            )
        if type(value) is int and abs(value) > MAX_INTEGER:
            raise ConfigError(f"{where}: {key}: the number has more than 18 digits")
        if isinstance(value, Mapping):
            waiting += [(inner, (*path, name)) for name, inner in value.items()]
        elif isinstance(value, list | tuple | set):
            waiting += [(inner, (*path, index)) for index, inner in enumerate(value)]


# ---- types that pydantic does not have -----------------------------------------------------------


@dataclass(frozen=True)
class Registered:
    """A type that is made when a value is checked, from what is registered then.

    fixed: whether plug-ins add nothing to it.
    """

    make: Callable[[], Any]
    fixed: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        made = handler(TypeAdapter(self.make()).core_schema)
        return made if self.fixed else {**made, "$comment": OPEN}

    def _check(self, value: Any) -> Any:
        try:
            return TypeAdapter(self.make()).validate_python(value, strict=True)
        except ValidationError as error:
            raise PydanticCustomError(
                "within", "an inner fault", {"errors": error.errors(include_url=False)}
            ) from None


OPEN = "plug-ins add to these"  # marks in a JSON schema what is made of registered things


def names(known: Iterable[str]) -> Any:
    """The type of these names alone."""
    return Literal[tuple(known)]


def unique(values: list[Any]) -> list[Any]:
    """The list, if it names nothing twice (a validator)."""
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise said(f"{shown(values)} has {shown(value)} twice")
        seen.add(value)
    return values


def fits(pattern: str, rule: str) -> Callable[[str], str]:
    """A validator of texts that match the whole pattern; `rule` says to users what does."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            joint = "," if rule.startswith("must") else ";"
            raise said(f"{rule}{joint} got {shown(text)}")
        return text

    return check


def said(sentence: str) -> PydanticCustomError:
    """A fault that a validator of ours finds, in its own words."""
    return PydanticCustomError("said", "{sentence}", {"sentence": sentence})


# ---- sentences -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fault:
    """error: one of pydantic's. path: the keys down to it. node: the JSON schema of what is there.

    is_key: whether a mapping's key is at fault, not its value.
    """

    error: Mapping[str, Any]
    path: tuple[Any, ...]
    node: Mapping[str, Any]
    is_key: bool

    @property
    def unlike(self) -> bool:
        """Whether the value is of another kind altogether, as it is for most of a union."""
        kind = self.error["type"]
        literal = kind == "literal_error" and not isinstance(self.error["input"], str)
        return kind.endswith("_type") or literal

    def outdone(self, others: Iterable["_Fault"]) -> bool:
        """Whether another member of the union has more to say: here, or further down."""
        here = len(self.path)
        return self.unlike and any(
            one.path[:here] == self.path and (len(one.path) > here or not one.unlike)
            for one in others
        )


def _first(faults: Sequence[_Fault]) -> str:
    telling = [one for one in faults if not one.outdone(faults)]
    fault = min(telling, key=lambda one: [str(part) for part in one.path])
    path = ".".join(map(plain_name, fault.path))
    sentence = _sentence(fault)
    return f"{path}: {sentence}" if path else sentence


def _flat(errors: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in errors:
        if one["type"] != "within":
            yield dict(one)
            continue
        for inner in _flat(one["ctx"]["errors"]):
            yield {**inner, "loc": (*one["loc"], *inner["loc"])}


def _located(error: dict[str, Any], schema: Mapping[str, Any]) -> _Fault:
    """Walks down from the whole schema, as far as keys and positions lead: to an unknown key."""
    path: list[Any] = []
    above = node = _resolved(schema, schema)
    parts = list(error["loc"])
    while parts:
        if parts[0] == "[key]" and error["type"] not in _UNKNOWN:
            return _Fault(error, tuple(path[:-1]), above["propertyNames"], True)
        members = _members(node, schema)
        if sum(one.get("type") != "null" for one in members) > 1:
            parts.pop(0)  # pydantic's name of the union's member
        if not parts:
            break
        part = parts.pop(0)
        found = [(one, inner) for one in members if (inner := _inner(one, part)) is not None]
        if not found:
            break
        above, node = found[0][0], _resolved(found[0][1], schema)
        path.append(part)
    if error["type"] == "missing":
        return _Fault(error, tuple(path[:-1]), above, True)
    if error["type"] in _UNKNOWN:
        node = next(one for one in _members(node, schema) if one.get("type") == "object")
    return _Fault(error, tuple(path), node, False)


_UNKNOWN = ("extra_forbidden", "invalid_key")


def _members(node: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a value may be, one by one, where the node is a union; else the node."""
    return [_resolved(one, schema) for one in node.get("anyOf", [node])]


def _inner(node: Mapping[str, Any], part: Any) -> Mapping[str, Any] | None:
    if node.get("type") == "array":
        inner = node["items"] if isinstance(part, int) else None
    else:
        inner = node.get("properties", {}).get(part, node.get("additionalProperties"))
    return inner if isinstance(inner, Mapping) else None


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _sentence(fault: _Fault) -> str:
    error, node = fault.error, fault.node
    kind, value, limits = error["type"], error["input"], error.get("ctx", {})
    more = remark() if node.get("$comment") == OPEN else ""
    if kind in _UNKNOWN:
        key, known = error["loc"][-1], list(node.get("properties", ()))
        known = known if node.get("$comment") == OPEN else sorted(known)
        return unknown("key", key, known) + more
    if kind == "literal_error":
        what = "key" if fault.is_key else "value"
        return unknown(what, value, _choices_of(node)) + more
    if kind == "missing":
        return f"the key {error['loc'][-1]!r} is missing"
    if kind == "said":
        return limits["sentence"]
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return f"must be {words} {_number(limits[name])}, got {shown(value)}"
    if kind in ("too_short", "too_long", "string_too_short"):
        return f"must {_size(kind, node, limits)}, got {shown(value)}"
    if kind.endswith("_type") or kind == "finite_number":
        return f"must be of type {' or '.join(_types(node))}, got {shown(value)}{_meant(value)}"
    if kind == "string_unicode":
        return f"{shown(value)} holds {messages.fault(value)}"
    return one_line(error["msg"])


_LIMITS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _size(kind: str, node: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
    if kind != "too_long" and limits["min_length"] == 1:
        return "not be empty"
    if "minItems" in node and node["minItems"] == node.get("maxItems"):
        return f"have {node['minItems']} entries"
    few = kind != "too_long"
    return f"have at {'least' if few else 'most'} {limits['min_length' if few else 'max_length']}"


def _types(node: Mapping[str, Any]) -> list[str]:
    """Names of the JSON types that a value may have."""
    members = node.get("anyOf", [node])
    return list(dict.fromkeys(one.get("type", "object") for one in members))


def _choices_of(node: Mapping[str, Any]) -> list[str]:
    """What a value may be: names, and types of which it may have any value."""
    found: list[Any] = []
    for one in node.get("anyOf", [node]):
        kind = one.get("type", "object")
        others = [one["const"]] if "const" in one else [kind if kind == "null" else f"any {kind}"]
        found += one.get("enum", others)
    return [str(choice) for choice in found]


def _meant(value: Any) -> str:
    """A hint where YAML has read a number as a text: 1e-4 is one only with a point."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value):
        mantissa, _, exponent = value.lower().partition("e")
        exponent = exponent if exponent[0] in "+-" else f"+{exponent}"
        return f", which YAML takes for a text: write {mantissa}.0e{exponent}"
    return ""
