"""The state of a run, which `runs.state` holds as JSON: what a reader, or the next run, cannot tell from counters."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

REFUSED, NEVER_TRADED, SILENT = "refused", "never traded", "silent"
# How many unfed symbols the state names; it is written with each commit.
MAX_NAMED = 20


class UnfedSymbol(NamedTuple):
    """A symbol that a source brings no trades of. `provider`: the source that does, "" where none does."""

    symbol: str
    source: str
    reason: str  # REFUSED, NEVER_TRADED or SILENT
    since_ms: int
    provider: str


class RunState(NamedTuple):
    """`unnamed`: how many unfed symbols there are beside `unfed`. `holds`: until when (wall-clock milliseconds) the
    exchange at an address, "host:port", asked not to be connected to.
    """

    unfed: tuple[UnfedSymbol, ...] = ()
    unnamed: int = 0
    holds: Mapping[str, int] = {}

    def as_json(self) -> str:
        if self == _EMPTY:
            return "{}"
        unfed = [one._asdict() for one in self.unfed[:MAX_NAMED]]
        unnamed = self.unnamed + max(0, len(self.unfed) - MAX_NAMED)
        return json.dumps({"unfed": unfed, "unnamed": unnamed, "holds": dict(self.holds)}, separators=(",", ":"))


_EMPTY = RunState()


def read_run_state(text: str | None) -> RunState:
    """The state in a row of `runs`; an empty one where the row has none, or one that no engine wrote."""
    try:
        table: dict[str, Any] = json.loads(text or "{}")
        unfed = tuple(_read_unfed(one) for one in table.get("unfed", ()))
        holds = {str(address): int(until_ms) for address, until_ms in table.get("holds", {}).items()}
        return RunState(unfed, int(table.get("unnamed", 0)), holds)
    except (ValueError, TypeError, AttributeError, KeyError):
        return RunState()


def _read_unfed(one: dict[str, Any]) -> UnfedSymbol:
    symbol, source, reason = str(one["symbol"]), str(one["source"]), str(one["reason"])
    return UnfedSymbol(symbol, source, reason, int(one["since_ms"]), str(one["provider"]))
