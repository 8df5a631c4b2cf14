"""BUGLOG.md as releases before the folder log/ rendered it: one page with every command. Frozen.

The verifier alone uses this, to check the page of a bundle that such a release recorded. `hybrid-proofs render` writes
the pages of `buglog` for every recording.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from proofs.evidence import statement as bundle
from proofs.verdict import Json

_TEMPLATE = Path(__file__).with_name("templates") / "BUGLOG-v1.md.j2"


def render(events: list[dict[str, Json]]) -> str:
    """The page for these events. Raises ImportError: Jinja2 is not installed."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=False)
    environment.filters.update(fenced=_fenced, cell=_cell, shell=shlex.join)
    statement = bundle.build(events)
    observed = [event for event in events if event["kind"] == "observed"]
    header: dict[str, Json] = next((event["data"] for event in events if event["kind"] == "run"), {})
    return environment.from_string(_TEMPLATE.read_text()).render(
        ends=[*observed[:1], *observed[1:][-1:]],
        predicate=statement["predicate"],
        events=events,
        observed=observed,
        header=header,
    )


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def _cell(value: Json) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
