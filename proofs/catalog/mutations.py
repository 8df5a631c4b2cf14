"""How mutants take a guard out, and every text of the engine that one replaces: a rename in it is followed here alone.

A quick test says that each text occurs exactly once in its file. `former` keeps the texts of earlier releases: a bundle
that was recorded with one of them still verifies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from proofs.experiment.subject import Changes

Make = Callable[[Changes], None]  # takes the guard out of a copy of the unit


class Mutation(NamedTuple):
    """In `file` of the engine, `old` becomes `new`; `former`: the pairs (old, new) of earlier releases."""

    file: str
    old: str
    new: str
    former: tuple[tuple[str, str], ...] = ()


_TIME = '__import__("time")'
_COMMIT_BEFORE_SIGNALS = f'self._con.execute("COMMIT"); {_TIME}.sleep(0.1); self._con.execute("BEGIN IMMEDIATE"); '
_OPEN_INET_SOCKET = '__import__("socket").socket(2, 1).close()  # AF_INET, SOCK_STREAM\n        '

MUTATIONS = {
    "sampling/off-by-one": Mutation(
        "stages/admission.py",
        "skip = every - 1 - position % every",
        "skip = -position % every",
        former=(("skipped = every - 1 - seen % every", "skipped = -seen % every"),),
    ),
    "parse/ignores-garbage": Mutation("ingest/session.py", "self.errors_in_a_row += 1", "self.errors_in_a_row += 0"),
    "storage/swallows-errors": Mutation(
        "stages/persist.py",
        "except StorageError as error:\n                self._counters.persist_errors += 1",
        "except StorageError as error:\n                break\n                self._counters.persist_errors += 1",
    ),
    "overload/uncounted": Mutation(
        "stages/admission.py",
        'self._counters.dropped += 1\n        self._gaps.add_loss("dropped"',
        'self._counters.dropped += 0\n        self._gaps.add_loss("dropped"',
        former=(
            (
                'self._books.dropped += 1\n        self._gaps.lose("dropped"',
                'self._books.dropped += 0\n        self._gaps.lose("dropped"',
            ),
        ),
    ),
    "overload/never-13": Mutation(
        "engine.py", "limit_s = self._config.settings.engine.overload_after_s", 'limit_s = float("inf")'
    ),
    "crash/half-chains": Mutation(
        "storage/store.py",
        'signals = "signals (',
        f'{_COMMIT_BEFORE_SIGNALS}signals = "signals (',
        former=(
            (
                'signals = "signals (',
                f'{_COMMIT_BEFORE_SIGNALS.replace(_TIME, "time")}signals = "signals (',
            ),
        ),
    ),
    "crash/no-gap": Mutation(
        "storage/store.py", "VALUES (?, 'crash', '', '', ?, ?)", "SELECT ?, 'crash', '', '', ?, ? WHERE 0"
    ),
    "gate/signed-by-anyone": Mutation(
        "live_gate.py",
        '    _check_signature(body, bundle / "statement.sig", config.path.parent / "allowed_signers")\n',
        "",
    ),
    "gate/of-any-verdict": Mutation("live_gate.py", 'if proof["verdict"] != "PASS":', "if False:"),
    "shadow/socket-for-each-order": Mutation(
        "stages/execution.py", "self._counters.orders += 1", f"{_OPEN_INET_SOCKET}self._counters.orders += 1"
    ),
    "pressure/latched": Mutation("pressure.py", "if lasted_s >= engine.psi_calm_s:", 'if lasted_s >= float("inf"):'),
    "stall/blind-pinger": Mutation(
        "engine.py",
        "stuck_stages = pipeline.stuck_stages",
        "stuck_stages: list[str] = []",
        former=(("stuck = street.stuck", "stuck: list[str] = []"),),
    ),
    "stop/no-drain": Mutation(
        "engine.py",
        "unstored = pipeline.drain(lambda: self._ping(pipeline))",
        "unstored = None",
        former=(("unstored = street.drain(lambda: self._ping(street))", "unstored = None"),),
    ),
}  # by "proof/mutant"


def patched(name: str) -> Make:
    """Replace the text of that mutation in the copy's engine. Raises CannotMutate where it does not fit."""
    mutation = MUTATIONS[name]
    return lambda unit: unit.patch(mutation.old, mutation.new)


def with_directives(*lines: str) -> Make:
    """Set these directives of [Service] as well."""
    return lambda unit: unit.directives.extend(lines)


def emptied(drop_in: str) -> Make:
    """Put nothing in the place of a deployed drop-in."""
    return lambda unit: unit.instead.update({drop_in: "# nothing\n"})


def latest(old: str, new: str) -> tuple[str, str]:
    """The pair that a recorded one is today: itself, unless an earlier release had another text for it."""
    for mutation in MUTATIONS.values():
        if (old, new) in mutation.former:
            return mutation.old, mutation.new
    return old, new
