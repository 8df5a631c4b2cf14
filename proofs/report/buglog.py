"""BUGLOG.md: the recording as a page. Rendered, never written by hand; needs Jinja2, so the controller does it."""

from __future__ import annotations

import re
from pathlib import Path

from proofs.evidence import host_input, recorder
from proofs.evidence import statement as bundle
from proofs.evidence.atomic_file import write_atomically
from proofs.verdict import Json

BUGLOG = "BUGLOG.md"
_ELEMENT = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\]\(")
_TEMPLATE = Path(__file__).with_name("templates") / "BUGLOG.md.j2"


def render(events: list[dict[str, Json]]) -> str:
    """The page for these events.

    Raises:
        ImportError: Jinja2 is not installed here; render where the project's dev extras are.
    """
    from jinja2 import Environment, StrictUndefined

    # autoescape would be for HTML; here the danger is a fence that closes early, which `fenced` looks after.
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=False, finalize=inline
    )  # fmt: skip
    environment.filters.update(fenced=fenced, cell=cell, shell=shell)
    statement = bundle.build(events)
    observed = [event for event in events if event["kind"] == "observed"]
    page = environment.from_string(_TEMPLATE.read_text()).render(
        ends=[*observed[:1], *observed[1:][-1:]],
        statement=statement, predicate=statement["predicate"], events=events, observed=observed,
        header=next((event["data"] for event in events if event["kind"] == "run"), {}),
    )  # fmt: skip
    return host_input.printable(page, len(page), keep="\n\t")


def write(run_dir: Path) -> Path:
    """Render BUGLOG.md beside events.jsonl. Raises ChainBroken when the recording is not whole."""
    path = run_dir / BUGLOG
    write_atomically(path, render(recorder.read(run_dir / recorder.EVENTS)).encode())
    return path


class Block(str):
    """Markdown of ours, that `inline` leaves as it is."""

    __slots__ = ()


def inline(value: Json) -> Json:
    """Text outside a code block, where what a host said must make no heading, element, link or picture."""
    if not isinstance(value, str) or isinstance(value, Block):
        return value
    return _LINK.sub(r"]\\(", _ELEMENT.sub("&lt;", " ".join(value.splitlines())))


def fenced(text: str) -> Block:
    """Text as a code block that its own backticks cannot close."""
    fence = "```"
    while fence in text:
        fence += "`"
    return Block(f"{fence}text\n{text.rstrip()}\n{fence}")


def cell(value: Json) -> str:
    """Text inside a table's cell."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def shell(argv: list[str]) -> str:
    import shlex

    return shlex.join(argv)
