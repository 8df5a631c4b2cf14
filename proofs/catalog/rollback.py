"""rollback: each drop-in is what its behaviour hangs on: out of force it is gone, put back it is there, to the byte."""

import hashlib
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proofs.catalog._checks import equal
from proofs.catalog._steady import UP_S, steady
from proofs.catalog.mutations import emptied
from proofs.evidence.redaction import MARK
from proofs.experiment.case import Case, Deployed, Mutant, NotSteady, Proof
from proofs.experiment.measurements import Count, Invocation, Row, Sha256, encode
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.unit import State, values_of
from proofs.verdict import Check, Json, Result

_NOTHING = Path("/dev/null")
PROOF_CONF = "zz-proof.conf"
# What each drop-in has to change in the running process, by name of what `behaviour` reads. A quick test compares this
# and NOT_ROLLED_BACK with the role's drop-ins and with templates/systemd.
CHANGES = {
    "20-resources.conf": ("nice", "open files"),
    "30-restart.conf": ("after SIGKILL",),
    "40-hardening.conf": ("NoNewPrivs", "CapBnd", "Seccomp_filters"),
    "50-watchdog.conf": ("WATCHDOG_USEC",),
}
# These have no case of their own; `Installed` takes every drop-in of the host, and so these as well.
NOT_ROLLED_BACK = {"25-cpus.conf": "it is there only where engine_cpus is set, and changes speed, not behaviour"}

# What systemd shows of these does not change while the unit runs; each has a case of its own above, with restarts.
SHOWN_AT_START = {"50-watchdog.conf": "WatchdogUSec is that of the unit's start"}


# What is read of the running process, by grep of its files in /proc.
_LOOKS = {
    "20-resources.conf": ("-E", "^Max open files|^[0-9]+ \\(", "/proc/{}/stat", "/proc/{}/limits"),
    "40-hardening.conf": ("-E", f"^({'|'.join(CHANGES['40-hardening.conf'])}):", "/proc/{}/status"),
    "50-watchdog.conf": ("-zaoE", "^WATCHDOG_USEC=[0-9]+", "/proc/{}/environ"),
}


def look(subject: Subject, drop_in: str) -> Row:
    """What the drop-in is there to set, read off the running process; of 30-restart.conf, off what comes of its end."""
    pid = subject.unit.state().pid
    if drop_in in _LOOKS:
        argv = [word.format(pid) if word.startswith("/proc") else word for word in _LOOKS[drop_in]]
        return behaviour(drop_in, subject.host.look("grep", *argv).stdout)
    subject.host.send_signal(pid, signal.SIGKILL)
    subject.host.poll("what comes after", 5, lambda: _after_kill(subject.unit.state(), pid), every=0.05)
    return {"after SIGKILL": _after_kill(subject.unit.state(quiet=False), pid)}


def behaviour(drop_in: str, output: str) -> Row:
    """The same by what grep printed; of what is not there, None."""
    if drop_in == "20-resources.conf":
        nice = re.search(r"^(?:\S+/stat:)?\d+ \(.*\) \S(?: \S+){15} (-?\d+)", output, re.M)
        files = re.search(r"^(?:\S+/limits:)?Max open files +(\d+)", output, re.M)
        return {"nice": int(nice[1]) if nice else None, "open files": int(files[1]) if files else None}
    if drop_in == "40-hardening.conf":
        status = dict(re.findall(r"^(\w+):\s*(.*)$", output, re.M))
        return {key: status.get(key) for key in CHANGES[drop_in]}
    match = re.search(r"(?:^|\0)WATCHDOG_USEC=(\d+)", output)
    return {"WATCHDOG_USEC": match[1] if match else None}


def _after_kill(now: State, pid: int) -> str:
    """ "restarted" (or about to be), "failed"; "" while it cannot be told."""
    if now.sub == "auto-restart" or (now.running and now.pid != pid):
        return "restarted"
    return "failed" if now.active == "failed" else ""


@dataclass(frozen=True)
class Masked:
    """in_force: names of the unit's files that systemd reads."""

    in_force: list[str]
    invocation: Invocation


@dataclass(frozen=True)
class PutBack:
    """What `behaviour` read before, with the drop-in masked, and after; and the digests of `systemctl cat` then."""

    n: Count
    before: Row
    masked: Row
    after: Row
    cat_sha256: tuple[Sha256, Sha256, Sha256]


