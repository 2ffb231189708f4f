"""config.yaml and the JSON schemas for editors, written from the types of the configuration.

`make config` writes them; with --check, tells those that are not as they would be written.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from locedit.workflow.model_file import ModelFile
from locedit.workflow.sections import Config
from locedit.workflow.validation import OPEN

ROOT = Path(__file__).resolve().parents[1]
WIDTH, COMMENTS = 100, 30  # of a line; the column where comments begin

HEAD = """\
# yaml-language-server: $schema=schemas/config.schema.json
# The default study: a real small model on real facts, sized for twenty minutes on two cores.
# Every key is documented here; unknown keys are errors. Overlay a preset with
#   snakemake --cores all --configfile presets/smollm2-study.yaml
# Settings of the machine (cores, memory, GPUs, shards) are no part of a study: see profiles/.
# Defaults and comments are those of locedit/workflow/sections.py (`make config` writes this file).
"""


def config_yaml() -> str:
    """Every key with its default and its meaning, as people edit it."""
    lines: list[str] = []
    for name, field in Config.model_fields.items():
        value = field.default
        if not isinstance(value, BaseModel):
            lines += _entry(f"{name}:", value, field.description)
            continue
        lines += ["", *_commented(f"{name}:", field.description)]
        for key, inner in type(value).model_fields.items():
            lines += _entry(f"  {key}:", inner.default, inner.description)
    return "\n".join((HEAD, *lines, ""))


def _entry(key: str, value: Any, said: str | None) -> Iterator[str]:
    inline = f"{key} {_flow(value)}"
    if isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values()):
        yield from _commented(key, said)
        indent = " " * (len(key) - len(key.lstrip()) + 2)
        for name, one in value.items():
            short = f"{indent}{name}: {_flow(one)}"
            yield from [short] if len(short) <= WIDTH else _entry(f"{indent}{name}:", one, None)
    elif len(inline) > WIDTH - 2 or (said and len(inline) > WIDTH - 20):
        yield from _commented(key, said)
        indent = " " * (len(key) - len(key.lstrip()) + 2)
        yield from textwrap.wrap(
            _flow(value), WIDTH, initial_indent=indent, subsequent_indent=indent
        )
    else:
        yield from _commented(inline, said)


def _flow(value: Any) -> str:
    value = value.model_dump() if isinstance(value, BaseModel) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _commented(text: str, said: str | None) -> list[str]:
    """The text with its comment behind it, which goes on below."""
    if not said:
        return [text]
    start = max(len(text) + 2, COMMENTS)
    first, *_ = textwrap.wrap(said, WIDTH - start - 2)
    rest = textwrap.wrap(said[len(first) :].strip(), WIDTH - COMMENTS - 2)
    more = [f"{'':{COMMENTS}}# {line}" for line in rest]
    return [f"{text:{start}}# {first}", *more]


def schema_json(kind: type[BaseModel]) -> str:
    """The JSON schema of a file's type, in which names that plug-ins add are let pass."""
    return json.dumps(_opened(kind.model_json_schema()), indent=1, ensure_ascii=False) + "\n"


def _opened(node: Any) -> Any:
    if isinstance(node, list):
        return [_opened(one) for one in node]
    if not isinstance(node, Mapping):
        return node
    made = {key: _opened(value) for key, value in node.items() if key != "title"}
    if node.get("$comment") == OPEN:
        if "enum" in made:
            return {"anyOf": [{"enum": made["enum"]}, {"type": "string"}]}
        made.pop("additionalProperties", None)
    return made


WRITTEN = {
    "config.yaml": config_yaml,
    "schemas/config.schema.json": lambda: schema_json(Config),
    "schemas/model.schema.json": lambda: schema_json(ModelFile),
}


def main(check: bool) -> None:
    """Write the files, or end with the names of those that are out of date."""
    old = []
    for name, text in WRITTEN.items():
        path, new = ROOT / name, text()
        if not path.is_file() or path.read_text(encoding="utf-8") != new:
            old.append(name)
            if not check:
                path.write_text(new, encoding="utf-8")
    if check and old:
        sys.exit(f"{', '.join(old)}: not as its types say; run `make config`")


if __name__ == "__main__":
    main("--check" in sys.argv[1:])
