"""What a proof did to the host, looked up in its recording: each change announced before it was made, the unit under
test the deployed one on scratch directories, and each mutant what the catalogue makes of it, replayed here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from proofs.catalog import mutations
from proofs.evidence.redaction import Redactor
from proofs.experiment.case import Mutant, Proof
from proofs.experiment.subject import CONFIG_DIR, STATE_DIR, Copy, Source
from proofs.host.unit import seconds
from proofs.restore.lease import SYSTEMD_RUN
from proofs.verdict import Json

Event = dict[str, Json]
Sections = dict[str, str]
_AS_WRITTEN = Redactor({})
_PROOF_CONF = "zz-proof.conf"
_LOOKS = ("show", "cat", "--version", "is-active")
_JOURNAL = ("-u", "--sync", "-n0")
_ENGINE = (["health", "--json"], ["version", "--json"], ["config", "check"])
_VERBS = ("daemon-reload", "kill", "reload", "reset-failed", "restart", "stop")
_DOES = ("systemd-run", "mount", "umount", "/usr/bin/python3", "ssh-keygen")
_SECTION = re.compile(r"^# (/\S+)\n", re.M)
_SOURCES: Sequence[Source] = ({"name": "primary"}, {"name": "secondary"})


class Replayed(Copy):
    """A copy that only notes what a mutant's `make` does to it."""

    def __init__(self, scratch: Path, lib: str) -> None:
        self.scratch, self.etc, self.state, self._lib = scratch, scratch / "etc", scratch / "state", lib
        self.directives: list[str] = []
        self.instead: dict[str, str] = {}
        self.patches: list[dict[str, str]] = []
        self.pick_sources = lambda sources: sources

    def patch(self, old: str, new: str) -> None:
        if not self.patches:
            self.directives.append(f"BindReadOnlyPaths={self.scratch / 'lib'}:{self._lib}")
        self.patches.append({"old": old, "new": new})


def problems(events: Sequence[Event], proof: Proof, header: Mapping[str, Json]) -> Iterator[str]:
    """What is wrong with one time that this proof was begun. header: that of the run. Raises what odd shapes raise."""
    by_scope: dict[str, list[Event]] = {}
    for event in events:
        by_scope.setdefault(event["scope"], []).append(event)
    for own in by_scope.values():
        yield from _announced(own, str(header["unit"]))
    subject = by_scope.get(proof.name, [])
    if not any(event["kind"] == "deployed" for event in subject):
        return  # nothing was done
    if [event["data"]["when"] for event in subject if event["kind"] == "observed"] != ["before", "after"]:
        yield f"{_line(subject[0])}: the host was not observed before and after"
    yield from _health(subject)
    yield from _promised(subject, str(header["cat"]))
    deployed = sections(header["cat"])
    yield from _subject(subject, proof, header, deployed)
    for mutant in proof.mutants:
        own = by_scope.get(f"{proof.name}/mutant {mutant.name}", [])
        if any(event["kind"] == "judged" for event in own):
            yield from _mutant(own, proof, mutant, header, deployed)


def _health(events: Sequence[Event]) -> Iterator[str]:
    """How the operator's engine was is what it said when it was asked."""
    asked: Event | None = None
    for event in events:
        if event["kind"] == "command" and event["argv"][1:] == ["health", "--json"]:
            asked = event
        if event["kind"] == "observed":
            if event["data"]["health_rc"] != (asked["rc"] if asked else -1):
                yield f"{_line(event)}: its engine's health was another when it was asked"
            asked = None


def _promised(events: Sequence[Event], cat: str) -> Iterator[str]:
    """What systemctl showed of the deployed unit is what its files set."""
    noted = next(event for event in events if event["kind"] == "deployed")
    for key, directive in (("watchdog_s", "WatchdogSec"), ("restart_s", "RestartSec")):
        found = re.findall(rf"^{directive}=(.+)$", cat, re.M)
        if found and seconds(found[-1].strip()) != noted["data"][key]:
            yield f"{_line(noted)}: {key} {noted['data'][key]}, and the unit sets {directive}={found[-1]}"


