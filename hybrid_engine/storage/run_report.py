"""`hybrid-engine report`: how a run's trades would have done, read from its database while the engine may go on.

Ticks and trades are read in pages by ranges of ids, so the memory is that of a page, and no read is long. A run's ids
have no index; they ascend with the runs, so their ends are found by bisection.
"""

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from math import fsum
from pathlib import Path
from typing import NamedTuple

from hybrid_engine.domain.performance import Performance
from hybrid_engine.runtime.errors import ConfigError
from hybrid_engine.runtime.progress import Progress
from hybrid_engine.storage.database import read_snapshot

VERSION = 1  # of the JSON
PAGE_ROWS = 5000
_COLUMNS = (
    *("id", "started_ms", "ended_ms", "mode", "ingest_mode", "config_digest", "sample_every", "ticks_expired"),
    "risk_vetoes",
)
_TRADES = """SELECT s.tick_id, t.symbol, t.side, t.size, t.price, t.fee FROM signals s
    JOIN orders o ON o.signal_id = s.id JOIN trades t ON t.order_id = o.id
    WHERE s.tick_id > ? AND s.tick_id <= ? ORDER BY s.tick_id"""


Figures = dict[str, float | int | None]
Run = dict[str, int | str | None]
Marks = list[tuple[int, str, float]]
Trades = list[tuple[int, str, str, float, float, float]]
_SUMS = ("result", "realised", "unrealised", "fees", "turnover", "trades", "exposure")
_OF_SYMBOL = (*_SUMS[:-1], "win_rate", "net", "average", "last_price", "exposure", "exposure_max")


class RunReport(NamedTuple):
    """A run and how it did. caps: (gross, of a symbol), None where its configuration is not the present one."""

    run: Run
    ticks: int
    performance: Performance
    caps: tuple[float, float] | None

    def of_symbols(self) -> dict[str, Figures]:
        positions = sorted(self.performance.positions.items())
        return {symbol: {key: getattr(position, key) for key in _OF_SYMBOL} for symbol, position in positions}

    def of_all(self) -> Figures:
        symbols = self.of_symbols().values()
        sums: Figures = {key: fsum(figures[key] or 0 for figures in symbols) for key in _SUMS}
        sums["trades"] = sum(int(figures["trades"] or 0) for figures in symbols)
        return sums | {"drawdown": self.performance.drawdown, "exposure_max": self.performance.exposure_max}

    def as_json(self) -> dict[str, object]:
        caps = dict(zip(("exposure", "symbol_exposure"), self.caps, strict=True)) if self.caps else None
        value = {"version": VERSION, "run": self.run, "ticks": self.ticks, "symbols": self.of_symbols()}
        return {**value, "total": self.of_all(), "caps": caps}


def make_report(database: Path, run_id: int | None, config_digest: str, caps: tuple[float, float]) -> RunReport:
    """The report of a run, the newest one where none is named. Raises ConfigError, StorageError, OverloadError.

    caps: of the configuration with that digest, gross and of a symbol.
    """
    run = read_snapshot(database, partial(_read_run, run_id=run_id))
    first, last = read_snapshot(database, partial(_ends, run_id=int(run["id"] or 0)))
    performance, ticks, progress, done = Performance(), 0, Progress(), first - 1
    while done < last:
        end, marks, trades = read_snapshot(database, partial(_read_page, done=done, last=last))
        ticks += len(marks)
        _replay(performance, marks, trades)
        done = end
        progress.show(f"{ticks} ticks of run {run['id']} read")
    return RunReport(run, ticks, performance, caps if run["config_digest"] == config_digest else None)


def _read_run(con: sqlite3.Connection, run_id: int | None) -> Run:
    """The row of a run, the newest one where none is named. Raises ConfigError."""
    condition, values = ("WHERE id = ?", (run_id,)) if run_id is not None else ("ORDER BY id DESC LIMIT 1", ())
    row = con.execute(f"SELECT {', '.join(_COLUMNS)} FROM runs {condition}", values).fetchone()
    if row is None:
        (most,) = con.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()
        raise ConfigError(f"command line: there is no run {run_id or ''}: the database has {most} of them")
    return dict(zip(_COLUMNS, row, strict=True))


