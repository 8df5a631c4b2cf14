"""The raw outputs of one case, as they were recorded: what `measure` read then, read once more.

With this, a case says in `traced` which of its figures follow from recorded outputs, and the verifier compares. Rows of
the database and /proc are in no recorded output: of figures from there the host's word stands.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from proofs.errors import ProofError
from proofs.experiment.measurements import decode
from proofs.host.unit import Entry, entries_of
from proofs.verdict import Json

Event = dict[str, Json]
T = TypeVar("T")
_ROUNDED_S = 0.002  # figures are rounded to milliseconds
# Earlier releases put this before most waits, whatever was meant by them; their bundles still verify.


class Untraced(ProofError, ValueError):
    """The recording does not have what a figure was read from; the message says what is missing."""


@dataclass(frozen=True)
class Between:
    """A figure whose other end is no output but a moment between two events."""

    least: float
    most: float

    @classmethod
    def since(cls, began: tuple[float, float], at: float, until: float | None = None) -> Self:
        """From a beginning somewhere in that span to a moment (somewhere up to `until`), all on CLOCK_MONOTONIC."""
        return cls(at - began[1], (at if until is None else until) - began[0])

    def holds(self, figure: Json) -> bool:
        number = isinstance(figure, int | float) and not isinstance(figure, bool)
        return number and self.least - _ROUNDED_S <= figure <= self.most + _ROUNDED_S


def mono_s(event: Event) -> float:
    """When that was, in seconds on CLOCK_MONOTONIC."""
    return float(event["mono_ns"]) / 1e9


class Trace:
    """The events of one case, from its beginning to its end. whole: an event's stdout, also where it is a blob.

    Every reader raises Untraced where the recording does not have what is asked for.
    """

    def __init__(self, events: Sequence[Event], whole: Callable[[Event], str]) -> None:
        self._events, self.whole = list(events), whole

    def _of(self, kind: str, *words: str) -> list[Event]:
        """Events of that kind, of commands that begin with these words."""
        return [e for e in self._events if e["kind"] == kind and e["argv"][: len(words)] == [*words]]

    def _commands(self, *words: str) -> list[Event]:
        """Commands that begin with these words. They have to have worked, and so have polls of the same."""
        commands = self._of("command", *words)
        for event in [*commands, *self._of("waited", *words)]:
            if event["rc"] != 0:
                raise Untraced(f"line {event['seq'] + 1}: {' '.join(words)} failed")
        return commands

    def texts(self, *words: str) -> list[str]:
        """The whole output of each command that begins with these words."""
        return [self.whole(event) for event in self._commands(*words)]

    def text(self, *words: str, worked: bool = True) -> str:
        """The whole output of the last of them. worked: it has to have worked."""
        commands = self._commands(*words) if worked else self._of("command", *words)
        return self.whole(_at(commands, -1, f"output of {' '.join(words)}"))

    def shown(self, number: int) -> dict[str, str]:
        """The output of the number-th recorded `systemctl show`, by property; from the end where it is negative."""
        text = self.whole(_at(self._commands("systemctl", "show"), number, "systemctl show of the unit"))
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def restarts(self) -> int:
        """By how many systemd's count of restarts grew between the first look at the unit and the last."""
        return int(self.shown(-1)["NRestarts"]) - int(self.shown(0)["NRestarts"])

    def journal(self, number: int = -1) -> list[Entry]:
        """The entries of the number-th recorded `journalctl`."""
        event = _at(self._commands("journalctl", "-u"), number, "journal of the unit")
        return entries_of(self.whole(event), event["argv"][-1].removeprefix("--cursor="))

    def witness(self, kind: type[T]) -> T:
        """What was witnessed, as the case's dataclass for it. Raises BadFigure."""
        witness: T = decode(kind, self.event("witness")["data"])
        return witness

    def waits(self, what: str) -> list[Event]:
        """The events of waiting for that, or of watching that it does not happen."""
        waits = [event for event in self._of("waited") if event["data"]["for"] == what]
        if not waits:
            raise Untraced(f"nobody waited for {what}")
        return waits

    def around(self, event: Event) -> tuple[float, float]:
        """From this event to the next one of the case, in seconds on CLOCK_MONOTONIC."""
        after = next((e for e in self._events if e["seq"] > event["seq"]), event)
        return mono_s(event), mono_s(after)

    def wall_ms(self, event: Event, mono_s: float) -> float:
        """What the wall clock showed then, in ms UTC, by an event's two clocks."""
        wall = datetime.fromisoformat(event["utc"]).timestamp()
        return float(wall - event["mono_ns"] / 1e9 + mono_s) * 1000

    def intent(self, beginning: str) -> Event:
        """The last intent whose text begins so."""
        intents = [event for event in self._of("intent") if event["stdout"].startswith(beginning)]
        return _at(intents, -1, f"intent {beginning!r}")

    def intent_of(self, *words: str) -> Event:
        """What announced the last command that begins with these words."""
        return _at(self._of("intent", *words), -1, f"intent of {' '.join(words)}")

    def event(self, kind: str, name: str | None = None) -> Event:
        """The last event of that kind, of the exchange of that name."""
        events = [event for event in self._of(kind) if name is None or event["data"]["name"] == name]
        return _at(events, -1, kind if name is None else f"{kind} of {name}")

    def notes(self, kind: str, name: str | None = None) -> list[dict[str, Json]]:
        """What was noted under that kind, of the exchange of that name."""
        return [event["data"] for event in self._of(kind) if name is None or event["data"]["name"] == name]

    def stats(self, name: str) -> dict[str, Json]:
        """What an exchange had counted when it was asked last."""
        stats: dict[str, Json] = _at(self.notes("exchange stats", name), -1, f"count of exchange {name}")
        return stats

    def written(self, name: str) -> str:
        """The text of a file of the scratch configuration, as it was last written."""
        intents = [event for event in self._of("intent") if event["stdout"].endswith(f"/etc/{name}")]
        return str(_at(intents, -1, f"{name} that was written")["data"]["text"])


def _at(events: Sequence[T], number: int, what: str) -> T:
    try:
        return events[number]
    except IndexError:
        raise Untraced(f"there is no {what}") from None


def differences(measured: Json, traced: Mapping[str, Json | Between]) -> list[str]:
    """Which figures are not what was read again, and what that is."""
    differences = []
    for name, again in traced.items():
        figure = measured.get(name) if isinstance(measured, dict) else None
        if isinstance(again, Between):
            if not again.holds(figure):
                span = f"{again.least:.3f} to {again.most:.3f}"
                differences.append(f"{name} is {figure!r}, the recorded outputs come to {span}")
        elif json.dumps(figure, sort_keys=True) != json.dumps(again, sort_keys=True):
            recorded, read = str(figure)[:120], str(again)[:120]
            differences.append(f"{name} is {recorded!r}, the recorded outputs come to {read!r}")
    return differences
