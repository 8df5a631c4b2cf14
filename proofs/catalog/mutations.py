"""How mutants take a guard out, and every text of the engine that one replaces: a rename in it is followed here alone.

A quick test says that each text occurs exactly once in its file.
"""

from typing import NamedTuple

from proofs.experiment.case import Cases, Mutant
from proofs.experiment.subject import Changes


class Mutation(NamedTuple):
    """What a mutant is: in `file` of the engine, `old` becomes `new`."""

    what: str
    file: str
    old: str
    new: str


_TIME = '__import__("time")'
_COMMIT_BEFORE_SIGNALS = f'self._con.execute("COMMIT"); {_TIME}.sleep(0.1); self._con.execute("BEGIN IMMEDIATE"); '
_SOCKET = '__import__("socket").socket'
_SEND_DATAGRAM = f"""
        try:
            {_SOCKET}(1, 2).sendto(b"order", "\\0orders")  # AF_UNIX, SOCK_DGRAM
        except OSError:
            pass"""
_CONNECT_UNDER_RUN = f"""
        try:
            {_SOCKET}(1, 1).connect("/run/systemd/journal/stdout")
        except OSError:
            pass"""
_RUN_PROGRAM = """
        if self._counters.orders % 50 == 0:
            __import__("os").system("true")"""
_OPEN_INET_SOCKET = '__import__("socket").socket(2, 1).close()  # AF_INET, SOCK_STREAM\n        '

