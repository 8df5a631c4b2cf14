"""shadow: with no network the engine makes its shadow orders and trades as before, and an open one it leaves alone;
within the risk caps.

The open network is one of the unit's own (PrivateNetwork=), in which nobody else is counted. There the unit does not
notify systemd, so that it has no use for a socket: a filter kills whoever makes one, of any family.
"""

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proofs.catalog._caps import GROSS_CAP, SYMBOL_CAP, Caps
from proofs.catalog._checks import equal, figures
from proofs.catalog._steady import steady
from proofs.catalog.mutations import patched
from proofs.experiment import sandbox_probe
from proofs.experiment.case import Case, Proof
from proofs.experiment.measurements import Count, figures_of
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host import network
from proofs.host.database import Store
from proofs.host.unit import Entry, State
from proofs.verdict import Check, Json, Result

ORDERS, ORDERS_OPEN = 20, 400
WITHIN_S = 10.0
FEE = 0.001  # of the value, as the adapter of SHADOW promises
# A signal each 0.2 s, and one for each of 200 ticks a second.
_CONFIG = config(ingest_mode="SYNTHETIC", tick_interval_ms=20, signal_every_n_ticks=10, flush_interval_ms=100)
_QUICK = config(ingest_mode="SYNTHETIC", tick_interval_ms=5, signal_every_n_ticks=1, flush_interval_ms=100)
_CONFIG, _QUICK = (text.removeprefix('mode = "SHADOW"\n') for text in (_CONFIG, _QUICK))  # it is to be the default
_SEALED = ("PrivateNetwork=yes", "RestrictAddressFamilies=", "RestrictAddressFamilies=AF_UNIX")
_OPEN = ("PrivateNetwork=yes",)
TRAPPED = "SIGSYS"
_CALLS = "socket connect bind listen accept accept4 sendto sendmsg sendmmsg io_uring_setup"
# A list of what is forbidden takes the place of the deployed one: systemd permits such an end only there.
_TRAP = (
    *("Type=exec", "NotifyAccess=none", "WatchdogSec=0", "SystemCallFilter="),
    f"SystemCallFilter=~{' '.join(f'{call}:kill' for call in _CALLS.split())}",
)
INET_SOCKET = "inet-socket"
# What the probe does in the open network: the deployed unit may do all but the last.
PEERS = ("127.0.0.1", "@abstract", "::1")
ATTEMPTS = (
    *(f"{kind}={peer}" for peer in PEERS for kind in ("stream", "datagram")),
    "connect=/run/systemd/journal/stdout",
    "netlink-socket",
)
NO_IPV6 = ("EAFNOSUPPORT", "EADDRNOTAVAIL")  # a host, or its unit, may have none
_ORDERS_OF_RUN = """
SELECT o.id, o.status, o.mode, k.price AS due, t.id AS trade, t.price, t.size, t.fee FROM orders o
JOIN ticks k ON k.id = o.id LEFT JOIN trades t ON t.order_id = o.id WHERE k.run_id > ? ORDER BY o.id LIMIT ?
"""


@dataclass(frozen=True, kw_only=True)
class SandboxNetwork:
    """What the unit's sandbox has of the network, by the probe in it. netns: its namespace; netns_of_host: process 1's.

    refused: what stood in the way of each attempt, "" for nothing; refused_before: the same before the fault.
    """

    interfaces: list[str]
    netns: str
    netns_of_host: str
    refused: dict[str, str]
    refused_before: dict[str, str]

    @property
    def apart(self) -> bool:
        return self.interfaces == ["lo"] and "" != self.netns != self.netns_of_host != ""


@dataclass(frozen=True, kw_only=True)
class ShadowWork:
    """Of the first orders after the fault: trades that they have, those filled, their modes.

    exact: trades at the tick's price and with the promised fee.
    """

    n: Count
    orders: Count
    trades: Count
    exact: Count
    filled: Count
    modes: list[str]
    restarts: Count
    active: str


@dataclass(frozen=True, kw_only=True)
class QuietWork(ShadowWork):
    """counted: counters of the network that grew during the orders, and by how much. sockets: those that are in it.

    children: those of the engine, and page faults of those that it waited for; below 0 where it ended.
    """

    counted: dict[str, int]
    sockets: list[str]
    children: int