def _ends(con: sqlite3.Connection, run_id: int) -> tuple[int, int]:
    """The first id of the run's ticks, and the last; the last is before the first where it has none."""
    (newest,) = con.execute("SELECT coalesce(max(id), 0) FROM ticks").fetchone()

    def first_of(run: int) -> int:
        """The least id whose tick is of this run or a later one."""
        low, high = 1, newest + 1
        while low < high:
            middle = (low + high) // 2
            row = con.execute("SELECT run_id FROM ticks WHERE id >= ? ORDER BY id LIMIT 1", (middle,)).fetchone()
            if row is None or row[0] >= run:
                high = middle
            else:
                low = middle + 1
        return low

    return first_of(run_id), first_of(run_id + 1) - 1


def _read_page(con: sqlite3.Connection, done: int, last: int) -> tuple[int, Marks, Trades]:
    """The id that it reads up to, the ticks behind `done`, and the trades that they caused."""
    query = "SELECT id, symbol, price FROM ticks WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
    marks = con.execute(query, (done, last, PAGE_ROWS)).fetchall()
    end = marks[-1][0] if len(marks) == PAGE_ROWS else last
    return end, marks, con.execute(_TRADES, (done, end)).fetchall()


def _replay(performance: Performance, marks: Marks, trades: Trades) -> None:
    at, count = 0, len(trades)
    mark = performance.mark
    for number, symbol, price in marks:
        mark(symbol, price)
        while at < count and trades[at][0] == number:
            performance.fill(*trades[at][1:])
            at += 1


# For people -----------------------------------------------------------------------------------------------------------


def format_report(report: RunReport, against: RunReport | None = None) -> str:
    """The figures as a table, the symbols as columns; below those of another run, with the difference."""
    lines = [_headline(report), ""]
    symbols = {name: figures for name, figures in report.of_symbols().items() if figures["trades"]}
    total = report.of_all()
    if symbols:
        keys = (*_OF_SYMBOL, "drawdown")
        cells = [[key, *(_cell(figures.get(key)) for figures in (*symbols.values(), total))] for key in keys]
        lines += _table([["", *symbols, "all"], *cells])
    else:
        lines.append("It has no trades.")
    if report.caps:
        lines += ["", f"Caps of exposure: {report.caps[0]:,.2f} in all, {report.caps[1]:,.2f} for a symbol."]
    if expired := report.run["ticks_expired"]:
        lines += ["", f"{expired} of its ticks were deleted by retention_days, and their trades: what is left is taken"]
        lines.append("for a run that began flat, so positions and results may be others.")
    if against:
        one, other = total, against.of_all()
        rows = [[key, _cell(one[key]), _cell(other[key]), _cell((one[key] or 0) - (other[key] or 0))] for key in one]
        head = ["", f"run {report.run['id']}", f"run {against.run['id']}", "difference"]
        lines += ["", _headline(against), "", *_table([head, *rows])]
    return "\n".join(lines)


def format_json(report: RunReport, against: RunReport | None = None) -> str:
    """The report as one JSON object, with that of the other run as `against`."""
    return json.dumps({**report.as_json(), **({"against": against.as_json()} if against else {})}, indent=1)


def _headline(report: RunReport) -> str:
    run = report.run
    moments = [datetime.fromtimestamp(int(run[key] or 0) / 1000, UTC) for key in ("started_ms", "ended_ms") if run[key]]
    when = " to ".join(f"{moment:%FT%TZ}" for moment in moments) + ("" if run["ended_ms"] else ", and goes on")
    return f"Run {run['id']} ({run['mode']}, {run['ingest_mode']}), {when}: {report.ticks} ticks, quote currency"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return ["  ".join(cells).rstrip() for cells in aligned]


def _cell(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:,.4f}"
