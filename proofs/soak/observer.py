"""Observes the engine: reads systemd, the journal since the last look, the database and /proc. Changes nothing."""

import re
import sqlite3
import time
from collections.abc import Mapping
from math import inf

from proofs.host.database import Store
from proofs.host.shell import pressure, read_text, some_avg10
from proofs.host.unit import Entry, Unit, starts
from proofs.restore import lease
from proofs.soak import exit_table
from proofs.soak.controller import Observation
from proofs.verdict import Json

ABORT_FILE = lease.RUN_ROOT / "ABORT"
KINDS = ("cpu", "memory", "io")  # of pressure
_RUN = """
SELECT id, started_ms, updated_ms, last_frame_ms, received,
 sampled_out + rejected + duplicate + dropped + waiting + admitted AS accounted,
 EXISTS (SELECT 1 FROM gaps WHERE run_id = runs.id AND to_ms IS NULL AND kind = 'down') AS feed_down
 FROM runs ORDER BY id DESC LIMIT 1
"""
_NEWEST = "SELECT id, exchange_ms, received_ms FROM ticks ORDER BY id DESC LIMIT 1"


class Observer:
    """Watches a unit and its database from now on.

    What the looks collect: times in seconds since the watch began, memory in kB, latencies in ms.
    """

    def __init__(self, unit: Unit, store: Store) -> None:
        self.unit, self.store = unit, store
        self.looks = 0
        self.unread = self.unbalanced = 0  # looks at which the database could not be read, the counters did not balance
        self.rss: dict[str, list[list[float]]] = {}  # by run: [when, VmRSS]
        self.feed_ms: list[float] = []  # of the newest tick: receipt minus the exchange's time
        self.age_ms: list[float] = []  # of the newest tick: its age at the look
        self.host_worst: dict[str, float] = {}  # avg10 of the host, by kind
        self.cursor = self._read_to = unit.cursor()
        self.began_s = time.monotonic()
        self.state = unit.state()
        self.tick = self.lost = 0
        self.psi = pressure(self.state.control_group)
        self.sample_every: int | None = None  # in force, by the engine's own log lines
        self._restarts = self.state.restarts
        self._pending: list[Entry] = []
        self._missing = 0  # restarts by NRestarts minus those in the journal

    def look(self, stop: bool) -> Observation:
        """What has happened since the last look. stop: whether the soak was asked to stop.

        The unit's state is read before the journal, so that the journal has the entries about that state.
        """
        state = self.state = self.unit.state()
        entries = self._new_entries()
        lost = self._count_lost(state.restarts, entries)
        self.lost += lost
        fields = exit_table.engine_fields(entries)
        for one in fields:
            every = one.get("current_sample_every", one.get("sample_every"))
            self.sample_every = every if isinstance(every, int) else self.sample_every
        self.psi = pressure(state.control_group)
        self.looks += 1
        self._sample(state.pid if state.running else 0, state.invocation)
        row = self._read_database() if state.running else {}
        now_ms = time.time() * 1000
        frame_ms = row.get("last_frame_ms") or row.get("started_ms")
        return Observation(
            at_s=round(time.monotonic() - self.began_s, 3),
            active=state.active,
            invocation=state.invocation,
            running=state.running,
            busy=state.job != 0,
            exits=exit_table.exits(entries),
            started=starts(entries),
            lost=lost,
            pressure=[one for one in fields if one["message"] == exit_table.DECISION],
            tick=self.tick,
            frame_age_s=(now_ms - frame_ms) / 1000 if frame_ms else inf,
            counters_age_s=(now_ms - row["updated_ms"]) / 1000 if row else inf,
            feed_down=bool(row.get("feed_down")),
            stop=stop,
            abort=ABORT_FILE.exists(),
        )

    def _new_entries(self) -> list[Entry]:
        self.unit.host.look("journalctl", "--sync", quiet=True)
        if new := self.unit.journal(self._read_to, quiet=True):
            self._read_to = new[-1].cursor
        whole, rest = exit_table.split([*self._pending, *new])
        if rest and rest == self._pending:  # the exit's result did not come since the last look either
            whole, rest = rest, []
        self._pending = rest
        return whole

    def _count_lost(self, restarts: int, entries: list[Entry]) -> int:
        """Restarts by systemd that the journal does not show. NRestarts is reset when the unit is started by hand."""
        self._missing += restarts - self._restarts if restarts >= self._restarts else restarts
        self._missing -= exit_table.restarts([*entries, *self._pending])
        self._restarts = restarts
        lost = max(0, self._missing)
        self._missing -= lost  # each is reported once
        return lost

    def _sample(self, pid: int, invocation: str) -> None:
        at_s = round(time.monotonic() - self.began_s, 1)
        rss = re.search(r"^VmRSS:\s+(\d+) kB", read_text(f"/proc/{pid}/status"), re.M) if pid else None
        if rss:
            self.rss.setdefault(invocation, []).append([at_s, int(rss[1])])
        for kind in KINDS:
            if (value := some_avg10(self.psi.get(kind, ""))) is not None:
                self.host_worst[kind] = max(value, self.host_worst.get(kind, 0.0))

    def _read_database(self) -> Mapping[str, Json]:
        """The newest run's row; empty while it cannot be read. Samples its newest tick as well."""
        try:
            newest, runs = self.store.rows(_NEWEST), self.store.rows(_RUN)
        except sqlite3.Error:
            self.unread += 1
            return {}
        if newest:
            if newest[0]["id"] != self.tick:
                self.feed_ms.append(newest[0]["received_ms"] - newest[0]["exchange_ms"])
            self.age_ms.append(round(time.time() * 1000 - newest[0]["received_ms"]))
            self.tick = int(newest[0]["id"])
        if runs and runs[0]["received"] != runs[0]["accounted"]:
            self.unbalanced += 1
        return runs[0] if runs else {}

    def switch_store(self, store: Store) -> None:
        """From now on the engine writes to this database."""
        self.store, self.tick = store, 0

    def pressure_lines(self, of: str = "") -> dict[str, list[str] | None]:
        """The raw lines of the host's pressure, or of that of: "unit ", by kind at the last look; None: unknown."""
        return {kind: self.psi[of + kind].splitlines() if of + kind in self.psi else None for kind in KINDS}