class OutOfForce(Case):
    """One drop-in masked from /run, and put back."""

    def __init__(self, deployed: Deployed, drop_in: str) -> None:
        super().__init__(deployed)
        self.name, self.fault = drop_in, f"{drop_in} masked from /run, and the unit restarted"

    def steady(self, subject: Subject) -> None:
        if not subject.store.last_tick():
            steady(subject)
        if self.name not in self._in_force(subject):
            raise NotSteady(f"{self.name} is not in force")
        self._cat = subject.unit.cat()
        self._before = self._behaviour(subject)
        self._invocation = subject.unit.state().invocation

    def _behaviour(self, subject: Subject) -> Row:
        """On a process of its own: a drop-in binds those that are started after it."""
        subject.restart()
        subject.host.wait_for("the engine running", UP_S, lambda: subject.unit.state().running, every=0.05)
        return look(subject, self.name)

    def _in_force(self, subject: Subject) -> list[str]:
        """Names of what systemd reads for the unit; a mask stands in its list too, as a link to /dev/null."""
        return [path.name for path in subject.unit.files() if path.resolve() != _NOTHING]

    def inject(self, subject: Subject) -> None:
        subject.mask(self.name)
        self._masked = self._behaviour(subject)

    def witness(self, subject: Subject) -> Masked | None:
        """systemd no longer reads it, and the process is another than before."""
        invocation = subject.unit.state(quiet=False).invocation
        return Masked(self._in_force(subject), invocation) if invocation != self._invocation else None

    def witnessed(self, witness: Masked) -> bool:
        return bool(witness.in_force) and self.name not in witness.in_force

    def measure(self, subject: Subject) -> PutBack:
        masked_cat = subject.unit.cat()
        subject.unmask(self.name)
        digests = _sha256(self._cat), _sha256(masked_cat), _sha256(subject.unit.cat())
        return PutBack(1, self._before, self._masked, self._behaviour(subject), digests)

    def traced(self, measured: PutBack, trace: Trace) -> Mapping[str, Json | Between]:
        rows = self._behaviours(trace)
        again = {"n": 1, **dict(zip(("before", "masked", "after"), rows, strict=True))}
        cats = trace.texts("systemctl", "cat")
        if any(MARK in text for text in cats):
            return again  # what was left out of the recording is in the digests
        return {**again, "cat_sha256": [_sha256(text) for text in cats]}

    def _behaviours(self, trace: Trace) -> list[Row]:
        if self.name in _LOOKS:
            return [behaviour(self.name, trace.whole(event)) for event in trace.events("command", "grep")]
        pids = [int(kill["stdout"].rpartition(" ")[2]) for kill in trace.intents("kill -KILL ")]
        shown = trace.state(0), trace.state(1), trace.state(-1)  # between the last two is that of the witness
        return [{"after SIGKILL": _after_kill(now, pid)} for now, pid in zip(shown, pids, strict=True)]

    def traced_witness(self, witness: Masked, trace: Trace) -> Mapping[str, Json | Between]:
        number = 0 if self.name in _LOOKS else 2
        return {"invocation": trace.shown(number)["InvocationID"]}

    def judge(self, measured: PutBack) -> Sequence[Check]:
        names = CHANGES[self.name]
        rows = (measured.before, measured.masked, measured.after)
        before, masked, after = ({name: row[name] for name in names} for row in rows)
        all_changed = all(before[name] != masked[name] for name in names)
        first, second, last = measured.cat_sha256
        cat = f"{first[:12]}, {second[:12]}, {last[:12]}"
        return (
            Check("changed out of force", _changes(before, masked), ", ".join(names), all_changed, guard=True),
            Check("put back, as before", _changes(before, after), "no difference", after == before),
            Check("systemctl cat (SHA-256)", cat, "another, then equal to the byte", first == last != second),
        )


@dataclass(frozen=True)
class OneOut:
    """What systemd shows of the unit before, without the drop-in and after; and `systemctl cat` then (SHA-256).

    alone: the masked unit's text is that of before without this one drop-in, and otherwise equal.
    """

    before: dict[str, str]
    masked: dict[str, str]
    after: dict[str, str]
    cat_sha256: tuple[Sha256, Sha256, Sha256]
    alone: bool


@dataclass(frozen=True)
class EachOut:
    n: Count
    drop_ins: dict[str, OneOut]


