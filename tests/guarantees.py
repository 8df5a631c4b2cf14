"""Every promise and what holds it: `python -m tests.guarantees` writes `docs/guarantees.md` from the tests' marks.

A test says which promise it holds with `@pytest.mark.holds("G1")`; a proof is named here. A promise that no test holds
fails the build. What no proof can show is told by the faults of tests/mutations/.
"""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "guarantees.md"


class Promise(NamedTuple):
    text: str
    proofs: tuple[str, ...] = ()


# S, I and G are the numbers of the field's own specification; the words are ours.
PROMISES = {
    "S1": Promise("The database's PRAGMAs are set, read back and verified before READY", ("storage",)),
    "S6": Promise("Channels are bounded; a burst drops the oldest and is counted", ("overload",)),
    "S9": Promise("In SHADOW no order leaves the process: it makes no socket and has no child", ("shadow",)),
    "S13": Promise("A stop drains: everything admitted is stored, or the exit code says that it is not", ("stop",)),
    "I1": Promise(
        "Shadow execution makes no network call, of any family, where a network is open as where there is none",
        ("shadow",),
    ),
    "I2": Promise(
        "No cap on exposure or open orders is exceeded; an order that reduces exposure always passes", ("shadow",)
    ),
    "I6": Promise(
        "A locked or slow database never blocks ingest: it waits briefly, then drops ticks and counts them",
        ("overload",),
    ),
    "G0": Promise("SHADOW is the default"),
    "G1": Promise(
        "LIVE fails closed: it needs a signed, fresh proof of this release, configuration, unit and host",
        ("gate", "exit12"),
    ),
    "G2": Promise(
        "Pressure of the unit's own cgroup reduces the ticks step by step, and back when it is over", ("pressure",)
    ),
    "G3": Promise("A database whose PRAGMAs do not hold is refused with exit 14", ("storage",)),
    "G4": Promise("HEARTBEAT and FINAL METRICS carry every counter, as one JSON line", ("sampling",)),
    "G5": Promise(
        "Each exit code comes exactly when it is promised, after its own deadline",
        ("exit12", "network", "parse", "overload", "storage", "stop"),
    ),
    "ACCOUNTING": Promise(
        "received = sampled_out + rejected + duplicate + dropped + waiting + admitted, at any moment",
        ("sampling", "stop", "overload"),
    ),
    "CHAINS": Promise(
        "No transaction ends inside a chain: no order without its signal and tick, whenever the process dies",
        ("crash",),
    ),
    "SAMPLING": Promise(
        "sample_every = N keeps exactly each Nth trade of a symbol, across reconnects and reloads", ("sampling",)
    ),
    "FAILOVER": Promise("The next source takes over, and what was missed meanwhile is in gaps", ("failover",)),
    "QUIET": Promise("A quiet market is not a fault"),
    "STALE": Promise(
        "A source that answers but does not trade, while another source of the symbol does, is left", ("failover",)
    ),
    "STANDBY": Promise(
        "A hot standby takes over without connecting, with every trade since the active source's last one",
        ("failover",),
    ),
    "FAILBACK": Promise("A better source takes over again once it is proven; one that flaps is tried ever more rarely"),
    "MOVES": Promise(
        "A connection that the exchange is about to close is replaced before, without loss or repetition", ("failover",)
    ),
    "PACE": Promise("No source is connected to more than 12 times in any minute, or before its Retry-After"),
    "USE": Promise(
        "Only trades and acknowledgements make a source one of use, and a refused symbol leaves the others recorded",
        ("network", "parse"),
    ),
    "FILL": Promise(
        "What an exchange repeats of its own accord after a reconnect is taken where it was missed, and marked"
    ),
    "IDENTITY": Promise(
        "A trade is repeated only where all that is told of it is the same: numbers that begin anew are new"
    ),
    "UNFED": Promise("A symbol that its source never trades, or refuses, is told of once and named by health"),
    "MISSED": Promise(
        "What an exchange's sequence numbers leave out is in gaps, exactly, and nothing else is", ("sampling",)
    ),
    "WATCHDOG": Promise(
        "A stuck thread is seen by systemd and the process killed with its stacks; a busy engine is not", ("stall",)
    ),
    "REPLAY": Promise("Replaying a run gives the same signals, orders and trades, byte for byte", ("sampling",)),
    "RETENTION": Promise(
        "Rows older than retention_days are deleted, whole chains and nothing else; 0 keeps everything",
        ("storage",),
    ),
    "GROWTH": Promise("Starts, commits and health cost the same however much is stored"),
    "RELOAD": Promise("A reload under load loses no tick and takes effect at the trade that it logs", ("sampling",)),
    "MEMORY": Promise("Memory for a source and a symbol is bounded, whatever an exchange sends"),
    "CONFIG12": Promise(
        "Any configuration is valid, or exit 12 with one line that names file, key, found and allowed", ("exit12",)
    ),
    "BYTES": Promise(
        "No bytes from an exchange end the engine or make it store what was not sent",
        ("sampling", "stop", "failover", "parse"),
    ),
    "LAYERS": Promise("The pipeline is one-way, and a module imports only lower layers"),
    "OUTSIDE": Promise("Proofs know the engine only as an operator does"),
    "DEPLOY": Promise("A deploy is atomic: what fails its gate leaves the old release running"),
    "IDEMPOTENT": Promise(
        "A second deploy changes nothing; after an altered byte the next restores exactly that file", ("drift",)
    ),
    "DRIFT": Promise("What is changed on a host by hand is named by verify and healed by deploy", ("drift",)),
    "HISTORY": Promise(
        "Every deployment, rollback and restore is a line on the host: who, when, what and how it ended"
    ),
    "REBOOT": Promise("After a boot the engine stores ticks within 10 s, and its accounting continues", ("crash",)),
    "UNINSTALL": Promise(
        "An uninstall leaves nothing but the data; the data go too when asked twice, by the host's name"
    ),
    "ADOPTION": Promise(
        "A service of somebody else is taken over only when asked, and comes back byte for byte", ("adoption",)
    ),
    "SANDBOX": Promise(
        "The engine's limits and its sandbox are those of its drop-ins and no wider, as declared and as in force",
        ("hardening",),
    ),
    "ROLLBACK": Promise(
        "A drop-in is restored byte for byte; its rollback is remembered until it is restored by name", ("rollback",)
    ),
    "RESTORED": Promise("A proof leaves the host as it was, also when it is killed"),
    "MUTANTS": Promise("A proof can fail: without its guard it says FAIL, or it is void"),
    "RECORDER": Promise(
        "The flight recorder is bounded by days and size; a torn line or a full disk costs old records, not new ones"
    ),
    "EVIDENCE": Promise("Edited, cut, reordered or spliced evidence is refused; verdicts are computed again"),
}


