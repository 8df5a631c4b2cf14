"""Check what a proof did to the host, by its recording.

Each change has to be announced by an intent before it is made, the unit under test has to be the deployed one on
scratch directories, and each mutant has to be what the catalogue makes of that unit: its `make` is replayed here.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from proofs.evidence.recorder import Event, line_number
from proofs.evidence.redaction import Redactor
from proofs.experiment.case import Mutant, Proof
from proofs.experiment.subject import CONFIG_DIR, STATE_DIR, Changes, Source, copy_name
from proofs.host.deployed import HEALTH
from proofs.host.unit import seconds
from proofs.restore.lease import SYSTEMD_RUN
from proofs.verdict import Json

Sections = dict[str, str]
_REDACTOR = Redactor({})  # what is compared with the recording has to be redacted as that is
_PROOF_CONF = "zz-proof.conf"
_READS = {"systemctl": ("show", "cat", "--version", "is-active"), "journalctl": ("-u", "--sync", "-n0")}
_ENGINE = (["version", "--json"], ["config", "check"])
_VERBS = ("daemon-reload", "kill", "reload", "reset-failed", "restart", "stop")
_CHANGES = ("systemd-run", "mount", "umount", "/usr/bin/python3", "ssh-keygen")
_SECTION = re.compile(r"^# (/\S+)\n", re.M)
_SOURCES: Sequence[Source] = ({"name": "primary"}, {"name": "secondary"})


class Replayed(Changes):
    """What a mutant's `make` does, only noted. lib: the release's, that a patch binds a copy over."""

    def __init__(self, scratch: Path, lib: str) -> None:
        super().__init__(scratch)
        self._lib = lib
        self.patches: list[dict[str, str]] = []

    def patch(self, old: str, new: str) -> None:
        if not self.patches:
            self.directives.append(f"BindReadOnlyPaths={self.scratch / 'lib'}:{self._lib}")
        self.patches.append({"old": old, "new": new})


def problems(events: Sequence[Event], proof: Proof, header: Mapping[str, Json]) -> Iterator[str]:
    """What is wrong with one start of this proof.

    header: the data of the run's first event. Events of unexpected shapes raise KeyError, TypeError and the like.
    """
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
    yield from _settings(subject, str(header["cat"]))
    deployed = sections(header["cat"])
    yield from _subject(subject, proof, header, deployed)
    for mutant in proof.mutants:
        own = by_scope.get(f"{proof.name}/mutant {mutant.name}", [])
        if any(event["kind"] == "judged" for event in own):
            yield from _mutant(own, proof, mutant, header, deployed)
    for case in proof.on_copies:
        own = by_scope.get(proof.scope(case), [])
        if any(event["kind"] == "case" for event in own):
            yield from _copy(own, copy_name(proof.copy_name(case), mutant=False), _change_nothing, header, deployed)


def _health(events: Sequence[Event]) -> Iterator[str]:
    """The engine's health that is recorded is that of the health command just before."""
    command: Event | None = None
    for event in events:
        if event["kind"] == "command" and event["argv"] == [*HEALTH]:
            command = event
        if event["kind"] == "observed":
            if event["data"]["health_rc"] != (command["rc"] if command else -1):
                yield f"{_line(event)}: its engine's health is not what the health command returned"
            command = None


def _settings(events: Sequence[Event], cat: str) -> Iterator[str]:
    """The deployed unit's settings that are recorded are those of its files."""
    event = next(one for one in events if one["kind"] == "deployed")
    for key, directive in (("watchdog_s", "WatchdogSec"), ("restart_s", "RestartSec")):
        values = re.findall(rf"^{directive}=(.+)$", cat, re.M)
        if values and seconds(values[-1].strip()) != event["data"][key]:
            yield f"{_line(event)}: {key} {event['data'][key]}, and the unit sets {directive}={values[-1]}"


def sections(cat: str) -> Sections:
    """The files of a unit by their paths, as `systemctl cat` prints them."""
    parts = _SECTION.split(cat)
    return dict(zip(parts[1::2], (text.strip("\n") for text in parts[2::2]), strict=True))


def _line(event: Event) -> str:
    return f"line {line_number(event)}: {event['scope']}"


