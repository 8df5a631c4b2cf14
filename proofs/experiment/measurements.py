"""Figures as they were recorded, read strictly: one that is missing, or of another kind than is due, is no figure.

JSON tells true from 1 and 1 from "1", and so does this: what is judged is a number, a count, a text or a yes or no, or
the case could not be judged (ERROR).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite

from proofs.errors import ProofError
from proofs.verdict import Json

_DIGEST = re.compile(r"[0-9a-f]{64}")
_INVOCATION = re.compile(r"[0-9a-f]{32}")


class BadFigure(ProofError, ValueError):
    """A figure that is missing or of another kind; the message names it."""


class Figures:
    """What a case measured or witnessed, by name. Every reader raises BadFigure."""

    def __init__(self, given: Json) -> None:
        if not isinstance(given, dict):
            raise BadFigure(f"figures by name were due, not {given!r}")
        self._given = given

    def of(self, name: str) -> Json:
        if name not in self._given:
            raise BadFigure(f"{name} was not measured")
        return self._given[name]

    def number(self, name: str, least: float = 0.0) -> float:
        """A finite number from `least` on; times are never negative."""
        return number_of(self.of(name), name, least)

    def maybe(self, name: str) -> float | None:
        """A number, or None: what was waited for did not come."""
        return None if self.of(name) is None else self.number(name)

    def count(self, name: str) -> int:
        return count_of(self.of(name), name)

    def status(self, name: str) -> int | None:
        """An exit status: negative for a signal, None for none."""
        value = self.of(name)
        if value is not None and type(value) is not int:
            raise BadFigure(f"{name} is {value!r}, not an exit status")
        return value

    def text(self, name: str) -> str:
        value = self.of(name)
        if not isinstance(value, str):
            raise BadFigure(f"{name} is {value!r}, not a text")
        return value

    def flag(self, name: str) -> bool:
        value = self.of(name)
        if not isinstance(value, bool):
            raise BadFigure(f"{name} is {value!r}, not true or false")
        return value

    def digest(self, name: str) -> str:
        return _shaped(self.of(name), name, _DIGEST, "a SHA-256")

    def invocation(self, name: str) -> str:
        return _shaped(self.of(name), name, _INVOCATION, "an InvocationID")

    def all(self, name: str) -> list[Json]:
        value = self.of(name)
        if not isinstance(value, list | tuple):
            raise BadFigure(f"{name} is {value!r}, not a list")
        return list(value)

    def counts(self, name: str) -> list[int]:
        return [count_of(value, name) for value in self.all(name)]

    def texts(self, name: str) -> list[str]:
        found = self.all(name)
        if not all(isinstance(value, str) for value in found):
            raise BadFigure(f"{name} is {found!r}, not texts")
        return found

    def below(self, name: str) -> Figures:
        return Figures(self.of(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __contains__(self, name: str) -> bool:
        return name in self._given


def number_of(value: Json, name: str, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < least:
        raise BadFigure(f"{name} is {value!r}, not a number from {least:g} on")
    return value


def count_of(value: Json, name: str) -> int:
    if type(value) is not int or value < 0:
        raise BadFigure(f"{name} is {value!r}, not a count")
    return value


def _shaped(value: Json, name: str, shape: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not shape.fullmatch(value):
        raise BadFigure(f"{name} is {value!r}, not {what}")
    return value
