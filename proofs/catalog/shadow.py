"""shadow: with no network at all, the engine makes its shadow orders and trades as before; within the risk caps."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofs.catalog._caps import GROSS_CAP, SYMBOL_CAP, Caps
from proofs.catalog._checks import equal, figures
from proofs.catalog._steady import steady
from proofs.catalog.mutations import patched
from proofs.experiment import sandbox_probe
from proofs.experiment.case import Case, Proof
from proofs.experiment.measurements import Count, Pid, figures_of
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store
from proofs.host.unit import Entry, State
from proofs.verdict import Check, Json, Result

ORDERS = 20
WITHIN_S = 10.0
# A signal each 0.2 s; the first one late enough for the process to be looked at before it.
_CONFIG = config(ingest_mode="SYNTHETIC", tick_interval_ms=20, signal_every_n_ticks=10, flush_interval_ms=100)
_SEALED = ("PrivateNetwork=yes", "RestrictAddressFamilies=", "RestrictAddressFamilies=AF_UNIX")
_ORDERS_OF_RUN = """
SELECT o.id, o.status, o.mode, t.id AS trade FROM orders o JOIN ticks k ON k.id = o.id
LEFT JOIN trades t ON t.order_id = o.id WHERE k.run_id > ? ORDER BY o.id LIMIT ?
"""


@dataclass(frozen=True, kw_only=True)
class SealedNetwork:
    """What the engine has of the network. netns: its namespace; netns_of_host: that of process 1.

    inet_socket: what stood in the way of one in the sandbox, before the fault as well; "" for nothing.
    """

    pid: Pid
    interfaces: list[str]
    netns: str
    netns_of_host: str
    inet_socket: str
    inet_socket_before: str | None


@dataclass(frozen=True, kw_only=True)
class ShadowWork:
    """Of the first orders after the fault: trades that they have, those filled, their modes."""

    n: Count
    orders: Count
    trades: Count
    filled: Count
    modes: list[str]
    restarts: Count
    active: str


def probe_output(entries: Sequence[Entry]) -> dict[str, Json]:
    """What the probe said last; empty when nothing."""
    lines = [entry.message for entry in entries if entry.message.startswith(sandbox_probe.MARK)]
    output: dict[str, Json] = json.loads(lines[-1].removeprefix(sandbox_probe.MARK)) if lines else {}
    return output


class Sealed(Case):
    name = "sealed"
    fault = "PrivateNetwork=yes and RestrictAddressFamilies=AF_UNIX: no interface but lo, no INET socket"

    def steady(self, subject: Subject) -> None:
        subject.probe("inet-socket")
        subject.install()
        cursor = subject.unit.cursor()
        steady(subject, _CONFIG)
        self.before = _inet_socket(subject.unit.journal(cursor))

    def inject(self, subject: Subject) -> None:
        self.run = int(subject.recorded().runs()[-1]["id"])
        self.old = subject.unit.state(quiet=False).restarts
        self.cursor = subject.unit.cursor()
        subject.directives += _SEALED
        subject.install()
        subject.restart(check=False)

    def witness(self, subject: Subject) -> SealedNetwork:
        """What the engine's own process sees of the network, and how an INET socket fares where it stands."""
        network = subject.host.wait_for("a look at the sealed process", 8, lambda: _network(subject), every=0.02)
        refused = _inet_socket(subject.unit.journal(self.cursor)) or ""
        return SealedNetwork(**network, inet_socket=refused, inet_socket_before=self.before)

    def witnessed(self, witness: SealedNetwork) -> bool:
        apart = witness.netns != witness.netns_of_host
        return apart and witness.interfaces == ["lo"] and bool(witness.inet_socket)

    def measure(self, subject: Subject) -> ShadowWork:
        def done() -> bool:
            return len(_orders(subject.store, self.run)) >= ORDERS or subject.unit.state().restarts > self.old

        subject.host.poll("all orders, or a restart", WITHIN_S, done, every=0.1)
        return _work(_orders(subject.recorded(), self.run), subject.unit.state(quiet=False), self.old)

    def traced(self, measured: ShadowWork, trace: Trace) -> Mapping[str, Json | Between]:
        store = trace.store()
        orders = _orders(store, int(store.runs()[-1]["id"]))
        return figures_of(_work(orders, trace.state(-1), trace.state(0).restarts))

    def traced_witness(self, witness: SealedNetwork, trace: Trace) -> Mapping[str, Json | Between]:
        before, after = _inet_socket(trace.journal(0)), _inet_socket(trace.journal(1))
        return {"inet_socket": after or "", "inet_socket_before": before}

    def judge(self, measured: ShadowWork) -> Sequence[Check]:
        orders, trades, modes, filled = measured.orders, measured.trades, measured.modes, measured.filled
        return (
            Check(f"orders stored in {WITHIN_S:g} s", orders, f">= {ORDERS}", orders >= ORDERS, guard=True),
            Check("trades", trades, f"{filled}, each filled order's", 0 < trades == filled, True),
            Check("modes of the orders", modes, "SHADOW alone", set(modes) <= {"SHADOW"}),
            equal("restarts", measured.restarts, 0, guard=True),
            equal("state", measured.active, "active", guard=True),
        )