def _announced(events: Sequence[Event], unit: str) -> Iterator[str]:
    """Every command that changes something follows its intent, and is one that proofs run."""
    intents: list[Event] = []
    for event in events:
        argv = event["argv"]
        if event["kind"] == "intent" and argv:
            intents.append(event)
        elif event["kind"] == "command" and not _only_reads(argv):
            if not intents or intents[0]["argv"] != argv:
                yield f"{_line(event)}: done without its intent: {' '.join(argv)[:120]}"
            elif not _is_ours(argv, unit):
                yield f"{_line(event)}: no command of a proof: {' '.join(argv)[:120]}"
            intents = intents[1:]
    for event in intents[:1]:
        yield f"{_line(event)}: announced, but its result is missing: {' '.join(event['argv'])[:120]}"


def _only_reads(argv: Sequence[str]) -> bool:
    first, *rest = argv
    if first in _READS:
        return bool(rest) and rest[0] in _READS[first]
    if [*argv] == [*HEALTH]:
        return True
    if first.endswith("/bin/hybrid-engine"):
        return rest in _ENGINE or (rest[:3] == ["config", "check", "--config"] and len(rest) == 4)
    return first in ("grep", "stat", "systemd-analyze", "systemd-detect-virt")


def _is_ours(argv: Sequence[str], unit: str) -> bool:
    if argv[0] != "systemctl":
        return argv[0] in _CHANGES
    verb, *rest = argv[1:]
    names = [word for word in rest if not word.startswith("--")]
    return verb in _VERBS and all(name == unit or name.startswith("hybrid-proof-") for name in names)


def _in_force(events: Sequence[Event]) -> tuple[Event | None, Sections]:
    """The event with the unit that was in force before the first case, and its files; None when no command shows it."""
    first = next((event["seq"] for event in events if event["kind"] == "case"), 0)
    recorded = [event for event in events if event["kind"] == "in force" and event["seq"] < first]
    outputs = [event for event in events if event["argv"][:2] == ["systemctl", "cat"] and event["rc"] == 0]
    outputs = [event for event in outputs if recorded and event["seq"] < recorded[0]["seq"]]
    if not outputs or (not outputs[-1]["blobs"] and outputs[-1]["stdout"] != recorded[0]["data"]["cat"]):
        return None, {}
    return recorded[0], sections(recorded[0]["data"]["cat"])


def _subject(events: Sequence[Event], proof: Proof, header: Mapping[str, Json], deployed: Sections) -> Iterator[str]:
    """The unit under test is the deployed one, with the scratch directories bound over its own and nothing else."""
    cases = [event for event in events if event["kind"] == "case"]
    if not cases:
        return
    event, in_force = _in_force(events)
    if event is None:
        yield f"{_line(cases[0])}: what was in force is not what systemctl showed"
        return
    if proof.in_place:
        if in_force != deployed:
            yield f"{_line(event)}: in force was another unit than the deployed one"
        return
    path = str(SYSTEMD_RUN / f"{header['unit']}.d" / _PROOF_CONF)
    writes = [e for e in events if e["kind"] == "intent" and e["stdout"] == f"write {path}"]
    text = _scratch_conf(writes[0]["data"]["text"], f"/{header['run']}/{proof.name}/unit", ()) if writes else None
    if text is None:
        yield f"{_line(event)}: the scratch directories were not put over the unit's own, or more was"
    elif in_force != {**deployed, path: text}:
        yield f"{_line(event)}: in force was another unit than the deployed one on scratch directories"
    yield from _sources(events, len(_SOURCES))


def _scratch_conf(text: str, below: str, directives: Sequence[str]) -> str | None:
    """The text, when it binds the scratch directories and sets these directives and nothing else."""
    scratch = _scratch(text)
    own = [f"BindPaths={scratch}/state:{STATE_DIR}", f"BindReadOnlyPaths={scratch}/etc:{CONFIG_DIR}", *directives]
    lines = [line for line in text.strip("\n").split("\n") if not line.startswith("UnsetEnvironment=HYBRID_ENGINE__")]
    return text.strip("\n") if scratch.endswith(below) and lines == ["[Service]", *own] else None


def _scratch(text: str) -> str:
    match = re.search(rf"^BindPaths=(\S+)/state:{STATE_DIR}$", text, re.M)
    return match[1] if match else ""


