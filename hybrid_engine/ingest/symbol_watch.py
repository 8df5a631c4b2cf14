"""Tells of each symbol that a source was asked for and brings no trades of, although the source is in use.

A quiet market that has traded is no fault: `silent_after_s` is off unless it is set. Times are monotonic seconds, those
named `_ms` wall-clock milliseconds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.run_state import NEVER_TRADED, REFUSED, SILENT, UnfedSymbol
from hybrid_engine.ingest.source_selector import ActiveSource
from hybrid_engine.ingest.source_state import SourceState
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.log import Logger

log = Logger("hybrid_engine.ingest")

_TOLD = {NEVER_TRADED: "symbol has not traded since it was asked for", SILENT: "symbol is silent"}


class _Reason(NamedTuple):
    name: str
    since: float
    since_ms: int


class SymbolWatch:
    """`count`: how often a symbol of a source was told of as never traded, or as silent."""

    def __init__(self, sources: Sequence[SourceState]) -> None:
        self.count = 0
        self._sources = sources
        self._asked_at: dict[tuple[SourceState, str], float] = {}
        self._reasons: dict[tuple[SourceState, str], _Reason] = {}

    def check(self, now: float, rules: EngineSettings) -> None:
        """Compare the last trades with the limits, and log what is new, once until the symbol trades."""
        for source in self._sources:
            for symbol in source.awaited_symbols():
                self._check_symbol(source, symbol, now, rules)

    def _check_symbol(self, source: SourceState, symbol: str, now: float, rules: EngineSettings) -> None:
        key = source, symbol
        before = self._reasons.get(key)
        traded_at = source.traded_at.get(symbol)
        if symbol in source.refused:
            self._asked_at[key] = now
            if before is None or before.name != REFUSED:
                self._reasons[key] = _Reason(REFUSED, now, now_ms())
            return
        if before is not None and (before.name == REFUSED or (traded_at is not None and traded_at > before.since)):
            del self._reasons[key]
            if before.name in _TOLD:
                log.info("symbol trades", source=source.name, symbol=symbol)
            before = None
        if before is not None or not source.in_use or source.connected_at is None:
            return
        asked_at = max(source.connected_at, self._asked_at.get(key, 0.0))
        quiet_s = now - max(asked_at, traded_at or 0.0)
        silent_after_s = source.config.silent_limit_s(symbol) or rules.silent_after_s
        if silent_after_s and quiet_s >= silent_after_s:
            name = SILENT
        elif traded_at is None and rules.never_traded_after_s and quiet_s >= rules.never_traded_after_s:
            name = NEVER_TRADED
        else:
            return
        self.count += 1
        self._reasons[key] = _Reason(name, now, now_ms() - round(quiet_s * 1000))
        log.warn(_TOLD[name], source=source.name, symbol=symbol, for_s=round(quiet_s, 1))

    def unfed(self, active: Mapping[str, ActiveSource]) -> tuple[UnfedSymbol, ...]:
        """What is told of now; the provider of a symbol is its active source, where that is not told of as well."""
        unfed: list[UnfedSymbol] = []
        for (source, symbol), reason in self._reasons.items():
            provider = active[symbol].source if symbol in active else None
            name = "" if provider is None or (provider, symbol) in self._reasons else provider.name
            unfed.append(UnfedSymbol(symbol, source.name, reason.name, reason.since_ms, name))
        return tuple(sorted(unfed, key=lambda one: one.provider != ""))
