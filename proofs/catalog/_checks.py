"""The comparisons that most cases are judged by, and their figures as a report's headline needs them."""

from __future__ import annotations

from collections.abc import Iterable

from proofs.verdict import Check, Json, Result


def equal(name: str, measured: Json, bound: Json, guard: bool = False) -> Check:
    return Check(name, measured, bound, measured == bound, guard)


def at_most(name: str, measured: float | None, most: float, guard: bool = False) -> Check:
    """measured: None where what was timed never happened."""
    return Check(name, measured, f"<= {most:g}", measured is not None and measured <= most, guard)


def at_least(name: str, measured: float, least: float, guard: bool = False) -> Check:
    return Check(name, measured, f">= {least:g}", measured >= least, guard)


def figures(results: Iterable[Result]) -> dict[str, Json]:
    """What the checks of these results measured, by their names."""
    return {check.name: check.measured for result in results for check in result.checks}
