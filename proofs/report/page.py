"""What every page of a report needs: text from the tested host made harmless, and a file that is written safely.

A host's text may hold terminal escapes, Markdown and HTML. A page shows such text; it never interprets it.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from proofs.evidence import host_input
from proofs.evidence.atomic_file import write_atomically
from proofs.verdict import Json

if TYPE_CHECKING:
    from jinja2 import Environment

# What starts something inside a line of Markdown: code, emphasis, table cells, formulas, links, HTML, entities.
_SPECIAL = re.compile(r"[\\`*|~$]|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
_HTML = re.compile(r"&(?=[#\w])|<(?=[A-Za-z/!?])")


class Markdown(str):
    """Text that is Markdown already, so that it is not escaped again."""

    __slots__ = ()


def printable(text: str) -> str:
    """The text with control characters, terminal escapes and direction marks as escapes (`\\x1b`); \\n and \\t stay."""
    return host_input.printable(text, len(text), keep="\n\t")


def one_line(text: str) -> str:
    return printable(text).replace("\t", " ").replace("\n", " ")


def inline(value: object) -> Markdown:
    """A value as plain words inside a paragraph, a heading or a table cell; Markdown stays as it is."""
    if isinstance(value, Markdown):
        return value
    text = _SPECIAL.sub(lambda match: f"\\{match[0]}", one_line(str(value)))
    return Markdown(_HTML.sub(lambda match: {"&": "&amp;", "<": "&lt;"}[match[0]], text))


def cell(value: object) -> Markdown:
    """A value as the cell of a table in a page that a release before this one wrote."""
    return value if isinstance(value, Markdown) else Markdown(str(value).replace("|", "\\|").replace("\n", " "))


def fenced(text: str) -> Markdown:
    """Text as a code block that its own backticks cannot close."""
    return code_block(printable(text).rstrip("\n"))


def code_block(text: str) -> Markdown:
    """The same for a text that is shown as it is."""
    fence = "```"
    while fence in text:
        fence += "`"
    return Markdown(f"{fence}text\n{text}\n{fence}")


def cut(text: str, longest: int) -> str:
    """The beginning of a text that is longer than that many characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def environment(**options: Json) -> "Environment":
    """Jinja's, for the templates here. Raises ImportError: it is not installed; render where the dev extras are."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    return Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, **options)


def write(path: Path, text: str) -> Path:
    """Write a page whole, in the place of a link that a bundle brought along and never through it."""
    write_atomically(path, text.encode())
    return path