MUTATIONS = {
    "sampling/off-by-one": Mutation(
        "a sampler that starts counting at 0",
        "stages/admission.py",
        "skip = every - 1 - position % every",
        "skip = -position % every",
    ),
    "sampling/gaps-of-one": Mutation(
        "an engine that takes whatever is missing for one trade",
        "ingest/delivery.py",
        "if missed := gap.count:",
        "if missed := min(1, gap.count):",
    ),
    "sampling/counts-on": Mutation(
        "a reload after which the sampling counts on",
        "stages/admission.py",
        "self._sample_positions.clear()",
        "self._sample_positions.copy()",
    ),
    "sampling/replays-in-another-order": Mutation(
        "a replay in the order of receipt alone",
        "storage/store.py",
        "WHERE run_id = ? ORDER BY id",
        "WHERE run_id = ? ORDER BY received_ms, -id",
    ),
    "failover/keeps-nothing": Mutation(
        "a standby whose trades are not kept",
        "ingest/session.py",
        "len(self._standby_trades) >= MAX_KEPT_SYMBOLS:",
        "len(self._standby_trades) >= 0:",
    ),
    "failover/takes-both": Mutation(
        "a move that takes every trade of the new connection",
        "ingest/delivery.py",
        "new, _ = source.moved_trades.split(trades, 0.0)",
        "new = trades",
    ),
    "network/life-is-use": Mutation(
        "an engine that takes any frame for a sign of use",
        "ingest/subscription.py",
        "if self.may_be_quiet and now - self._opened_at >= STANDING_S:",
        "if self.may_be_quiet:",
    ),
    "parse/ignores-garbage": Mutation(
        "frames that do not decode are never held against their source",
        "ingest/session.py",
        "self.errors_in_a_row += 1",
        "self.errors_in_a_row += 0",
    ),
    "parse/deaf": Mutation(
        "what an exchange complains of is not told",
        "ingest/delivery.py",
        'self._complaint_limiter.warn("the exchange complains", source=source.name, reason=refusal.text)',
        "pass",
    ),
    "storage/swallows-errors": Mutation(
        "a writer that goes on as if what failed had been written",
        "stages/persist.py",
        "except StorageError as error:\n                self._counters.persist_errors += 1",
        "except StorageError as error:\n                break\n                self._counters.persist_errors += 1",
    ),
    "storage/unsynced": Mutation(
        "a connection that is verified first and then told to sync nothing",
        "storage/database.py",
        'con.execute(f"PRAGMA busy_timeout = {TRY_MS}")',
        'con.execute(f"PRAGMA busy_timeout = {TRY_MS}"); con.execute("PRAGMA synchronous = 0")',
    ),
    "storage/any-database": Mutation(
        "a start that takes any database for its own",
        "storage/schema.py",
        "if application_id != APPLICATION_ID:",
        "if application_id not in (0, APPLICATION_ID):",
    ),
    "storage/one-more": Mutation(
        "a retention that deletes one chain more than is too old",
        "storage/retention.py",
        "ends = old[0][0], old[-1][0]\n",
        "ends = old[0][0], old[-1][0] + 1\n",
    ),
    "overload/uncounted": Mutation(
        "an admission that drops without counting",
        "stages/admission.py",
        'self._counters.dropped += 1\n        self._gaps.add_loss("dropped"',
        'self._counters.dropped += 0\n        self._gaps.add_loss("dropped"',
    ),
    "overload/never-13": Mutation(
        "an engine that never calls itself overloaded",
        "engine.py",
        "limit_s = self._config.settings.engine.overload_after_s",
        'limit_s = float("inf")',
    ),
    # A commit between the rows of a chain is met by a kill for certain only if it lasts: so it does.
    "crash/half-chains": Mutation(
        "a writer that commits ticks 0.1 s before what they caused",
        "storage/store.py",
        'signals = "signals (',
        f'{_COMMIT_BEFORE_SIGNALS}signals = "signals (',
    ),
    "crash/no-gap": Mutation(
        "a start that says nothing of the crash before it",
        "storage/store.py",
        "VALUES (?, 'crash', '', '', ?, ?)",
        "SELECT ?, 'crash', '', '', ?, ? WHERE 0",
    ),
    "gate/signed-by-anyone": Mutation(
        "the signature is not looked at",
        "live_gate.py",
        '    _check_signature(body, bundle / "statement.sig", config.path.parent / "allowed_signers")\n',
        "",
    ),
    "gate/of-any-verdict": Mutation(
        "what a required proof says is not looked at", "live_gate.py", 'if proof["verdict"] != "PASS":', "if False:"
    ),
    "gate/of-any-unit": Mutation(
        "the unit that it runs in is not looked at",
        "live_gate.py",
        'if unit.digest(parts) != statement["subject"][2]["digest"]["sha256"]:',
        "if False:",
    ),
    "shadow/socket-for-each-order": Mutation(
        "an execution that opens an INET socket for each order",
        "stages/execution.py",
        "self._counters.orders += 1",
        f"{_OPEN_INET_SOCKET}self._counters.orders += 1",
    ),
    "shadow/datagram-for-each-order": Mutation(
        "an execution that tells each order to whoever listens at an abstract address",
        "stages/execution.py",
        "self._counters.risk_vetoes += veto",
        f"self._counters.risk_vetoes += veto{_SEND_DATAGRAM}",
    ),
    "shadow/connects-under-run": Mutation(
        "an execution that connects to a socket under /run for each order that is filled",
        "stages/execution.py",
        "self._limiter.apply_fill(symbol, side, size)",
        f"self._limiter.apply_fill(symbol, side, size){_CONNECT_UNDER_RUN}",
    ),
    "shadow/runs-a-program": Mutation(
        "an execution that runs a program at each 50th order",
        "stages/execution.py",
        "self._counters.trade_count += 1",
        f"self._counters.trade_count += 1{_RUN_PROGRAM}",
    ),
    "pressure/latched": Mutation(
        "a ladder that only goes up, as the first system's did",
        "pressure.py",
        "if lasted_s >= engine.psi_calm_s:",
        'if lasted_s >= float("inf"):',
    ),
    "stall/blind-pinger": Mutation(
        "a pinger that pings whatever the stages do",
        "engine.py",
        "stuck_stages = pipeline.stuck_stages",
        "stuck_stages: list[str] = []",
    ),
    "stall/blind-to-execution": Mutation(
        "a pinger that does not look at one of the stages",
        "pipeline.py",
        "for stage in self.stages if stage.stuck]",
        'for stage in self.stages if stage.stuck and stage.name != "execution"]',
    ),
    "stop/no-drain": Mutation(
        "an engine that does not drain the pipeline before it ends",
        "engine.py",
        "unstored = pipeline.drain(lambda: self._ping(pipeline))",
        "unstored = None",
    ),
}  # by "proof/mutant"


# The gate refuses a release with an altered file, so that a mutant of the gate would be caught whatever it leaves out.
# Each takes this check out as well.
RELEASE_CHECK = ("if difference := release_difference(release_home()):", "if difference := str():")


def patched(name: str, cases: Cases) -> Mutant:
    """The mutant of that mutation. Its `make` raises CannotMutate where the text is not in the release."""
    mutation = MUTATIONS[name]

    def make(unit: Changes) -> None:
        unit.patch(mutation.old, mutation.new)
        if mutation.file == "live_gate.py":
            unit.patch(*RELEASE_CHECK)

    return Mutant(name.partition("/")[2], mutation.what, cases, make)


def with_directives(name: str, what: str, cases: Cases, *lines: str) -> Mutant:
    """A mutant that sets these directives of [Service] as well, or the one that `what` is."""
    return Mutant(name, what, cases, lambda unit: unit.directives.extend(lines or (what,)))


def emptied(name: str, what: str, cases: Cases, drop_in: str) -> Mutant:
    """A mutant with nothing in the place of a deployed drop-in."""
    return Mutant(name, what, cases, lambda unit: unit.instead.update({drop_in: "# nothing\n"}))
