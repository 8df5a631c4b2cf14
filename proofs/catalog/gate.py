"""gate: LIVE is refused for each reason that a host can show, stays down, and opens only for a bundle that holds."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from proofs.catalog._checks import at_least, equal
from proofs.catalog._live_fixture import LiveFixture
from proofs.catalog._steady import UP_S
from proofs.catalog.mutations import patched
from proofs.catalog.names import ANYWHERE
from proofs.evidence import unit_parts
from proofs.evidence.json_diff import differences
from proofs.experiment.case import Case, Deployed, NotSteady, Proof
from proofs.experiment.measurements import Count, Invocation, Seconds, Sha256, figures_of
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store
from proofs.host.unit import Entry, State, exits, starts
from proofs.verdict import Check, Json, Result

_RESTART = "a restart"
OPEN = "the gate is open, but no live adapter installed"
Spoil = Callable[[LiveFixture], object]


@dataclass(frozen=True)
class Way:
    """One way to be refused. seen: what shows on the disk that it is so; holds: whether its signature is sound.

    spoil: changes the fixture or its statement before the signing; `after` of the fixture is called after it.
    """

    name: str
    reason: str
    spoil: Spoil
    seen: Callable[[LiveFixture], Json]
    holds: bool = True


def _statement(fixture: LiveFixture) -> Json:
    """Where the statement on the disk is not the sound one."""
    return differences(fixture.sound, fixture.on_disk())


def _config(*lines: str) -> Callable[[LiveFixture], Json]:
    return lambda fixture: [
        line for line in (fixture.subject.etc / "config.toml").read_text().splitlines() if line in lines
    ]


def _set(**attributes: Json) -> Spoil:
    return lambda fixture: vars(fixture).update(attributes)


def _edit(fixture: LiveFixture) -> None:
    path = fixture.bundle / "statement.json"
    path.write_text(path.read_text().replace("this host", "that host"))


def _age(fixture: LiveFixture) -> None:
    fixture.predicate["finished"] = (datetime.now(UTC) - timedelta(hours=169)).isoformat()


def _date(fixture: LiveFixture) -> None:
    fixture.predicate["finished"] = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def _repeat_stall(fixture: LiveFixture) -> None:
    fixture.predicate["proofs"].append(fixture.proof("stall"))


def _open_signers(fixture: LiveFixture) -> None:
    fixture.after = lambda after: after.signers.chmod(0o666)


def _signers_mode(fixture: LiveFixture) -> Json:
    mode = fixture.signers.stat().st_mode & 0o777
    return mode & 0o022 and f"mode {mode:o}"


def _of_stall(**entry: Json) -> Spoil:
    return lambda fixture: fixture.proof("stall").update(entry)


def _without_path(fixture: LiveFixture) -> None:
    """A proof of a process that had one variable less."""
    parts = [part for part in fixture.predicate["unit_parts"] if not part.endswith(f" {unit_parts.ENVIRONMENT} PATH")]
    fixture.predicate["unit_parts"] = parts
    fixture.statement["subject"][2]["digest"]["sha256"] = unit_parts.digest(parts)


def _leave_out_all(fixture: LiveFixture) -> None:
    """What the statement says that it requires is not what the engine requires."""
    fixture.predicate["proofs"].clear()
    fixture.predicate["required"].clear()


def _signer(fixture: LiveFixture) -> Json:
    return fixture.key != "operator" and f"signed by the {fixture.key}"


@dataclass(frozen=True)
class LiveConfig:
    """seen: what shows that the configuration or the bundle is as the case has it."""

    invocation: Invocation
    seen: str | list[str]
    signature_holds: bool
    config_sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """said: the engine's reason. ready, runs: how often it was ready, and runs that it began, which is none. ended: how
    its process ended, by the journal. watched_s: 0 where it was not to be, or did not stay down."""

    n: Count
    exec_main_status: Count
    active: str
    starts: Count
    said: str
    ready: Count
    runs: Count
    ended: int | None
    watched_s: Seconds


WAYS = (
    Way("unarmed", "live_armed is false", _set(armed=False), _config("live_armed = false")),
    Way("no bundle", "names no directory", _set(named=""), _config('proof_bundle = ""')),
    Way(
        "no signature",
        "statement.sig cannot be read",
        _set(after=lambda fixture: (fixture.bundle / "statement.sig").unlink()),
        lambda fixture: not (fixture.bundle / "statement.sig").exists() and "no statement.sig",
        False,
    ),
    Way("a stranger's signature", "made by nobody", _set(key="stranger"), _signer, False),
    Way(
        "signed for another purpose",
        "the signature does not hold",
        _set(namespace="git"),
        lambda fixture: fixture.namespace == "git" and "signed in the namespace git",
        False,
    ),
    Way("signers that others may write", "can be written by others", _open_signers, _signers_mode),
    Way(
        "another type of statement",
        "of another type",
        lambda fixture: fixture.statement.update(predicateType="urn:another:v1"),
        _statement,
    ),
    Way("edited after signing", "the signature does not hold", _set(after=_edit), _statement, False),
    Way(
        "another release",
        "of another release",
        lambda fixture: fixture.statement["subject"][0]["digest"].update(sha256="b" * 64),
        _statement,
    ),
    Way(
        "prices of no exchange",
        "engine.ingest_mode = SYNTHETIC has no prices of an exchange",
        _set(ingest_mode="SYNTHETIC"),
        _config('ingest_mode = "SYNTHETIC"'),
    ),
    Way(
        "a guarantee made void",
        "a setting makes a guarantee void, G5: engine.network_deadline_s = 86400",
        _set(more="network_deadline_s = 86400\n"),
        _config("network_deadline_s = 86400"),
    ),
    Way("a drop-in masked", "of another unit than this one: ", _set(masks=True), lambda fixture: fixture.masked),
    Way("a variable more", "of another unit than this one: environment PATH is new", _without_path, _statement),
    Way("another configuration", "of another configuration", _set(tick_ms="21"), _config("tick_interval_ms = 21")),
    Way(
        "another host",
        "of another host",
        lambda fixture: fixture.predicate["host"].update(machine_id="0" * 32),
        _statement,
    ),
    Way("too old", "h old", _age, _statement),
    Way("from the future", "from the future", _date, _statement),
    Way(
        "a run that is no PASS",
        "the run as a whole says INCONCLUSIVE",
        lambda fixture: fixture.predicate.update(verdict="INCONCLUSIVE"),
        _statement,
    ),
    Way("a proof twice", "a proof is there twice", _repeat_stall, _statement),
    Way("a host not restored", "stall did not put the host back", _of_stall(restored=False), _statement),
    Way(
        "a mutant not caught", "stall is void: its mutant says PASS", _of_stall(mutant={"verdict": "PASS"}), _statement
    ),
    Way("no required proof run", f"not run: {', '.join(ANYWHERE)}", _leave_out_all, _statement),
    Way(
        "a required proof not PASS",
        "stall is required and says INCONCLUSIVE",
        lambda fixture: fixture.proof("stall").update(verdict="INCONCLUSIVE"),
        _statement,
    ),
)
_SOUND = Way("nothing is wrong", OPEN, _set(), lambda fixture: "" if _statement(fixture) else "sound")


class Live(Case):
    """One LIVE configuration: the engine must end with 12 for its own reason, without having begun a run."""

    def __init__(self, deployed: Deployed, way: Way, watch_s: float = 0.0) -> None:
        super().__init__(deployed)
        self.name, self.fault = way.name, f"LIVE, armed and proven, but: {way.name}"
        self._way, self._watch_s = way, watch_s

    def steady(self, subject: Subject) -> None:
        if not Path("/usr/bin/ssh-keygen").is_file():
            raise NotSteady("ssh-keygen (Debian: openssh-client) is not installed; LIVE is refused without it")
        self._fixture = LiveFixture(subject)
        self._fixture.await_steady()
        self._fixture.make_keys()
        self._fixture.good(subject.store.runs()[-1])

    def inject(self, subject: Subject) -> None:
        self._runs, self._before = _runs(subject.recorded()), subject.unit.state().invocation
        self._way.spoil(self._fixture)
        self._fixture.write()
        self._cursor = subject.unit.cursor()
        subject.restart(check=False)

    def release(self, subject: Subject) -> None:
        if hasattr(self, "_fixture"):
            self._fixture.put_back()

    def witness(self, subject: Subject) -> LiveConfig | None:
        """The process began anew on a configuration and a bundle that are what the case says of them."""
        invocation = subject.unit.state(quiet=False).invocation
        text = (subject.etc / "config.toml").read_bytes()
        if invocation == self._before or b'mode = "LIVE"' not in text:
            return None
        digest = hashlib.sha256(text).hexdigest()
        return LiveConfig(invocation, self._way.seen(self._fixture) or "", self._fixture.holds(), digest)

    def traced_witness(self, witness: LiveConfig, trace: Trace) -> Mapping[str, Json | Between]:
        digest = hashlib.sha256(trace.written("config.toml").encode()).hexdigest()
        return {"invocation": trace.shown(-3)["InvocationID"], "config_sha256": digest}

    def witnessed(self, witness: LiveConfig) -> bool:
        return witness.signature_holds is self._way.holds and bool(witness.seen)

    def measure(self, subject: Subject) -> Refusal:
        unit, host = subject.unit, subject.host
        host.poll("its end", UP_S, lambda: unit.state().active == "failed", every=0.05)
        at_end, watched_s = unit.state(quiet=False), 0.0
        if self._watch_s:
            host.note("measuring", {"watching for a restart for seconds": self._watch_s})
            stayed = host.assert_never(_RESTART, self._watch_s, lambda: unit.state().active != "failed")
            watched_s = self._watch_s if stayed else 0.0
        last, entries = unit.state(quiet=False), unit.journal(self._cursor)
        return _refusal(at_end, last, entries, _runs(subject.recorded()) - self._runs, watched_s)

    def traced(self, measured: Refusal, trace: Trace) -> Mapping[str, Json | Between]:
        entries, watched_s = trace.journal(), 0.0
        runs = _runs(trace.store(-1)) - _runs(trace.store(0))
        if self._watch_s:
            wait = trace.waits(_RESTART)[-1]["data"]
            watched_s = self._watch_s if wait["came"] is False and wait["seconds"] >= self._watch_s else 0.0
        refusal = _refusal(trace.state(-2), trace.state(-1), entries, runs, watched_s)
        return figures_of(refusal)

    def judge(self, measured: Refusal) -> Sequence[Check]:
        reason = self._way.reason
        return (
            equal("ExecMainStatus", measured.exec_main_status, 12),
            equal("state", measured.active, "failed"),
            equal("starts", measured.starts, 1),
            equal("runs begun", measured.runs + measured.ready, 0, guard=True),
            Check("said", measured.said, f"... {reason}", reason in measured.said, guard=True),
            equal("ended with", measured.ended, 12),
            at_least("seconds watched", measured.watched_s, self._watch_s),
        )


def _refusal(at_end: State, last: State, entries: Sequence[Entry], runs: int, watched_s: float) -> Refusal:
    """What it said is why LIVE was refused, by its last line on it."""
    lines = [str(entry.fields().get("message", "")) for entry in entries]
    reasons = [line.partition("mode = LIVE: ")[2] for line in lines if "mode = LIVE: " in line]
    ends = [status for _, status in exits(entries)]
    return Refusal(
        n=1,
        exec_main_status=at_end.exec_status,
        active=last.active,
        starts=len(starts(entries)),
        said=(reasons or [""])[-1][:300],
        ready=lines.count("ready"),
        runs=runs,
        ended=ends[-1] if ends else None,
        watched_s=watched_s,
    )


def _runs(store: Store) -> int:
    return len(store.rows("SELECT id FROM runs"))


def refused(*names: str) -> Callable[[Deployed], Sequence[Live]]:
    """The cases of these ways to be refused."""
    return lambda deployed: [Live(deployed, way) for way in WAYS if way.name in names]


def headline(results: Sequence[Result]) -> str:
    passed = [result for result in results if result.verdict == "PASS"]
    opened = any(result.case == "nothing is wrong" for result in passed)
    return f"{len(passed) - opened} of {len(WAYS)} refused for their own reason; opened for a sound bundle: " + (
        "yes" if opened else "no"
    )


PROOF = Proof(
    name="gate",
    claim="LIVE is refused, each time for its own reason, and opens only for a bundle that holds; no order leaves",
    bound="each ends with 12 and its reason, failed, one start, no run begun; the last, a sound bundle, is watched for "
    "3 x RestartSec: 12, no live adapter installed",
    fault=", ".join(way.name for way in WAYS) + "; control: a bundle that holds",
    seconds=35,
    notes="keys, signers and bundle are scratch, signed on this host: they open nothing but the scratch configuration",
    cases=lambda deployed: [
        *(Live(deployed, way) for way in WAYS),
        Live(deployed, _SOUND, watch_s=3 * deployed.restart_s),
    ],
    mutants=[
        patched("gate/signed-by-anyone", refused("a stranger's signature")),
        patched("gate/of-any-verdict", refused("a required proof not PASS")),
        patched("gate/of-any-unit", refused("a drop-in masked")),
    ],
    headline=headline,
    host_word={
        "witness.seen": "how the proof's own look at the bundle and the configuration found them",
        "witness.signature_holds": "the proof's own check of the signature",
    },
)
