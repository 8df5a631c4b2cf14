"""A recording in which every text that a host writes is hostile, and what pages and terminals may not make of it."""

from __future__ import annotations

import contextlib
import copy
import io
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import strategies as st

from proofs.cli import main
from proofs.report import buglog, html
from tests.support import proof_run
from tests.support.proof_run import Event, rechained

_PIECES = (
    "\x1b[2K\r", "\x1b]0;title\x07", "\x9b31m", "\u202e", "\u2028", "\x00", "\x08", "\n", "\t", "\ud800",
    "# ALLOW", "> ", "- ", "1. ", "=====", "-----", "|", "```", "~~~", "`", "*", "_", "\\", "&amp;", "&#60;", "$x$",
    "[a](http://b)", "![a](http://b)", "[a]: http://b", "<img src=x onerror=y>", "</a>", "<!--", "-->", "]]>",
    "</svg><script>z()</script>", "\"'", "{{ 7 }}", "{% x %}", "javascript:z()", "<a id=\"line-1\"></a>",
)  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=5)), min_size=1, max_size=6).map("".join)
# Kinds whose data are figures and texts alone; of the others, the fields that hold texts.
_FREE = ("witness", "measured", "exchange", "exchange said", "exchange stats", "copied", "patched", "seed")
_FIELDS = {
    "case": ("fault",),
    "waited": ("for",),
    "mutant": ("what",),
    "proof": ("claim", "bound", "fault"),
    "run": ("systemd", "cat", "git"),
    "observed": ("health",),
}
_MARKER = re.compile(r"\s*(#+ |[-*+] |\d+[.)] |>|\||<a id=\"line-\d+\"></a>|`{3,}|~{3,}|=+\s*$|-+\s*$|\[[^\]]*\]:)")


def spoiled(events: list[Event], text: str) -> list[Event]:
    """The events with this text after each one that a host writes, and in the names of figures."""
    events = copy.deepcopy(events)
    for event in events:
        kind, data = event["kind"], event["data"]
        event["stderr"] += text
        if kind != "intent":
            event["stdout"] += text
        event["argv"] = [f"{word}{text}" if number else word for number, word in enumerate(event["argv"])]
        if kind in _FREE and isinstance(data, dict):
            event["data"] = {**data, text: f"two\nlines{text}", f"x{text}": {text: text}}
        for name in _FIELDS.get(kind, ()):
            data[name] = f"{data.get(name, '')}{text}"
        if kind == "run":
            data["host"] = {name: f"{value}{text}" for name, value in data["host"].items()}
        if kind == "verdict":
            data.update(reason=f"r{text}", measured=f"m{text}", bound=f"b{text}")
            for case in data["cases"]:
                case["reason"] = f"r{text}"
                case["checks"] = [{**check, "name": f"n{text}", "measured": text} for check in case["checks"]]
            for mutant in data["mutant"]["each"]:
                mutant.update(what=f"w{text}", reason=f"r{text}")
    return rechained(events)


def structure(page: str) -> list[str]:
    """What Markdown makes of a page's lines outside of code blocks; raises AssertionError where one is not closed."""
    fence, markers = "", []
    for line in page.splitlines():
        if line.startswith("```"):
            fence = "" if fence == line else fence or line.removesuffix("text")
        elif not fence:
            marker = _MARKER.match(line)
            markers.append(marker[1].strip() if marker else "")
            plain = re.sub(r"\\[\\`*|~$_\]]", "", line).replace('<a id="line-', "")
            assert not re.search(r"<[A-Za-z/!?]", plain.replace("</a>", "", line.startswith("<a id="))), line
    assert not fence
    return [marker for marker in markers if marker]


class Elements(HTMLParser):
    """The elements of a page of HTML, each with the names of its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(" ".join([tag, *sorted(name for name, _ in attributes)]))


def is_harmless(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text)


def check_pages(directory: Path, text: str) -> None:
    """Pages of the spoiled recording have the structure that they have of the honest one."""
    honest = proof_run.events_of(directory)
    events = spoiled(honest, text)
    due = buglog.render(directory, honest)
    for name, page in buglog.render(directory, events).items():
        assert is_harmless(page), name
        markers = structure(page)
        # Texts that are empty without it add blocks of their own, and a table has as many rows with it.
        assert {m for m in markers if m[:1] not in "`|"} <= {m for m in structure(due[name]) if m[:1] not in "`|"}, name
    page = html.render(events, lambda _: "")
    assert is_harmless(page)
    assert set(Elements(page).names) <= set(Elements(html.render(honest, lambda _: "")).names)


def check_terminal(directory: Path, text: str) -> None:
    """Nothing of the spoiled recording reaches a terminal raw, whatever command reads it."""
    with tempfile.TemporaryDirectory() as scratch:
        there = Path(scratch) / "r1"
        there.mkdir()
        proof_run.put(there, spoiled(proof_run.events_of(directory), text.encode(errors="replace").decode()))
        signers = there.parent / "signers"
        signers.touch()
        for argv in (
            ["show", str(there)],
            ["diff", str(there), str(directory)],
            ["verify", str(there), "--allowed-signers", str(signers), "--despite-signature", "--skip-live"],
            ["verify", str(there), "--allowed-signers", str(signers), "--despite-signature", "--json", "--skip-live"],
            ["render", str(there)],
        ):
            output = io.StringIO()
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                main(argv)
            assert is_harmless(output.getvalue()), argv[0]