def sections(cat: str) -> Sections:
    """The files of a unit by their paths, as `systemctl cat` prints them."""
    parts = _SECTION.split(cat)
    return dict(zip(parts[1::2], (text.strip("\n") for text in parts[2::2]), strict=True))


def _line(event: Event) -> str:
    return f"line {event['seq'] + 1}: {event['scope']}"


def _announced(events: Sequence[Event], unit: str) -> Iterator[str]:
    """Every command that changes something follows the intent that announces it, and is one that proofs give."""
    due: list[Event] = []
    for event in events:
        argv = event["argv"]
        if event["kind"] == "intent" and argv:
            due.append(event)
        elif event["kind"] == "command" and not _only_looks(argv):
            if not due or due[0]["argv"] != argv:
                yield f"{_line(event)}: done without its intent: {' '.join(argv)[:120]}"
            elif not _is_ours(argv, unit):
                yield f"{_line(event)}: nothing that a proof does: {' '.join(argv)[:120]}"
            due = due[1:]
    if due:
        yield f"{_line(due[0])}: announced, and not told how it went: {' '.join(due[0]['argv'])[:120]}"


def _only_looks(argv: Sequence[str]) -> bool:
    first, *rest = argv
    if first == "systemctl":
        return rest[:1] != [] and rest[0] in _LOOKS
    if first == "journalctl":
        return rest[:1] != [] and rest[0] in _JOURNAL
    if first.endswith("/bin/hybrid-engine"):
        return rest in _ENGINE
    return first in ("grep", "systemd-analyze", "systemd-detect-virt")


def _is_ours(argv: Sequence[str], unit: str) -> bool:
    if argv[0] != "systemctl":
        return argv[0] in _DOES
    verb, *rest = argv[1:]
    names = [word for word in rest if not word.startswith("--")]
    return verb in _VERBS and all(name == unit or name.startswith("hybrid-proof-") for name in names)


def _in_force(events: Sequence[Event]) -> tuple[Event | None, Sections]:
    """What systemd had in force before the first case, by the command that showed it."""
    first = next((event["seq"] for event in events if event["kind"] == "case"), 0)
    told = [event for event in events if event["kind"] == "in force" and event["seq"] < first]
    shown = [event for event in events if event["argv"][:2] == ["systemctl", "cat"] and event["rc"] == 0]
    shown = [event for event in shown if told and event["seq"] < told[0]["seq"]]
    if not shown or (not shown[-1]["blobs"] and shown[-1]["stdout"] != told[0]["data"]["cat"]):
        return None, {}
    return told[0], sections(told[0]["data"]["cat"])


def _subject(events: Sequence[Event], proof: Proof, header: Mapping[str, Json], deployed: Sections) -> Iterator[str]:
    """The deployed unit, with nothing but the scratch directories over its own."""
    cases = [event for event in events if event["kind"] == "case"]
    if not cases:
        return
    told, in_force = _in_force(events)
    if told is None:
        yield f"{_line(cases[0])}: what was in force is not what systemctl showed"
        return
    if proof.in_place:
        if in_force != deployed:
            yield f"{_line(told)}: in force was another unit than the deployed one"
        return
    path = str(SYSTEMD_RUN / f"{header['unit']}.d" / _PROOF_CONF)
    written = [e for e in events if e["kind"] == "intent" and e["stdout"] == f"write {path}"]
    text = _scratch_conf(written[0]["data"]["text"], f"/{header['run']}/{proof.name}/unit", ()) if written else None
    if text is None:
        yield f"{_line(told)}: the scratch directories were not put over the unit's own, or more was"
    elif in_force != {**deployed, path: text}:
        yield f"{_line(told)}: in force was another unit than the deployed one on scratch directories"
    yield from _sources(events, len(_SOURCES))


def _scratch_conf(text: str, below: str, directives: Sequence[str]) -> str | None:
    """The text when it binds the scratch directories and sets these directives, and nothing else."""
    scratch = _scratch(text)
    own = [f"BindPaths={scratch}/state:{STATE_DIR}", f"BindReadOnlyPaths={scratch}/etc:{CONFIG_DIR}", *directives]
    lines = [line for line in text.strip("\n").split("\n") if not line.startswith("UnsetEnvironment=HYBRID_ENGINE__")]
    return text.strip("\n") if scratch.endswith(below) and lines == ["[Service]", *own] else None


