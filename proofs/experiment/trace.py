"""The raw outputs of one case, as they were recorded: what `measure` read then, read once more.

A case of the catalogue says in `traced` which of its figures follow from them, by this; the verifier compares. What is
in the store's rows or in /proc is nobody's output, and stays the host's word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from proofs.errors import ProofError
from proofs.experiment.measurements import decode
from proofs.host.unit import Entry, entries_of
from proofs.verdict import Json

Event = dict[str, Json]
T = TypeVar("T")
_ROUNDED_S = 0.002  # figures are told in milliseconds
# Earlier releases put this before most waits, whatever was meant by them; their bundles still verify.
_FORMER_PREFIX = "(hoping not) "


class Untraced(ProofError, ValueError):
    """The recording does not have what a figure was read from; the message says what is missing."""


@dataclass(frozen=True)
class Between:
    """A figure whose other end is no output but a moment between two events."""

    least: float
    most: float

    def holds(self, told: Json) -> bool:
        number = isinstance(told, int | float) and not isinstance(told, bool)
        return number and self.least - _ROUNDED_S <= told <= self.most + _ROUNDED_S


class Trace:
    """The events of one case, from its beginning to its end. whole: an event's stdout, also where it is a blob."""

    def __init__(self, events: Sequence[Event], whole: Callable[[Event], str]) -> None:
        self._events, self.whole = list(events), whole

    def outputs(self, *words: str) -> list[Event]:
        """What commands beginning with these words said, the polls that decided among them; all have to have worked."""
        found = [e for e in self._events if e["kind"] in ("command", "waited") and e["argv"][: len(words)] == [*words]]
        for event in found:
            if event["rc"] != 0:
                raise Untraced(f"line {event['seq'] + 1}: {' '.join(words)} failed")
        return found

    def text(self, *words: str) -> str:
        """The whole of what the last command beginning with these words said."""
        found = [event for event in self.outputs(*words) if event["kind"] == "command"]
        if not found:
            raise Untraced(f"no output of {' '.join(words)}")
        return self.whole(found[-1])

    def texts(self, *words: str) -> list[str]:
        """The whole of what each command beginning with these words said."""
        return [self.whole(event) for event in self.outputs(*words) if event["kind"] == "command"]

    def text_of(self, *words: str) -> str:
        """As `text`, of a command that need not have worked."""
        found = [e for e in self._events if e["kind"] == "command" and e["argv"][: len(words)] == [*words]]
        if not found:
            raise Untraced(f"no output of {' '.join(words)}")
        return self.whole(found[-1])

    def shown(self, number: int) -> dict[str, str]:
        """What `systemctl show` said, the number-th of those that were recorded; from the end where it is negative."""
        found = [event for event in self.outputs("systemctl", "show") if event["kind"] == "command"]
        try:
            text = self.whole(found[number])
        except IndexError:
            raise Untraced("no systemctl show of the unit") from None
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def journal(self, number: int = -1) -> list[Entry]:
        """The entries that `journalctl` gave, the number-th time that it was asked for good."""
        found = [event for event in self.outputs("journalctl", "-u") if event["kind"] == "command"]
        try:
            event = found[number]
        except IndexError:
            raise Untraced("no journal of the unit") from None
        cursor = event["argv"][-1].removeprefix("--cursor=")
        return entries_of(self.whole(event), cursor)

    def witness(self, kind: type[T]) -> T:
        """What was witnessed, as the case's dataclass for it. Raises BadFigure."""
        witness: T = decode(kind, next(event["data"] for event in self._events if event["kind"] == "witness"))
        return witness

    def waits(self, what: str) -> list[Event]:
        """The events of waiting for that, or of watching that it does not happen. Raises Untraced: there is none."""
        waited = [event for event in self._events if event["kind"] == "waited"]
        found = [event for event in waited if event["data"]["for"].removeprefix(_FORMER_PREFIX) == what]
        if not found:
            raise Untraced(f"nobody waited for {what}")
        return found

    def wall_ms(self, event: Event, mono_s: float) -> float:
        """What the wall clock showed then, in ms UTC, by an event's two clocks."""
        wall = datetime.fromisoformat(event["utc"]).timestamp()
        return float(wall - event["mono_ns"] / 1e9 + mono_s) * 1000

    def intent(self, beginning: str) -> Event:
        found = [e for e in self._events if e["kind"] == "intent" and e["stdout"].startswith(beginning)]
        if not found:
            raise Untraced(f"no intent {beginning!r}")
        return found[-1]

    def intent_of(self, *words: str) -> Event:
        """What announced the last command beginning with these words."""
        found = [e for e in self._events if e["kind"] == "intent" and e["argv"][: len(words)] == [*words]]
        if not found:
            raise Untraced(f"no intent of {' '.join(words)}")
        return found[-1]

    def event(self, kind: str) -> Event:
        found = [event for event in self._events if event["kind"] == kind]
        if not found:
            raise Untraced(f"no {kind} was noted")
        return found[-1]

    def after(self, event: Event) -> Event:
        """The next event of the case."""
        return next((e for e in self._events if e["seq"] > event["seq"]), event)

    def notes(self, kind: str, name: str | None = None) -> list[dict[str, Json]]:
        """What was noted under that kind, of the exchange of that name."""
        return [e["data"] for e in self._events if e["kind"] == kind and (name is None or e["data"]["name"] == name)]

    def stats(self, name: str) -> dict[str, Json]:
        """What an exchange had counted when it was asked last."""
        found = self.notes("exchange stats", name)
        if not found:
            raise Untraced(f"exchange {name} was not asked what it counted")
        return found[-1]

    def written(self, name: str) -> str:
        """The text of a file of the scratch configuration, as it was last written."""
        found = [e for e in self._events if e["kind"] == "intent" and e["stdout"].endswith(f"/etc/{name}")]
        if not found:
            raise Untraced(f"no {name} was written")
        return str(found[-1]["data"]["text"])


def differences(measured: Json, traced: Mapping[str, Json | Between]) -> list[str]:
    """Which figures are not what was read again, and what that is."""
    found = []
    for name, again in traced.items():
        told = measured.get(name) if isinstance(measured, dict) else None
        if isinstance(again, Between):
            if not again.holds(told):
                found.append(f"{name} is {told!r}, the recorded outputs come to {again.least:.3f} to {again.most:.3f}")
        elif json.dumps(told, sort_keys=True) != json.dumps(again, sort_keys=True):
            found.append(f"{name} is {str(told)[:120]!r}, the recorded outputs come to {str(again)[:120]!r}")
    return found
