"""shadow: with no network at all, the engine makes its shadow orders and trades as before."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from proofs.catalog import mutations
from proofs.catalog._steady import steady
from proofs.experiment import sandbox_probe
from proofs.experiment.case import Case, Mutant, Proof
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import Copy, Subject, config
from proofs.experiment.trace import Between, Trace, Untraced
from proofs.host.unit import Entry
from proofs.verdict import Check, Json, Result

ORDERS = 20
WITHIN_S = 10.0
_PROBE = Path(sandbox_probe.__file__).read_text()
# A signal each 0.2 s; the first one late enough for the process to be looked at before it.
_CONFIG = config(ingest_mode="SYNTHETIC", tick_interval_ms=20, signal_every_n_ticks=10, flush_interval_ms=100)
_SEALED = ("PrivateNetwork=yes", "RestrictAddressFamilies=", "RestrictAddressFamilies=AF_UNIX")
_MADE = """
SELECT o.id, o.status, o.mode, t.id AS trade FROM orders o JOIN ticks k ON k.id = o.id
LEFT JOIN trades t ON t.order_id = o.id WHERE k.run_id > ? ORDER BY o.id LIMIT ?
"""


def probed(subject: Subject, cursor: str) -> dict[str, Json]:
    """What the probe said last since then; empty when nothing."""
    return said_by_probe(subject.unit.journal(cursor))


def said_by_probe(entries: Sequence[Entry]) -> dict[str, Json]:
    said = [entry.message for entry in entries if entry.message.startswith(sandbox_probe.MARK)]
    found: dict[str, Json] = json.loads(said[-1].removeprefix(sandbox_probe.MARK)) if said else {}
    return found


class Sealed(Case):
    name = "sealed"
    fault = "PrivateNetwork=yes and RestrictAddressFamilies=AF_UNIX: no interface but lo, no INET socket"

    def steady(self, subject: Subject) -> None:
        subject.probe("attempts.py", _PROBE, "inet-socket")
        subject.install()
        cursor = subject.unit.cursor()
        steady(subject, _CONFIG)
        self.before = probed(subject, cursor)

    def inject(self, subject: Subject) -> None:
        self.run = subject.run_id()
        self.old = subject.unit.state().restarts
        self.cursor = subject.unit.cursor()
        subject.directives += _SEALED
        subject.install()
        subject.restart(check=False)

    def witness(self, subject: Subject) -> Json:
        """What the engine's own process sees of the network, and how an INET socket fares where it stands."""
        seen = subject.host.wait_for("a look at the sealed process", 8, lambda: _network(subject), every=0.02)
        inside = probed(subject, self.cursor)
        refused = inside.get("refused", {}).get("inet-socket")
        before = self.before.get("refused", {}).get("inet-socket")
        witness = {**seen, "inet_socket": refused, "inet_socket_before": before}
        return witness if refused and self.witnessed(Figures(witness)) else None

    def witnessed(self, seen: Figures) -> bool:
        apart = seen.text("netns") != seen.text("netns_of_host")
        return apart and seen.texts("interfaces") == ["lo"] and bool(seen.text("inet_socket"))

    def measure(self, subject: Subject) -> dict[str, Json]:
        def done() -> bool:
            return bool(self._orders(subject, ORDERS)) or subject.unit.state().restarts > self.old

        subject.host.poll("all orders, or a restart", WITHIN_S, done, every=0.1)
        orders = self._orders(subject, 1)
        now = subject.unit.state(quiet=False)
        return {
            "orders": len(orders), "trades": sum(order["trade"] is not None for order in orders),
            "filled": sum(order["status"] == "FILLED" for order in orders),
            "modes": sorted({order["mode"] for order in orders}), "restarts": now.restarts - self.old,
            "active": now.active, "n": 1,
        }  # fmt: skip

    def _orders(self, subject: Subject, at_least: int) -> list[dict[str, Json]]:
        try:
            found = subject.store.rows(_MADE, (self.run, ORDERS))
        except sqlite3.OperationalError:
            return []
        return found if len(found) >= at_least else []

    def traced(self, measured: Figures, trace: Trace) -> Mapping[str, Json | Between]:
        refused = said_by_probe(trace.journal()).get("refused", {}).get("inet-socket")
        if refused != trace.witness(Figures).text("inet_socket"):
            raise Untraced(f"the probe in the sandbox said {refused!r} of an INET socket")
        return {"active": trace.shown(-1)["ActiveState"]}

    def judge(self, measured: Figures) -> Sequence[Check]:
        orders, trades, modes = measured.count("orders"), measured.count("trades"), measured.texts("modes")
        restarts, filled, active = measured.count("restarts"), measured.count("filled"), measured.text("active")
        return (
            Check(f"orders stored in {WITHIN_S:g} s", orders, f">= {ORDERS}", orders >= ORDERS, guard=True),
            Check("trades", trades, f"{filled}, each filled order's", 0 < trades == filled, True),
            Check("modes of the orders", modes, "SHADOW alone", set(modes) <= {"SHADOW"}),
            Check("restarts", restarts, 0, restarts == 0, guard=True),
            Check("state", active, "active", active == "active", guard=True),
        )


def _network(subject: Subject) -> dict[str, Json]:
    """Of the running main process; empty when it does not run, or went while it was looked at."""
    state = subject.unit.state()
    try:
        netns = str(Path(f"/proc/{state.pid}/ns/net").readlink()) if state.running else ""
    except OSError:
        return {}
    seen = sandbox_probe.interfaces(state.pid)
    if not netns or not seen:
        return {}
    of_host = str(Path("/proc/1/ns/net").readlink())
    return {"pid": state.pid, "interfaces": seen, "netns": netns, "netns_of_host": of_host}


def _socket_for_each_order(copy: Copy) -> None:
    mutations.apply(copy, "shadow/socket-for-each-order")


def headline(results: Sequence[Result]) -> str:
    found = {check.name: check.measured for result in results for check in result.checks}
    orders, trades = found.get(f"orders stored in {WITHIN_S:g} s", "?"), found.get("trades", "?")
    return f"without a network: {orders} orders, {trades} trades"


PROOF = Proof(
    name="shadow",
    claim="shadow execution needs no network: with none at all the engine makes its shadow orders and trades",
    bound=f">= {ORDERS} orders in {WITHIN_S:g} s, a trade of each that was filled, no restart",
    fault="PrivateNetwork=yes and RestrictAddressFamilies=AF_UNIX",
    seconds=14,
    notes="a probe that tries an INET socket runs in the unit's sandbox before each start (ExecStartPre=)",
    cases=lambda deployed: [Sealed(deployed)],
    mutants=[
        Mutant(
            "socket-for-each-order",
            "an execution that opens an INET socket for each order",
            _socket_for_each_order,
            lambda deployed: [Sealed(deployed)],
        )
    ],
    headline=headline,
)
