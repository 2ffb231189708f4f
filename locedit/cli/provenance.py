"""`locedit provenance`: what a table's file says of how it was made."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from locedit.cli.options import Provenance as Options
from locedit.cli.saying import say
from locedit.store import tables


def run(options: Options) -> None:
    """Print it, for people or as JSON."""
    made = tables.provenance(options.file)
    if not made:
        raise tables.TableError(f"{options.file} does not say how it was made; it is none of ours")
    if options.json:
        say(json.dumps(made, indent=2, sort_keys=True))
        return
    for line in described(made):
        say(line)


def described(made: Mapping[str, Any]) -> list[str]:
    """A file's provenance in lines: job, hashes, seeds, versions, and the configuration as YAML."""
    config = made.get("config", {})
    wildcards = ", ".join(f"{name} {value}" for name, value in made.get("wildcards", {}).items())
    rows = {
        "rule": f"{made.get('rule', '')} {f'({wildcards})' if wildcards else ''}".strip(),
        "fingerprint": f"{made.get('fingerprint')} (settings, code, data, model, all upstream)",
        **{f"{name} hash": made.get("hashes", {}).get(name) for name in ("code", "model", "data")},
        **{
            what: ", ".join(f"{name} {value}" for name, value in made.get(what, {}).items())
            for what in ("seeds", "versions")
        },
    }
    lines = [f"{name:12} {value or 'not recorded'}" for name, value in rows.items()]
    text = yaml.safe_dump(dict(config), sort_keys=True, default_flow_style=None, width=88)
    return [*lines, "config", *(f"  {line}" for line in text.splitlines())]
