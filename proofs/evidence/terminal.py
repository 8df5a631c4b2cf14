"""The only way in which these programs print text: what came from a host is shown, and never moves a cursor.

JSON is printed as it is: json.dumps leaves no control character in it.
"""

import sys
from collections.abc import Iterable
from typing import TextIO

from proofs.evidence.host_input import printable


def show(*texts: str) -> None:
    """Print lines, whole, with what is not printable in them as escapes. A text may have several."""
    _print(texts, sys.stdout)


def complain(*texts: str) -> None:
    """The same on stderr, with the program's name before each."""
    _print((f"hybrid-proofs: {text}" for text in texts), sys.stderr)


def progress(text: str) -> None:
    """The same on stderr as it is."""
    _print([text], sys.stderr)


def _print(texts: Iterable[str], stream: TextIO) -> None:
    lines = [line for text in texts for line in text.split("\n")]
    print("\n".join(printable(line, len(line), keep="\t") for line in lines), file=stream, flush=True)
