"""The release's own check of configurations that are wrong in one thing each, and of sound ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog._checks import equal
from proofs.catalog._steady import GOOD
from proofs.experiment.case import Case
from proofs.experiment.measurements import Count, figures_of
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.deployed import ENGINE
from proofs.verdict import Check, Json

_CHECK = (str(ENGINE), "config", "check")
_SOURCE = """[[source]]
name = "one"
url = "ws://127.0.0.1:9/ws/btcusdt@trade"
kind = "binance"
priority = 1
"""
# Names of their own: what the unit itself runs on is config.toml, and that is what a proof is said to be of.
_CONFIG, _SOURCES = "checked.toml", "checked_sources.toml"
_REAL = GOOD.replace("SYNTHETIC", "REAL_WS") + f'sources_file = "{_SOURCES}"\n'
# Each is wrong in one thing: the configuration, its sources, and what the refusal has to say of it.
WRONG: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "not a table": ("engine = 5\n", "", ("engine = 5: must be a table",)),
    "a number below": (f"{GOOD}sample_every = 0\n", "", ("sample_every = 0: must be a whole number from 1 to",)),
    "a number above": (f"{GOOD}network_deadline_s = 1e9\n", "", ("network_deadline_s = 1000000000.0: must be", "to")),
    "no number": (f"{GOOD}stale_after_s = nan\n", "", ("stale_after_s = NaN: must be a number from",)),
    "a text for a number": (f'{GOOD}seed = "7"\n', "", ('seed = "7": must be a whole number from',)),
    "a part of a whole number": (f"{GOOD}seed = 1.5\n", "", ("seed = 1.5: must be a whole number from",)),
    "a number for a text": (f"{GOOD}strategy = 5\n", "", ("strategy = 5: must be a text in quotes",)),
    "no truth": (f'live_armed = "yes"\n{GOOD}', "", ('live_armed = "yes": must be true or false',)),
    "no such choice": (f'{GOOD}standby = "warm"\n', "", ('standby = "warm": must be one of cold, hot',)),
    "another key": (f"{GOOD}sample_evry = 5\n", "", ("sample_evry: unknown key; did you mean engine.sample_every?",)),
    "another table": (f"{GOOD}[engin]\nseed = 5\n", "", ("engin: unknown key;",)),
    "no symbol": (f'{GOOD}[app]\nsymbol = ""\n', "", ('app.symbol = "": must name a symbol',)),
    "no sources": (_REAL, "", (f"{_SOURCES}: REAL_WS needs this file",)),
    "no kind": (_REAL, _SOURCE.replace('kind = "binance"\n', ""), ("source[1].kind: is missing",)),
    "another kind": (_REAL, _SOURCE.replace("binance", "mtgox"), ('kind = "mtgox": must be one of binance,',)),
    "no URL": (_REAL, _SOURCE.replace("ws://", "http://"), ("must be a ws:// or wss:// URL",)),
    "no stream of trades": (_REAL, _SOURCE.replace("@trade", "@depth"), ('write "btcusdt@trade"',)),
    "a source twice": (_REAL, _SOURCE * 2, ('source.name = "one": two sources have this name',)),
}
SOUND: Mapping[str, tuple[str, str]] = {"the steady state": (GOOD, ""), "a source": (_REAL, _SOURCE)}


@dataclass(frozen=True)
class Spoiled:
    """configurations: how many the release was asked about."""

    configurations: Count


@dataclass(frozen=True)
class Answers:
    """said: of each wrong one what was said of it, in one line after exit 12; else the exit code and all that was said.

    sound: exit codes for the sound ones.
    """

    n: Count
    said: dict[str, str]
    sound: dict[str, Count]


class ConfigCheck(Case):
    name = "config check"
    fault = f"{len(WRONG)} configurations that are wrong in one thing each, and {len(SOUND)} that are sound"
    n_min = len(WRONG)

    def inject(self, subject: Subject) -> None:
        self._ends: list[tuple[int, str]] = []
        for text, sources in (*(wrong[:2] for wrong in WRONG.values()), *SOUND.values()):
            subject.put(_CONFIG, text)
            (subject.etc / _SOURCES).unlink(missing_ok=True)
            if sources:
                subject.put(_SOURCES, sources)
            answer = subject.host.look(*_CHECK, "--config", str(subject.etc / _CONFIG))
            self._ends.append((answer.rc, answer.stderr))

    def witness(self, subject: Subject) -> Spoiled:
        return Spoiled(len(self._ends))

    def witnessed(self, witness: Spoiled) -> bool:
        return witness.configurations == len(WRONG) + len(SOUND)

    def traced_witness(self, witness: Spoiled, trace: Trace) -> Mapping[str, Json | Between]:
        return {"configurations": len(_ends(trace))}

    def measure(self, subject: Subject) -> Answers:
        return _answers(self._ends)

    def traced(self, measured: Answers, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(_answers(_ends(trace)))

    def judge(self, measured: Answers) -> Sequence[Check]:
        lines = measured.said
        others = [f"{name}: {lines.get(name)}" for name, (*_, due) in WRONG.items() if not _says(lines.get(name), due)]
        return (
            equal("wrong ones that are not refused as they are to be", others or "none", "none", guard=True),
            equal("exit codes for sound ones", measured.sound, dict.fromkeys(SOUND, 0), guard=True),
        )


def _ends(trace: Trace) -> list[tuple[int, str]]:
    return [(event["rc"], event["stderr"]) for event in trace.events("command", *_CHECK)]


def _says(line: str | None, due: Sequence[str]) -> bool:
    return line is not None and all(part in line for part in due) and line.startswith("hybrid-engine: /")


def _answers(ends: Sequence[tuple[int, str]]) -> Answers:
    wrong, sound = ends[: len(WRONG)], ends[len(WRONG) :]
    said = {name: _said(*end) for name, end in zip(WRONG, wrong, strict=False)}
    return Answers(len(said), said, {name: rc for name, (rc, _) in zip(SOUND, sound, strict=False)})


def _said(rc: int, text: str) -> str:
    lines = text.splitlines()
    return lines[0][:400] if rc == 12 and len(lines) == 1 else f"exit {rc}: {text[:400]}"