class Installed(Case):
    """Every drop-in that lies on the host, whatever installed it: the settings in it go and come back."""

    name = "every installed drop-in"
    fault = "each drop-in that the host has for the unit masked in turn"
    n_min = len(CHANGES)

    def steady(self, subject: Subject) -> None:
        folder = f"{subject.unit.name}.d"
        files = [path for path in subject.unit.files() if path.parent.name == folder and path.resolve() != _NOTHING]
        self._names = [path.name for path in files if path.name != PROOF_CONF]
        texts = "\n".join(path.read_text() for path in files)
        self._properties = _properties(texts)

    def _look(self, subject: Subject) -> tuple[dict[str, str], str]:
        return subject.unit.properties(*self._properties, quiet=False), subject.unit.cat()

    def inject(self, subject: Subject) -> None:
        self._looks = [self._look(subject)]
        self._in_force: dict[str, list[str]] = {}
        for name in self._names:
            subject.mask(name)
            self._looks.append(self._look(subject))
            self._in_force[name] = [path.name for path in subject.unit.files() if path.resolve() != _NOTHING]
            subject.unmask(name)
            self._looks.append(self._look(subject))

    def witness(self, subject: Subject) -> dict[str, list[str]]:
        """By the name of each drop-in, the unit's files that systemd read while it was masked."""
        return self._in_force

    def witnessed(self, witness: dict[str, list[str]]) -> bool:
        return witness.keys() >= CHANGES.keys() and all(files and name not in files for name, files in witness.items())

    def measure(self, subject: Subject) -> EachOut:
        return EachOut(len(self._names), _each_out(self._names, self._looks))

    def traced(self, measured: EachOut, trace: Trace) -> Mapping[str, Json | Between]:
        shows, cats = trace.texts("systemctl", "show"), trace.texts("systemctl", "cat")
        if any(MARK in text for text in cats):
            return {"n": (len(cats) - 1) // 2}  # what was left out of the recording is in the digests
        looks = list(zip(map(values_of, shows), cats, strict=True))
        names = list(measured.drop_ins)
        return {"n": (len(looks) - 1) // 2, "drop_ins": encode(_each_out(names, looks))}

    def judge(self, measured: EachOut) -> Sequence[Check]:
        each = measured.drop_ins
        same = {name for name, one in each.items() if one.masked == one.before} - SHOWN_AT_START.keys()
        unchanged = [name for name, one in each.items() if name in same or not one.alone]
        texts = {name: one.cat_sha256 for name, one in each.items()}
        other = [name for name, one in each.items() if one.after != one.before or texts[name][0] != texts[name][2]]
        return (
            equal("promised and not installed", sorted(CHANGES.keys() - each.keys()), []),
            equal("without effect, or not alone out of force", unchanged, [], guard=True),
            equal("not put back as before", other, []),
        )


def _properties(texts: str) -> list[str]:
    """What `systemctl show` calls the settings in these files, as far as it shows them."""
    names = sorted(set(re.findall(r"^([A-Z][A-Za-z]+)=", texts, re.M)))
    return [re.sub(r"Sec$", "USec", name) for name in names]


def _each_out(names: Sequence[str], looks: Sequence[tuple[dict[str, str], str]]) -> dict[str, OneOut]:
    """looks: before, then for each name one without it and one after."""
    result = {}
    for number, name in enumerate(names):
        (before, cat), (masked, masked_cat), (after, last_cat) = looks[2 * number : 2 * number + 3]
        others, others_then = ([part for part in _parts(text) if not _is_of(part, name)] for text in (cat, masked_cat))
        alone = others == others_then and len(others) < len(_parts(cat))
        result[name] = OneOut(before, masked, after, (_sha256(cat), _sha256(masked_cat), _sha256(last_cat)), alone)
    return result


def _parts(cat: str) -> list[str]:
    """The unit's files in what `systemctl cat` printed."""
    return [part.strip("\n") for part in re.split(r"^(?=# /\S+$)", cat, flags=re.M) if part.strip()]


def _is_of(part: str, name: str) -> bool:
    return part.partition("\n")[0].endswith(f"/{name}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _changes(before: Row, after: Row) -> str:
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    return "; ".join(changed) or "nothing"


def _empty(drop_in: str) -> Mutant:
    name, what = f"empty-{drop_in.partition('-')[0]}", f"{drop_in} with nothing in it"
    return emptied(name, what, lambda deployed: [OutOfForce(deployed, drop_in)], drop_in)


def headline(results: Sequence[Result]) -> str:
    passed = [result.case.removesuffix(".conf") for result in results if result.verdict == "PASS"]
    return f"{len(passed)} of {len(results)} taken out and put back, to the byte: {', '.join(passed)}"


PROOF = Proof(
    name="rollback",
    claim="a drop-in taken out of force takes its behaviour with it, and put back brings it back, to the byte",
    bound="; ".join(f"{name}: {', '.join(keys)} change" for name, keys in CHANGES.items())
    + "; systemctl cat and behaviour afterwards equal",
    fault="each drop-in masked by /run/systemd/system.control/UNIT.d/NAME -> /dev/null",
    seconds=16,
    cases=lambda deployed: [*(OutOfForce(deployed, drop_in) for drop_in in CHANGES), Installed(deployed)],
    mutants=[
        _empty("40-hardening.conf"),
        _empty("50-watchdog.conf"),
        emptied("empty-20", "20-resources.conf with nothing in it", Installed.alone, "20-resources.conf"),
    ],
    headline=headline,
    host_word={
        "witness.in_force": "which of the unit's files are links to /dev/null",
        "witness.*.conf": "which of the unit's files are links to /dev/null",
        "cat_sha256": "where a credential was left out of the unit's text",
        "drop_ins.*": "where a credential was left out of the unit's text",
    },
)
