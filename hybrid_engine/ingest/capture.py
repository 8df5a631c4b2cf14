"""Recording a source's frames as they come: one JSON object a line, {"received_at": seconds UTC, "frame": text}.

The same connection as the engine's, so a recording shows what the engine would have read, noise and all.
"""

import io
import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybrid_engine.config.load import Config
from hybrid_engine.config.sources import Source, load_sources
from hybrid_engine.exchanges import EXCHANGES, decode
from hybrid_engine.ingest.connection import Connection
from hybrid_engine.ingest.failure import SourceFailed
from hybrid_engine.runtime.errors import ConfigError, NetworkError, StorageError

CONNECT_TIMEOUT_S = 8.0
PROGRESS_S = 1.0
MAX_SECONDS = 30 * 86_400.0


def seconds_of(text: str) -> float:
    """The value of --seconds. Raises ConfigError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_SECONDS:
        raise ConfigError(f"command line: --seconds {text}: must be a number above 0, at most {MAX_SECONDS:.0f}")
    return seconds


def source_of(loaded: Config, name: str) -> Source:
    """The source of that name, whatever the mode. Raises ConfigError."""
    file = loaded.path.parent / loaded.settings.engine.sources_file
    if not loaded.sources and not file.exists():
        raise ConfigError(f"{file}: there is no such file; capture finds its sources there, in [[source]] tables")
    sources = loaded.sources or load_sources(file, loaded.settings.engine.ca_file)
    for source in sources:
        if source.name == name:
            return source
    names = ", ".join(source.name for source in sources)
    raise ConfigError(f"command line: --source {json.dumps(name)}: there is no such source; there are: {names}")


class _Stopped(BaseException):
    """Asked to stop while connecting, which nothing else would interrupt."""


class Capture:
    """Records `source` into the new file `out` for `seconds`, or until SIGINT or SIGTERM.

    Raises ConfigError (the file), NetworkError (the source), StorageError (the disk). Whole lines are kept whatever
    ends it; a file without any is removed.
    """

    def __init__(self, source: Source, app_symbol: str, dead_after_s: float, seconds: float, out: Path) -> None:
        self.frames = self.trades = self.rejected = self.size = 0
        self._source = source
        self._app_symbol = app_symbol
        self._dead_after_s = dead_after_s
        self._seconds = seconds
        self._out = out
        self._stopped = self._connected = False

    def run(self) -> None:
        with self._file() as file, self._signals():
            try:
                self._record(file)
            except _Stopped:
                pass
            except SourceFailed as error:
                kept = f"; the {self.frames} frames before are in {self._out}" if self.frames else ""
                raise NetworkError(f"source {self._source.name}: {error}{kept}") from error
            finally:
                self._show(end=True)

    def _record(self, file: io.FileIO) -> None:
        self._show()
        connection = Connection(self._source, self._app_symbol, CONNECT_TIMEOUT_S)
        self._connected = True
        try:
            began = shown = time.monotonic()
            while not self._stopped and time.monotonic() - began < self._seconds:
                messages = connection.read()
                if messages:
                    self._write(file, messages)
                connection.check_alive(self._dead_after_s)
                if time.monotonic() - shown >= PROGRESS_S:
                    shown = time.monotonic()
                    self._show()
        finally:
            connection.close()

    def _write(self, file: io.FileIO, messages: list[bytes]) -> None:
        received_at = round(time.time(), 6)
        # What is no UTF-8 is kept all the same: its bytes become half surrogate pairs, which JSON can spell.
        lines = [
            json.dumps({"received_at": received_at, "frame": message.decode("utf-8", "surrogateescape")}) + "\n"
            for message in messages
        ]
        block = "".join(lines).encode()
        left = memoryview(block)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            raise StorageError(f"{self._out}: cannot be written: {error.strerror or error}") from error
        finally:  # of what was written, the whole lines
            whole = block.rfind(b"\n", 0, len(block) - len(left)) + 1
            self.size += whole
            self.frames += block.count(b"\n", 0, whole)
            if left:
                file.truncate(self.size)
        for message in messages:
            decoded = decode(EXCHANGES[self._source.kind], message)
            self.trades += len(decoded.prints)
            self.rejected += len(decoded.rejections)
            if decoded.refused:
                raise SourceFailed(decoded.refused)

    def _show(self, *, end: bool = False) -> None:
        """A progress line: on a terminal one that is written over, elsewhere the last one alone."""
        terminal = sys.stderr.isatty()
        if terminal or end:
            text = f"{self.frames} frames, {self.trades} trades, {self.rejected} undecodable, {self.size / 1e6:.1f} MB"
            start, stop = ("\r\x1b[K" if terminal else ""), (f" in {self._out}\n" if end else "")
            print(f"{start}{self._source.name}: {text}", end=stop, file=sys.stderr, flush=True)

    @contextmanager
    def _file(self) -> Iterator[io.FileIO]:
        try:
            # unbuffered: closing has nothing left to fail at
            file = open(self._out, "xb", buffering=0)  # noqa: SIM115 - closed below
        except FileExistsError:
            raise ConfigError(f"command line: --out {self._out}: is there already, and is not overwritten") from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"command line: --out {self._out}: cannot be created: {why}") from error
        try:
            yield file
        finally:
            file.close()
            if not self.size:
                self._out.unlink(missing_ok=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self._stopped = True
            if not self._connected:
                raise _Stopped

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
