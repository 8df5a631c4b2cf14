"""`hybrid-engine capture`: records a source's frames, a JSON line each: {"received_at": seconds UTC, "frame": text}.

It reads through the engine's own connection, so the file holds every frame that the engine would have read.
"""

import io
import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from hybrid_engine.config.load import Config, load_sources
from hybrid_engine.config.sources import Source
from hybrid_engine.exchanges import EXCHANGES, decode
from hybrid_engine.ingest.connection import Connection
from hybrid_engine.ingest.failure import SourceFailed
from hybrid_engine.runtime.errors import ConfigError, NetworkError, StorageError

CONNECT_TIMEOUT_S = 8.0
PROGRESS_S = 1.0
MAX_SECONDS = 30 * 86_400.0


def parse_seconds(text: str) -> float:
    """Parse the value of --seconds. Raises ConfigError."""
    seconds = math.nan
    with suppress(ValueError):
        seconds = float(text)
    if not 0 < seconds <= MAX_SECONDS:
        raise ConfigError(f"command line: --seconds {text}: must be a number above 0, at most {MAX_SECONDS:.0f}")
    return seconds


def find_source(config: Config, name: str) -> Source:
    """The configured source `name`, whatever the engine's mode. Raises ConfigError."""
    file = config.path.parent / config.settings.engine.sources_file
    if not config.sources and not file.exists():
        raise ConfigError(f"{file}: there is no such file; capture finds its sources there, in [[source]] tables")
    sources = config.sources or load_sources(file, config.settings.engine.ca_file)
    by_name = {source.name: source for source in sources}
    if name not in by_name:
        names = ", ".join(by_name)
        raise ConfigError(f"command line: --source {json.dumps(name)}: there is no such source; there are: {names}")
    return by_name[name]


class _Stopped(BaseException):
    """A signal arrived during connecting, which only an exception interrupts."""


class Capture:
    """Records `source` into the new file `out` for `seconds`, or until SIGINT or SIGTERM.

    Raises ConfigError (the file), NetworkError (the source), StorageError (the disk). The file then still ends with a
    complete line; a file without any line is removed.
    """

    def __init__(self, config: Config, source: Source, seconds: float, out: Path) -> None:
        self.frames = self.trades = self.rejected = self.size = 0
        self._settings = config.settings
        self._source = source
        self._seconds = seconds
        self._out = out
        self._stopped = self._connected = False

    def run(self) -> None:
        with self._create_file() as file:
            try:
                with suppress(_Stopped):
                    self._handle_signals()
                    self._record(file)
            except SourceFailed as error:
                recorded = f"; the {self.frames} frames before are in {self._out}" if self.frames else ""
                raise NetworkError(f"source {self._source.name}: {error}{recorded}") from error
            finally:
                self._print_progress(end=True)

    def _record(self, file: io.FileIO) -> None:
        self._print_progress()
        symbols = self._source.watched_symbols(self._settings.app.symbol)
        with closing(Connection(self._source, symbols, CONNECT_TIMEOUT_S)) as connection:
            self._connected = True
            started_at = printed_at = time.monotonic()
            while not self._stopped and time.monotonic() - started_at < self._seconds:
                if messages := connection.read():
                    self._write(file, messages)
                connection.check_alive(self._settings.engine.dead_after_s)
                if time.monotonic() - printed_at >= PROGRESS_S:
                    printed_at = time.monotonic()
                    self._print_progress()

    def _write(self, file: io.FileIO, messages: list[bytes]) -> None:
        received_at = round(time.time(), 6)
        # Bytes that are not UTF-8 are kept as lone surrogates, which JSON can represent.
        frames = (message.decode("utf-8", "surrogateescape") for message in messages)
        lines = (json.dumps({"received_at": received_at, "frame": frame}) + "\n" for frame in frames)
        block = "".join(lines).encode()
        unwritten = memoryview(block)
        try:
            while unwritten:
                unwritten = unwritten[file.write(unwritten) :]
        except OSError as error:
            raise StorageError(f"{self._out}: cannot be written: {error.strerror or error}") from error
        finally:  # after an error, keep the complete lines only
            complete = block.rfind(b"\n", 0, len(block) - len(unwritten)) + 1
            self.size += complete
            self.frames += block.count(b"\n", 0, complete)
            if unwritten:
                file.truncate(self.size)
        for message in messages:
            decoded = decode(EXCHANGES[self._source.kind], message)
            self.trades += len(decoded.trades)
            self.rejected += len(decoded.rejections)
            if decoded.refusals:
                raise SourceFailed(f"refused: {decoded.refusals[0].text}")

    def _print_progress(self, *, end: bool = False) -> None:
        """On a terminal a line that is overwritten each time; elsewhere only the last one."""
        terminal = sys.stderr.isatty()
        if terminal or end:
            text = f"{self.frames} frames, {self.trades} trades, {self.rejected} undecodable, {self.size / 1e6:.1f} MB"
            start, stop = ("\r\x1b[K" if terminal else ""), (f" in {self._out}\n" if end else "")
            print(f"{start}{self._source.name}: {text}", end=stop, file=sys.stderr, flush=True)

    @contextmanager
    def _create_file(self) -> Iterator[io.FileIO]:
        try:
            # unbuffered, so that closing writes nothing and cannot fail
            file = open(self._out, "xb", buffering=0)  # noqa: SIM115 - closed below
        except FileExistsError:
            raise ConfigError(f"command line: --out {self._out}: is there already, and is not overwritten") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"command line: --out {self._out}: cannot be created: {reason}") from error
        try:
            yield file
        finally:
            file.close()
            if not self.size:
                self._out.unlink(missing_ok=True)

    def _handle_signals(self) -> None:
        def stop(number: int, frame: object) -> None:
            connecting, self._stopped = not (self._connected or self._stopped), True
            if connecting:
                raise _Stopped

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
