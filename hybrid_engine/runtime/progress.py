"""Progress of a command that takes long, on stderr."""

import sys
import time
from contextlib import suppress

FIRST_S = 3.0  # a command that ends sooner says nothing
TERMINAL_S, LINE_S = 0.5, 10.0


class Progress:
    """On a terminal one line that is overwritten, elsewhere a line every 10 s."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next_at = time.monotonic() + FIRST_S
        self._unfinished = False  # the line on the terminal

    def show(self, text: str) -> None:
        """Print the text, unless another one was printed a moment ago."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + (TERMINAL_S if self._terminal else LINE_S)
        self._unfinished = self._terminal
        start, end = ("\r\x1b[K", "") if self._terminal else ("", "\n")
        self._print(f"{start}hybrid-engine: {text}", end)

    def finish(self, text: str) -> None:
        """Print the last line, whatever the time."""
        self._print(("\r\x1b[K" if self._unfinished else "") + f"hybrid-engine: {text}", "\n")

    def _print(self, text: str, end: str) -> None:
        with suppress(OSError):  # nobody reads it any more; that does not end the work
            print(text, end=end, file=sys.stderr, flush=True)
