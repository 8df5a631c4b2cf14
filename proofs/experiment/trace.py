"""The raw outputs of one case, as they were recorded: what `measure` read then, read once more.

With this, a case works its figures out again in `traced`, and the verifier compares. A figure that no recorded output
shows has to be one that the proof names as taken on the host's word.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Self, TypeVar

from proofs.experiment.row_reads import Event, TracedStore, Untraced
from proofs.host.database import Store
from proofs.host.unit import Entry, State, entries_of, state_of, values_of
from proofs.verdict import Json

__all__ = ["Between", "Event", "Trace", "Untraced", "differences", "mono_s"]
T = TypeVar("T")
_ROUNDED_S = 0.002  # figures are rounded to milliseconds


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

    def events(self, kind: str, *words: str) -> list[Event]:
        """Every event of that kind, of commands that begin with these words."""
        return [e for e in self._events if e["kind"] == kind and e["argv"][: len(words)] == [*words]]

    def _commands(self, *words: str) -> list[Event]:
        """Commands that begin with these words. They have to have worked, and so have polls of the same."""
        commands = self.events("command", *words)
        for event in [*commands, *self.events("waited", *words)]:
            if event["rc"] != 0:
                raise Untraced(f"line {event['seq'] + 1}: {' '.join(words)} failed")
        return commands

    def texts(self, *words: str) -> list[str]:
        """The whole output of each command that begins with these words."""
        return [self.whole(event) for event in self._commands(*words)]

    def text(self, *words: str, worked: bool = True) -> str:
        """The whole output of the last of them. worked: it has to have worked."""
        commands = self._commands(*words) if worked else self.events("command", *words)
        return self.whole(_at(commands, -1, f"output of {' '.join(words)}"))

    def show_event(self, number: int) -> Event:
        """The number-th recorded `systemctl show`; from the end where it is negative."""
        return _at(self._commands("systemctl", "show"), number, "systemctl show of the unit")

    def shown(self, number: int) -> dict[str, str]:
        """Its output, by property."""
        return values_of(self.whole(self.show_event(number)))

    def state(self, number: int) -> State:
        """Its output, as the unit's state."""
        return state_of(self.shown(number))

    def first_of(self, unit: str) -> State:
        """The state of another unit than the announced one, by the first recorded `systemctl show` of it."""
        return state_of(values_of(self.texts("systemctl", "show", unit)[0]))

    def last_of(self, unit: str) -> State:
        return state_of(values_of(self.texts("systemctl", "show", unit)[-1]))

    def store(self, number: int = -1, unit: str | None = None) -> Store:
        """The recorded reads of the database (of that unit; of the one that the case announced)."""
        name = self.event("case")["data"]["unit"] if unit is None else unit
        return TracedStore(self._events, self.whole, str(name), number)

    def restarts(self) -> int:
        """By how many systemd's count of restarts grew between the first look at the unit and the last."""
        return int(self.shown(-1)["NRestarts"]) - int(self.shown(0)["NRestarts"])

    def journal(self, number: int = -1) -> list[Entry]:
        """The entries of the number-th recorded `journalctl`."""
        return self.entries(_at(self._commands("journalctl", "-u"), number, "journal of the unit"))

    def entries(self, event: Event) -> list[Entry]:
        """What that `journalctl`, or the last one of a wait, printed."""
        return entries_of(self.whole(event), event["argv"][-1].removeprefix("--cursor=")) if event["argv"] else []

    def waits(self, what: str) -> list[Event]:
        """The events of waiting for that, or of watching that it does not happen."""
        waits = [event for event in self.events("waited") if event["data"]["for"] == what]
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
        return _at(self.intents(beginning), -1, f"intent {beginning!r}")

    def intent_of(self, *words: str) -> Event:
        """What announced the last command that begins with these words."""
        return _at(self.events("intent", *words), -1, f"intent of {' '.join(words)}")

    def moment_ms(self, event: Event) -> Between:
        """From this event to the next one of the case, by the wall clock, in ms UTC."""
        least, most = self.around(event)
        return Between(self.wall_ms(event, least) - 1, self.wall_ms(event, most) + 1)

    def intents(self, beginning: str) -> list[Event]:
        """Each intent whose text begins so."""
        return [event for event in self.events("intent") if event["stdout"].startswith(beginning)]

    def event(self, kind: str, name: str | None = None) -> Event:
        """The last event of that kind, of the exchange of that name."""
        events = [event for event in self.events(kind) if name is None or event["data"]["name"] == name]
        return _at(events, -1, kind if name is None else f"{kind} of {name}")

    def notes(self, kind: str, name: str | None = None) -> list[dict[str, Json]]:
        """What was noted under that kind, of the exchange of that name."""
        return [event["data"] for event in self.events(kind) if name is None or event["data"]["name"] == name]

    def stats(self, name: str, number: int = -1) -> dict[str, Json]:
        """What an exchange had counted when it was asked last, or the number-th time."""
        stats: dict[str, Json] = _at(self.notes("exchange stats", name), number, f"count of exchange {name}")
        return stats

    def written(self, name: str) -> str:
        """The text of a file of the scratch configuration, as it was last written."""
        intents = [event for event in self.events("intent") if event["stdout"].endswith(f"/etc/{name}")]
        return str(_at(intents, -1, f"{name} that was written")["data"]["text"])


def _at(events: Sequence[T], number: int, what: str) -> T:
    try:
        return events[number]
    except IndexError:
        raise Untraced(f"there is no {what}") from None


def differences(figures: Json, again: Json, host_word: Collection[str] = (), path: str = "") -> list[str]:
    """Which figures are not what was read again, and what that is; and those that no recorded output shows.

    again: JSON in which a Between may stand for a number. host_word: patterns of the paths of figures that the proof
    takes on the host's word.
    """
    return list(_differences(figures, again, host_word, path))


def _differences(figure: Json, again: Json, host_word: Collection[str], path: str) -> Iterator[str]:
    if isinstance(again, Mapping) and isinstance(figure, Mapping):
        for name in [*again, *(name for name in figure if name not in again)]:
            below = f"{path}.{name}" if path else str(name)
            if name not in again:
                yield from _unread(figure[name], host_word, below)
            else:
                yield from _differences(figure.get(name), again[name], host_word, below)
    elif isinstance(again, list) and isinstance(figure, list) and len(again) == len(figure):
        for number, (one, other) in enumerate(zip(figure, again, strict=True)):
            yield from _differences(one, other, host_word, f"{path}.{number}")
    elif isinstance(again, Between):
        if not again.holds(figure):
            span = f"{again.least:.3f} to {again.most:.3f}"
            yield f"{path} is {figure!r}, the recorded outputs come to {span}"
    elif json.dumps(figure, sort_keys=True) != json.dumps(again, sort_keys=True, default=str):
        yield f"{path} is {str(figure)[:120]!r}, the recorded outputs come to {str(again)[:120]!r}"


def _unread(figure: Json, host_word: Collection[str], path: str) -> Iterator[str]:
    if any(fnmatchcase(path, pattern) for pattern in host_word):
        return
    if isinstance(figure, Mapping) and figure:
        for name, one in figure.items():
            yield from _unread(one, host_word, f"{path}.{name}")
    else:
        yield f"{path} is {str(figure)[:120]!r}, and no recorded output shows it"