def _scratch(text: str) -> str:
    found = re.search(rf"^BindPaths=(\S+)/state:{STATE_DIR}$", text, re.M)
    return found[1] if found else ""


def _mutant(
    events: Sequence[Event], proof: Proof, mutant: Mutant, header: Mapping[str, Json], deployed: Sections
) -> Iterator[str]:
    """The deployed unit under another name without its guard, and otherwise as it is."""
    told, in_force = _in_force(events)
    if told is None:
        yield f"{_line(events[0])}: what was in force is not what systemctl showed"
        return
    named = [event["data"] for event in events if event["kind"] == "mutant"]
    if named != [{"name": mutant.name, "what": mutant.what}]:
        yield f"{_line(events[0])}: not told as the catalogue has it"
    if proof.in_place:
        if in_force != deployed:
            yield f"{_line(told)}: in force was another unit than the deployed one"
        return
    unit = f"hybrid-proof-mutant-{proof.name}-{mutant.name}.service"
    copies = [e for e in events if e["kind"] == "intent" and e["stdout"] == f"copy {header['unit']} to {unit}"]
    conf = str(SYSTEMD_RUN / f"{unit}.d" / _PROOF_CONF)
    if not copies or copies[0]["seq"] > told["seq"]:
        yield f"{_line(told)}: it was not made before it was put in force"
        return
    copied = [event["data"]["from"] for event in events if event["kind"] == "copied"]
    replayed = Replayed(Path(_scratch(copies[0]["data"][conf])), copied[0] if copied else "")
    mutant.make(replayed)
    recorded = [
        mutations.latest(event["data"]["old"], event["data"]["new"]) for event in events if event["kind"] == "patched"
    ]
    if [{"old": old, "new": new} for old, new in recorded] != _AS_WRITTEN.data(replayed.patches):
        yield f"{_line(told)}: the release was not patched as the catalogue does it"
    below = f"/{header['run']}/{proof.name}/mutant-{proof.name}-{mutant.name}"
    if _scratch_conf(copies[0]["data"][conf], below, replayed.directives) is None:
        yield f"{_line(copies[0])}: its guard was not taken out as the catalogue does it"
    expected = _renamed(deployed, str(header["unit"]), unit, replayed.instead)
    for copy in copies:
        files = {path: text.strip("\n") for path, text in copy["data"].items()}
        own = files.pop(conf, "")
        if files != {path: text for path, text in expected.items() if path.startswith(f"{SYSTEMD_RUN}/{unit}")}:
            yield f"{_line(copy)}: it is no copy of the deployed unit"
        if not set(replayed.directives) <= set(own.split("\n")):
            yield f"{_line(copy)}: its guard was put back"
    if in_force != {**expected, conf: copies[0]["data"][conf].strip("\n")}:
        yield f"{_line(told)}: in force was something else than the copy that was made"
    yield from _sources(events, len(replayed.pick_sources(_SOURCES)))


def _renamed(deployed: Sections, unit: str, copy: str, instead: Mapping[str, str]) -> Sections:
    """The files of the deployed unit as its copy has them; what applies to every service applies to that as well."""
    files: Sections = {}
    for name, text in deployed.items():
        path = Path(name)
        if path.parent.name == f"{unit}.d":
            files[str(SYSTEMD_RUN / f"{copy}.d" / path.name)] = instead.get(path.name, text).strip("\n")
        elif path.parent.name.endswith(".d"):
            files[name] = text
        else:
            files[str(SYSTEMD_RUN / copy)] = text
    return files


def _sources(events: Sequence[Event], due: int) -> Iterator[str]:
    for event in events:
        if event["kind"] == "intent" and event["stdout"].endswith("/etc/ws_sources.toml"):
            found = event["data"]["text"].count("[[source]]")
            if found != due:
                yield f"{_line(event)}: it was given {found} sources, and {due} are due"