def _mutant(
    events: Sequence[Event], proof: Proof, mutant: Mutant, header: Mapping[str, Json], deployed: Sections
) -> Iterator[str]:
    """The mutant is a copy of the deployed unit without its guard, and otherwise equal."""
    announced = [one["data"] for one in events if one["kind"] == "mutant"]
    if announced != [{"name": mutant.name, "what": mutant.what}]:
        yield f"{_line(events[0])}: not announced as the catalogue has it"
    if not proof.in_place:
        yield from _copy(events, copy_name(f"{proof.name}-{mutant.name}", mutant=True), mutant.make, header, deployed)
        return
    event, in_force = _in_force(events)
    if event is None:
        yield f"{_line(events[0])}: what was in force is not what systemctl showed"
    elif in_force != deployed:
        yield f"{_line(event)}: in force was another unit than the deployed one"


def _change_nothing(copy: Changes) -> None:
    """What `make` is of a copy that is no mutant."""


def _copy(
    events: Sequence[Event],
    name: str,
    make: Callable[[Changes], None],
    header: Mapping[str, Json],
    deployed: Sections,
) -> Iterator[str]:
    """It is a copy of the deployed unit with what `make` changes, and otherwise equal."""
    event, in_force = _in_force(events)
    if event is None:
        yield f"{_line(events[0])}: what was in force is not what systemctl showed"
        return
    unit = f"hybrid-proof-{name}.service"
    copies = [e for e in events if e["kind"] == "intent" and e["stdout"] == f"copy {header['unit']} to {unit}"]
    conf = str(SYSTEMD_RUN / f"{unit}.d" / _PROOF_CONF)
    if not copies or copies[0]["seq"] > event["seq"]:
        yield f"{_line(event)}: it was not made before it was put in force"
        return
    libs = [one["data"]["from"] for one in events if one["kind"] == "copied"]
    replayed = Replayed(Path(_scratch(copies[0]["data"][conf])), libs[0] if libs else "")
    make(replayed)
    recorded = [one["data"] for one in events if one["kind"] == "patched"]
    if [{"old": one["old"], "new": one["new"]} for one in recorded] != _REDACTOR.data(replayed.patches):
        yield f"{_line(event)}: the release was not patched as the catalogue does it"
    below = f"/{header['run']}/{events[0]['scope'].partition('/')[0]}/{name}"
    if _scratch_conf(copies[0]["data"][conf], below, replayed.directives) is None:
        yield f"{_line(copies[0])}: it was not changed as the catalogue does it"
    expected = _renamed(deployed, str(header["unit"]), unit, replayed.instead)
    for copy in copies:
        files = {path: text.strip("\n") for path, text in copy["data"].items()}
        own = files.pop(conf, "")
        if files != {path: text for path, text in expected.items() if path.startswith(f"{SYSTEMD_RUN}/{unit}")}:
            yield f"{_line(copy)}: it is no copy of the deployed unit"
        if not set(replayed.directives) <= set(own.split("\n")):
            yield f"{_line(copy)}: its guard was put back"
    if in_force != {**expected, conf: copies[0]["data"][conf].strip("\n")}:
        yield f"{_line(event)}: in force was something else than the copy that was made"
    yield from _sources(events, len(replayed.pick_sources(_SOURCES)))


def _renamed(deployed: Sections, unit: str, copy: str, instead: Mapping[str, str]) -> Sections:
    """The deployed unit's files as its copy has them; drop-ins for every service apply to the copy as well."""
    files: Sections = {}
    for path, text in ((Path(name), text) for name, text in deployed.items()):
        if path.parent.name == f"{unit}.d":
            files[str(SYSTEMD_RUN / f"{copy}.d" / path.name)] = instead.get(path.name, text).strip("\n")
        else:
            files[str(path if path.parent.name.endswith(".d") else SYSTEMD_RUN / copy)] = text
    return files


def _sources(events: Sequence[Event], expected: int) -> Iterator[str]:
    """The unit was configured with that many sources."""
    for event in events:
        if event["kind"] == "intent" and event["stdout"].endswith("/etc/ws_sources.toml"):
            sources = event["data"]["text"].count("[[source]]")
            if sources != expected:
                yield f"{_line(event)}: it has {sources} sources, and {expected} are expected"