def probe_output(entries: Sequence[Entry]) -> dict[str, Json]:
    """What the probe said last; empty when nothing."""
    lines = [entry.message for entry in entries if entry.message.startswith(sandbox_probe.MARK)]
    output: dict[str, Json] = json.loads(lines[-1].removeprefix(sandbox_probe.MARK)) if lines else {}
    return output


class Shadow(Case):
    """What both cases share: the probe in the sandbox before and after the fault, and the orders after it."""

    attempts: tuple[str, ...]
    settings: str
    least: int  # orders
    at_first: tuple[str, ...] = ()  # directives of the steady state
    fault_lines: tuple[str, ...]  # and those that are the fault

    def steady(self, subject: Subject) -> None:
        self.kept = list(subject.directives)
        subject.probe(*self.attempts)
        subject.directives += self.at_first
        subject.install()
        cursor = subject.unit.cursor()
        steady(subject, self.settings)
        self.before = subject.unit.journal(cursor)

    def inject(self, subject: Subject) -> None:
        self.run = int(subject.recorded().runs()[-1]["id"])
        self.old = subject.unit.state(quiet=False).restarts
        self.cursor = subject.unit.cursor()
        subject.directives += self.fault_lines
        subject.install()
        subject.restart(check=False)

    def witness(self, subject: Subject) -> SandboxNetwork:
        """How the attempts fare where the engine stands, and in which network that is."""
        host, unit = subject.host, subject.unit
        host.wait_for("the probe's word", 8, lambda: probe_output(unit.journal(self.cursor, quiet=True)))
        link = host.look("stat", "--format=%N", "/proc/1/ns/net").stdout
        return _network(self.before, unit.journal(self.cursor), link)

    def traced_witness(self, witness: SandboxNetwork, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(_network(trace.journal(0), trace.journal(1), trace.text("stat")))

    def work(self, subject: Subject) -> ShadowWork:
        def done() -> bool:
            enough = len(_orders(subject.store, self.run, self.least)) >= self.least
            return enough or subject.unit.state().restarts > self.old

        subject.host.poll("all orders, or a restart", WITHIN_S, done, every=0.1)
        orders = _orders(subject.recorded(), self.run, self.least)
        return _work(orders, subject.unit.state(quiet=False), self.old)

    def traced(self, measured: Any, trace: Trace) -> Mapping[str, Json | Between]:
        store = trace.store()
        orders = _orders(store, int(store.runs()[-1]["id"]), self.least)
        return figures_of(_work(orders, trace.state(-1), trace.state(0).restarts))

    def checks(self, measured: ShadowWork) -> tuple[Check, ...]:
        orders, trades, modes, filled = measured.orders, measured.trades, measured.modes, measured.filled
        return (
            Check(f"orders stored in {WITHIN_S:g} s", orders, f">= {self.least}", orders >= self.least, guard=True),
            Check("trades", trades, f"{filled}, each filled order's", 0 < trades == filled, True),
            equal("trades at the tick's price and fee", measured.exact, trades),
            Check("modes of the orders", modes, "SHADOW alone", set(modes) <= {"SHADOW"}),
            equal("restarts", measured.restarts, 0, guard=True),
            equal("state", measured.active, "active", guard=True),
        )

    def release(self, subject: Subject) -> None:
        subject.directives = self.kept


class Sealed(Shadow):
    name = "sealed"
    fault = "PrivateNetwork=yes and RestrictAddressFamilies=AF_UNIX: no interface but lo, no INET socket"
    attempts, settings, least, fault_lines = (INET_SOCKET,), _CONFIG, ORDERS, _SEALED

    def witnessed(self, witness: SandboxNetwork) -> bool:
        return witness.apart and bool(witness.refused.get(INET_SOCKET))

    def measure(self, subject: Subject) -> ShadowWork:
        return self.work(subject)

    def judge(self, measured: ShadowWork) -> Sequence[Check]:
        return self.checks(measured)


class Open(Shadow):
    name = "open"
    fault = f"a network of its own that is open ({', '.join(_OPEN)}), where whoever makes or uses a socket is killed"
    attempts, settings, least, at_first, fault_lines = ATTEMPTS, _QUICK, ORDERS_OPEN, _OPEN, _TRAP

    def witnessed(self, witness: SandboxNetwork) -> bool:
        """All connections got through before, and in the same sandbox each attempt was trapped."""
        before = witness.refused_before
        reached = all(
            before.get(words) == "" or (words.endswith("::1") and before.get(words) in NO_IPV6)
            for words in ATTEMPTS[:-1]
        )
        return witness.apart and reached and witness.refused == dict.fromkeys(ATTEMPTS, TRAPPED)

    def measure(self, subject: Subject) -> QuietWork:
        pid = subject.unit.state().pid
        first = network.look(subject.host, pid)
        work = self.work(subject)
        return QuietWork(**vars(work), **_traces(first, network.look(subject.host, pid)))

    def traced(self, measured: QuietWork, trace: Trace) -> Mapping[str, Json | Between]:
        first, last = map(trace.whole, trace.events("command", "grep", "-H"))
        return {**super().traced(measured, trace), **_traces(first, last)}

    def judge(self, measured: QuietWork) -> Sequence[Check]:
        return (
            *self.checks(measured),
            equal("what its network counted", measured.counted, {}, guard=True),
            equal("sockets in its network", measured.sockets, [], guard=True),
            equal("its children", measured.children, 0, guard=True),
        )


def _network(before: Sequence[Entry], after: Sequence[Entry], link: str) -> SandboxNetwork:
    """By what the probe said, and what stat printed of the link to the host's namespace."""
    first, last, of_host = probe_output(before), probe_output(after), re.search(r"-> '(.+)'", link)
    return SandboxNetwork(
        interfaces=last["interfaces"],
        netns=last["netns"],
        netns_of_host=of_host[1] if of_host else "",
        refused=last["refused"],
        refused_before=first.get("refused", {}),
    )


class Capped(Caps):
    """The risk caps, with the network that the unit is deployed with."""

    def steady(self, subject: Subject) -> None:
        subject.install()
        super().steady(subject)


def _orders(store: Store, run: int, most: int) -> list[dict[str, Json]]:
    """The first orders after that run."""
    try:
        return store.rows(_ORDERS_OF_RUN, (run, most))
    except sqlite3.OperationalError:
        return []


def _work(orders: Sequence[Mapping[str, Json]], now: State, restarts_before: int) -> ShadowWork:
    trades = [order for order in orders if order["trade"] is not None]
    fees = [abs(trade["fee"] - trade["price"] * trade["size"] * FEE) for trade in trades]
    return ShadowWork(
        n=1,
        orders=len(orders),
        trades=len(trades),
        exact=sum(one["price"] == one["due"] and fee < 1e-9 for one, fee in zip(trades, fees, strict=True)),
        filled=sum(order["status"] == "FILLED" for order in orders),
        modes=sorted({order["mode"] for order in orders}),
        restarts=now.restarts - restarts_before,
        active=now.active,
    )


def _traces(first: str, last: str) -> dict[str, Any]:
    """What of a QuietWork comes from two looks at the engine's network."""
    found = {"counted": network.growth(first, last), "sockets": network.sockets(last)}
    return {**found, "children": network.children(first, last)}


def headline(results: Sequence[Result]) -> str:
    parts = []
    for result, where in zip(results, ("without a network", "in an open one"), strict=False):
        measured = figures([result])
        orders, trades = measured.get(f"orders stored in {WITHIN_S:g} s", "?"), measured.get("trades", "?")
        parts.append(f"{where}: {orders} orders, {trades} trades")
    return "; ".join(parts)


PROOF = Proof(
    name="shadow",
    claim="shadow execution needs no network: with none the engine makes its orders and trades, an open one it leaves",
    bound=f">= {ORDERS} orders in {WITHIN_S:g} s without a network, {ORDERS_OPEN} in an open one, a trade of each that "
    f"was filled, no restart; no socket, no packet, no child; filled exactly where caps of {SYMBOL_CAP:g} and "
    f"{GROSS_CAP:g} allow it",
    fault="PrivateNetwork=yes and RestrictAddressFamilies=AF_UNIX; PrivateNetwork=yes where a socket's maker is killed;"
    " orders beyond the caps",
    seconds=18,
    notes="a probe that tries connections runs in the unit's sandbox before each start (ExecStartPre=); in the open "
    "network the unit is Type=exec, and its filter of system calls is one that kills whoever makes or uses a socket",
    cases=lambda deployed: [Sealed(deployed), Open(deployed), Capped(deployed)],
    on_copies=(Capped.name,),
    mutants=[
        patched("shadow/socket-for-each-order", Sealed.alone),
        patched("shadow/datagram-for-each-order", Open.alone),
        patched("shadow/connects-under-run", Open.alone),
        patched("shadow/runs-a-program", Open.alone),
    ],
    headline=headline,
)