class Unsealed(Caps):
    """The risk caps, when the network is back: not before, as the mutant needs the CPU for its short life."""

    def steady(self, subject: Subject) -> None:
        subject.directives = [one for one in subject.directives if one not in _SEALED]
        subject.install()
        super().steady(subject)


def _orders(store: Store, run: int) -> list[dict[str, Json]]:
    """The first orders after that run."""
    try:
        return store.rows(_ORDERS_OF_RUN, (run, ORDERS))
    except sqlite3.OperationalError:
        return []


def _work(orders: Sequence[Mapping[str, Json]], now: State, restarts_before: int) -> ShadowWork:
    return ShadowWork(
        n=1,
        orders=len(orders),
        trades=sum(order["trade"] is not None for order in orders),
        filled=sum(order["status"] == "FILLED" for order in orders),
        modes=sorted({order["mode"] for order in orders}),
        restarts=now.restarts - restarts_before,
        active=now.active,
    )


def _inet_socket(entries: Sequence[Entry]) -> str | None:
    """What stood in the way of an INET socket, by the probe; None where it did not say."""
    refused: str | None = probe_output(entries).get("refused", {}).get("inet-socket")
    return refused


def _network(subject: Subject) -> dict[str, Any] | None:
    """Of the running main process; None when it does not run, or went while it was looked at."""
    state = subject.unit.state()
    try:
        netns = str(Path(f"/proc/{state.pid}/ns/net").readlink()) if state.running else ""
    except OSError:
        return None
    interfaces = sandbox_probe.interfaces(state.pid)
    if not netns or not interfaces:
        return None
    of_host = str(Path("/proc/1/ns/net").readlink())
    return {"pid": state.pid, "interfaces": interfaces, "netns": netns, "netns_of_host": of_host}


def headline(results: Sequence[Result]) -> str:
    measured = figures(results)
    orders, trades = measured.get(f"orders stored in {WITHIN_S:g} s", "?"), measured.get("trades", "?")
    return f"without a network: {orders} orders, {trades} trades"


PROOF = Proof(
    name="shadow",
    claim="shadow execution needs no network: with none at all the engine makes its shadow orders and trades; no risk"
    " cap is exceeded",
    bound=f">= {ORDERS} orders in {WITHIN_S:g} s, a trade of each that was filled, no restart; filled exactly where the"
    f" caps of {SYMBOL_CAP:g} and {GROSS_CAP:g} allow it",
    fault="PrivateNetwork=yes and RestrictAddressFamilies=AF_UNIX; orders beyond the caps",
    seconds=20,
    notes="a probe that tries an INET socket runs in the unit's sandbox before each start (ExecStartPre=)",
    cases=lambda deployed: [Sealed(deployed), Unsealed(deployed)],
    mutants=[patched("shadow/socket-for-each-order", Sealed.alone)],
    headline=headline,
    host_word=dict.fromkeys(
        [f"witness.{name}" for name in ("pid", "interfaces", "netns", "netns_of_host")],
        "what /proc showed of the process in its sandbox",
    ),
)
