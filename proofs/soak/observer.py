"""The looks of a soak: systemd, the journal since the last look, the database, /proc. Nothing here changes anything."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from proofs.host.database import Store
from proofs.host.shell import pressure, read_text
from proofs.host.unit import Entry, Unit
from proofs.restore import lease
from proofs.soak import journal
from proofs.soak.controller import Seen
from proofs.verdict import Json

ABORT_FILE = lease.RUN_ROOT / "ABORT"
_BOOKS = ("sampled_out", "rejected", "duplicate", "dropped", "waiting", "admitted")
_RUN = f"""
SELECT id, started_ms, updated_ms, last_frame_ms, received, {" + ".join(_BOOKS)} AS accounted,
 EXISTS (SELECT 1 FROM gaps WHERE run_id = runs.id AND to_ms IS NULL AND kind = 'down') AS feed_down
 FROM runs ORDER BY id DESC LIMIT 1
"""
_NEWEST = "SELECT id, exchange_ms, received_ms FROM ticks ORDER BY id DESC LIMIT 1"


@dataclass
class Samples:
    """What the looks add up to. Times in seconds since the watch began, memory in kB, latencies in ms."""

    looks: int = 0
    unread: int = 0  # looks at which the database could not be read
    unbalanced: int = 0  # ... at which the books did not balance
    rss: dict[str, list[list[float]]] = field(default_factory=dict)  # by run: [when, VmRSS]
    feed_ms: list[float] = field(default_factory=list)  # newest tick: from the exchange's clock to its receipt
    age_ms: list[float] = field(default_factory=list)  # newest tick: how old when looked at
    host_worst: dict[str, float] = field(default_factory=dict)  # avg10 of the host, by kind


class Watch:
    """Watches a unit from now on. stop: whether the soak was asked to end."""

    def __init__(self, unit: Unit, store: Store) -> None:
        self.unit, self.store = unit, store
        self.samples = Samples()
        self.cursor = self._read_to = unit.cursor()
        self.began_s = time.monotonic()
        self.state = unit.state()
        self.tick = self.lost = 0
        self.psi = pressure(self.state.control_group)
        self.sample_every: int | None = None  # in force, as the engine tells
        self.step: str | None = None  # of the engine's own ladder
        self._restarts = self.state.restarts
        self._pending: list[Entry] = []
        self._restarted = self._counted = 0  # by systemd, as the journal and as NRestarts have it

    def look(self, stop: bool) -> Seen:
        """Everything that has happened since the last look. The state first: then the journal has all of it."""
        state = self.state = self.unit.state()
        entries = self._news()
        lost = self._lost(state.restarts, entries)
        self.lost += lost
        fields = journal.engine_fields(entries)
        self._believe(fields)
        self.psi = pressure(state.control_group)
        self.samples.looks += 1
        self._sample(state.pid if state.running else 0, state.invocation)
        book = self._books() if state.running else {}
        now_ms = time.time() * 1000
        frame_ms = book.get("last_frame_ms") or book.get("started_ms")
        return Seen(
            round(time.monotonic() - self.began_s, 3), state.active, state.invocation, state.running, state.job != 0,
            journal.exits(entries), journal.starts(entries), lost,
            [one for one in fields if one["message"] == journal.DECISION], self.tick,
            (now_ms - frame_ms) / 1000 if frame_ms else None,
            (now_ms - book["updated_ms"]) / 1000 if book else None, bool(book.get("feed_down")),
            stop, ABORT_FILE.exists(),
        )  # fmt: skip

    def _news(self) -> list[Entry]:
        self.unit.host.look("journalctl", "--sync", quiet=True)
        new = self.unit.journal(self._read_to, quiet=True)
        if new:
            self._read_to = new[-1].cursor
        whole, rest = journal.split([*self._pending, *new])
        if rest and rest == self._pending:  # nobody will ever say what that exit counted as
            whole, rest = rest, []
        self._pending = rest
        return whole

    def _lost(self, restarts: int, entries: list[Entry]) -> int:
        """Restarts of systemd's that no journal tells of. The counter begins anew when somebody starts the unit."""
        self._counted += restarts - self._restarts if restarts >= self._restarts else restarts
        self._restarts = restarts
        self._restarted += journal.restarts([*entries, *self._pending])
        lost = max(0, self._counted - self._restarted)
        self._counted -= lost  # told once
        return lost

    def _believe(self, fields: list[dict[str, Json]]) -> None:
        for one in fields:
            every = one.get("current_sample_every", one.get("sample_every"))
            self.sample_every = every if isinstance(every, int) else self.sample_every
            self.step = one.get("pressure_state", one.get("state", self.step))

    def _sample(self, pid: int, invocation: str) -> None:
        at_s = round(time.monotonic() - self.began_s, 1)
        rss = re.search(r"^VmRSS:\s+(\d+) kB", read_text(f"/proc/{pid}/status"), re.M) if pid else None
        if rss:
            self.samples.rss.setdefault(invocation, []).append([at_s, int(rss[1])])
        for kind in ("cpu", "memory", "io"):
            value = some_avg10(self.psi.get(kind, ""))
            if value is not None:
                self.samples.host_worst[kind] = max(value, self.samples.host_worst.get(kind, 0.0))

    def _books(self) -> Mapping[str, Json]:
        """The newest run's row; empty while there is none to read."""
        try:
            newest, runs = self.store.rows(_NEWEST), self.store.rows(_RUN)
        except sqlite3.Error:
            self.samples.unread += 1
            return {}
        if newest:
            if newest[0]["id"] != self.tick:
                self.samples.feed_ms.append(newest[0]["received_ms"] - newest[0]["exchange_ms"])
            self.samples.age_ms.append(round(time.time() * 1000 - newest[0]["received_ms"]))
            self.tick = int(newest[0]["id"])
        if runs and runs[0]["received"] != runs[0]["accounted"]:
            self.samples.unbalanced += 1
        return runs[0] if runs else {}

    def over_to(self, store: Store) -> None:
        """The engine works on another database from now on."""
        self.store, self.tick = store, 0

    def pressure_lines(self) -> tuple[dict[str, list[str] | None], dict[str, list[str] | None]]:
        """The raw lines of the unit's own pressure and the host's, at the last look; None: unknown, never none."""

        def lines(name: str) -> dict[str, list[str] | None]:
            texts = {kind: self.psi.get(name.format(kind)) for kind in ("cpu", "memory", "io")}
            return {kind: None if text is None else text.splitlines() for kind, text in texts.items()}

        return lines("unit {}"), lines("{}")


def some_avg10(text: str) -> float | None:
    """Of a pressure file's text: percent of the last 10 s in which something was stalled.

    >>> some_avg10("some avg10=1.50 avg60=0.00 avg300=0.00 total=9"), some_avg10("")
    (1.5, None)
    """
    found = re.search(r"^some avg10=([0-9.]+) ", text, re.M)
    return float(found[1]) if found else None


def runs_since(store: Store, first: int) -> list[dict[str, Json]]:
    return store.rows("SELECT * FROM runs WHERE id >= ? ORDER BY id", (first,))


def losses(store: Store, first: int) -> list[dict[str, Json]]:
    """What the runs from that one on have no tick of, by kind: gaps, their count where it is known, and seconds."""
    return store.rows(
        "SELECT kind, sum(count) AS count, count(*) AS intervals,"
        " sum(coalesce(to_ms, from_ms) - from_ms) / 1000.0 AS seconds"
        " FROM gaps WHERE run_id >= ? GROUP BY kind ORDER BY kind", (first,),
    )  # fmt: skip
