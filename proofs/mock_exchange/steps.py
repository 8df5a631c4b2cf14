"""The steps of a script: commands carried out after so many trades or seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol

from proofs.mock_exchange.commands import CommandError, check
from proofs.mock_exchange.errors import MockExchangeError
from proofs.mock_exchange.market import Market
from proofs.mock_exchange.settings import SettingsError

WHEN = ("after_sent", "after_s")


class StepTarget(Protocol):
    """What the steps need of their exchange."""

    market: Market

    def spawn(self, job: Coroutine[Any, Any, Any]) -> None: ...
    async def command(self, name: str, args: Mapping[str, Any]) -> dict[str, Any]: ...


class Steps:
    """Tables of a command with its arguments and `after_sent` (trades in all) or `after_s` (seconds).

    Raises SettingsError for what could never be carried out. A step after n trades comes before trade n + 1 is sent on
    that connection; one that fails when it is due (another process has the port) is skipped.
    """

    def __init__(self, exchange: StepTarget, do: Sequence[Mapping[str, Any]]) -> None:
        self._exchange = exchange
        self._by_clock: list[Mapping[str, Any]] = []
        self._by_count: list[Mapping[str, Any]] = []
        for step in do:
            try:
                check(str(step.get("command")), _arguments(step))
            except CommandError as error:
                raise SettingsError(f"do: {error}") from None
            for key in WHEN:
                value = step.get(key, 0)
                if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                    raise SettingsError(f"do: {key} = {value!r}: expected 0 or more")
            (self._by_clock if "after_s" in step else self._by_count).append(step)
        self._by_count.sort(key=_count)

    async def start(self) -> None:
        """Carry out what is due now, and schedule the rest."""
        market = self._exchange.market
        market.step_numbers = [_count(step) for step in self._by_count]
        if self._by_count:
            market.after_sent = self._run_due
            await self._run_due()
        for step in self._by_clock:
            self._exchange.spawn(self._later(step))

    async def _run_due(self) -> None:
        market = self._exchange.market
        while self._by_count and market.ledger.totals["sent"] >= _count(self._by_count[0]):
            market.step_numbers.pop(0)
            await self._run(self._by_count.pop(0))
        if not self._by_count:
            market.after_sent = None

    async def _later(self, step: Mapping[str, Any]) -> None:
        await asyncio.sleep(float(step["after_s"]))
        await self._run(step)

    async def _run(self, step: Mapping[str, Any]) -> None:
        with contextlib.suppress(MockExchangeError):
            await self._exchange.command(str(step["command"]), _arguments(step))


def _count(step: Mapping[str, Any]) -> int:
    return int(step.get("after_sent", 0))


def _arguments(step: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "command" and key not in WHEN}