def held() -> dict[str, list[str]]:
    """Promise -> the tests that are marked as holding it, as file::test below tests/."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, promise in _marks(ast.parse(path.read_text())):
            found[promise].append(f"{path.relative_to(TESTS)}::{name}")
    return found


def _marks(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.holds":
                yield from ((node.name, ast.literal_eval(argument)) for argument in decorator.args)


def shipped_proofs() -> set[str]:
    """Names of the catalogue's proofs."""
    from proofs.catalog import PROOFS

    return set(PROOFS)


def unseen(promise: str) -> str:
    """Of the faults that break a promise: how many no proof can show, by the reason. "-" without one."""
    from tests.mutations.table import FAULTS

    faults = [fault for fault in FAULTS if fault.promise == promise]
    reasons = Counter(fault.unseen for fault in faults if fault.unseen)
    return "<br>".join(f"{number} of {len(faults)} faults: {why}" for why, number in reasons.items()) or "-"


def page() -> str:
    """The page as it must be. Raises ValueError for a promise whose proof does not exist."""
    tests, shipped = held(), shipped_proofs()
    missing = {proof for promise in PROMISES.values() for proof in promise.proofs} - shipped
    if missing:
        raise ValueError(f"no proof is called {', '.join(sorted(missing))}")
    lines = [
        "# Guarantees",
        "",
        "Every promise, the tests that hold it, and the proof that shows it on a host. Written by",
        "`python -m tests.guarantees` from the marks in the tests; a promise without a test fails the build.",
        "",
        "`make mutation` puts faults into the product, and says what catches them. The last column",
        "tells how many of a promise's faults no proof can show on a host, and why.",
        "",
        "| promise | what is promised | tests | proof | what no proof can show |",
        "|---|---|---|---|---|",
    ]
    for name, promise in PROMISES.items():
        named = "<br>".join(f"`{test}`" for test in tests[name])
        proofs = ", ".join(promise.proofs) or "-"
        lines.append(f"| {name} | {promise.text} | {named} | {proofs} | {unseen(name)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
