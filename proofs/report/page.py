"""What every page of a report needs: text from the tested host made harmless, and a file that is written safely.

A host's text may hold terminal escapes, Markdown and HTML. A page shows such text; it never interprets it.
"""

from __future__ import annotations

import re
from pathlib import Path

from proofs.evidence.atomic_file import write_atomically

_UNUSUAL = re.compile(r"[^ -~\n\t]")
# What starts something inside a line of Markdown: code, emphasis, table cells, formulas, links, HTML, entities.
_SPECIAL = re.compile(r"[\\`*|~$]|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
_HTML = re.compile(r"&(?=[#\w])|<(?=[A-Za-z/!?])")


class Markdown(str):
    """Text that is Markdown already, so that it is not escaped again."""

    __slots__ = ()


def printable(text: str) -> str:
    """The text with control characters, terminal escapes and direction marks as visible escapes (`\\x1b`).

    Newlines and tabs stay.
    """
    return _UNUSUAL.sub(lambda match: _visible(match[0]), text)


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def one_line(text: str) -> str:
    return printable(text).replace("\t", " ").replace("\n", " ")


def inline(value: object) -> Markdown:
    """A value as plain words inside a paragraph, a heading or a table cell; Markdown stays as it is."""
    if isinstance(value, Markdown):
        return value
    text = _SPECIAL.sub(lambda match: f"\\{match[0]}", one_line(str(value)))
    return Markdown(_HTML.sub(lambda match: {"&": "&amp;", "<": "&lt;"}[match[0]], text))


def fenced(text: str) -> Markdown:
    """Text as a code block that its own backticks cannot close."""
    fence = "```"
    while fence in text:
        fence += "`"
    content = printable(text).rstrip("\n")
    return Markdown(f"{fence}text\n{content}\n{fence}")


def cut(text: str, longest: int) -> str:
    """The beginning of a text that is longer than that many characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def write(path: Path, text: str) -> Path:
    """Write a page whole, in the place of a link that a bundle brought along and never through it."""
    write_atomically(path, text.encode())
    return path
