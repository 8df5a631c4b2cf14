"""What a case witnesses and measures: frozen dataclasses, and the strict decoding of their recorded JSON.

A field's type says what is accepted. JSON tells true from 1 and 1 from "1", and so does this: a figure that is missing,
additional, or of another type raises BadFigure, and the case cannot be judged. A case that records different figures
for different outcomes has a dataclass for each; they are told apart by their keys. A field with a default may be
missing, and is left out while it has that. One whose key is no Python name has that in its metadata, as "key".
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from math import isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from proofs.errors import ProofError
from proofs.verdict import Json


class BadFigure(ProofError, ValueError):
    """A figure that is missing or of another kind; the message names it."""


@dataclass(frozen=True)
class Rule:
    """What a value of JSON has to be."""

    what: str
    holds: Callable[[Json], bool]


def _is_number(value: Json) -> bool:
    return type(value) in (int, float) and isfinite(value)


def count_from(least: int) -> Rule:
    return Rule(f"a whole number from {least} on", lambda value: type(value) is int and value >= least)


def text_like(what: str, pattern: str) -> Rule:
    return Rule(what, lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None)


Count = Annotated[int, count_from(0)]
Positive = Annotated[int, count_from(1)]
Pid = Annotated[int, count_from(2)]
Seconds = Annotated[float, Rule("a number from 0 on", lambda value: _is_number(value) and value >= 0)]
Sha256 = Annotated[str, text_like("a SHA-256", "[0-9a-f]{64}")]
Invocation = Annotated[str, text_like("an InvocationID", "[0-9a-f]{32}")]
Row = dict[str, int | float | str | None]  # of a table; its columns are the engine's

_PLAIN = {
    int: Rule("an integer", lambda value: type(value) is int),
    float: Rule("a number", _is_number),
    str: Rule("a text", lambda value: isinstance(value, str)),
    bool: Rule("true or false", lambda value: isinstance(value, bool)),
    NoneType: Rule("null", lambda value: value is None),
}


def encode(figures: Any) -> Json:
    """A dataclass, or anything made of them, as the JSON that is recorded."""
    if is_dataclass(figures):
        values = [(one, getattr(figures, one.name)) for one in fields(figures)]
        return {_key(one): encode(value) for one, value in values if one.default is MISSING or value != one.default}
    if isinstance(figures, dict):
        return {name: encode(value) for name, value in figures.items()}
    return [encode(value) for value in figures] if isinstance(figures, list | tuple) else figures


def figures_of(measured: Any) -> dict[str, Json]:
    """A dataclass as the figures by name that are recorded."""
    return dict(encode(measured))


def decode(kind: Any, value: Json, name: str = "what was recorded") -> Any:
    """A value of that type, out of recorded JSON.

    Args:
        kind: a dataclass, one of the types above, a type of JSON, a Literal of one value, or a list, tuple, dict or
            union of these.

    Raises:
        BadFigure: it is nothing of that type.
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if kind is Figures:
        return Figures(value)
    if origin in (Union, UnionType):
        return _decode_union(args, value, name)
    if is_dataclass(kind):
        return _decode_fields(kind, value, name)
    if origin is list and isinstance(value, list | tuple):
        return [decode(args[0], one, name) for one in value]
    if origin is tuple and isinstance(value, list | tuple) and len(value) == len(args):
        return tuple(decode(arg, one, name) for arg, one in zip(args, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {text: decode(args[1], one, text) for text, one in value.items()}
    if origin is Literal:
        rule = Rule(f"{args[0]!r}", lambda value: type(value) is type(args[0]) and value == args[0])  # 1 is not True
    else:
        rule = args[1] if origin is Annotated else _PLAIN.get(kind, Rule(str(kind), lambda value: False))
    if not rule.holds(value):
        raise BadFigure(f"{name} is {value!r}, not {rule.what}")
    return value


def _decode_union(kinds: tuple[Any, ...], value: Json, name: str) -> Any:
    if isinstance(value, dict):  # of dataclasses, the one with these keys
        kinds = tuple(kind for kind in kinds if is_dataclass(kind) and not any(_key_problems(kind, value))) or kinds
    problem = None
    for kind in kinds:
        try:
            return decode(kind, value, name)
        except BadFigure as error:
            problem = problem or error
    raise problem or BadFigure(f"{name} is {value!r}")


def _decode_fields(kind: Any, value: Json, name: str) -> Any:
    if not isinstance(value, dict):
        raise BadFigure(f"{name} is {value!r}, not figures by name")
    for problem in _key_problems(kind, value):
        raise BadFigure(problem)
    names, types = {_key(one): one.name for one in fields(kind)}, get_type_hints(kind, include_extras=True)
    return kind(**{names[key]: decode(types[names[key]], one, key) for key, one in value.items()})


def _key_problems(kind: Any, value: dict[str, Json]) -> Iterator[str]:
    expected = {_key(one): one.default is MISSING for one in fields(kind)}
    yield from (f"{key} is not measured by this case" for key in sorted(value.keys() - expected.keys()))
    yield from (f"{key} was not measured" for key, required in expected.items() if required and key not in value)


def _key(one: Field[Any]) -> str:
    """The key of a field in the recorded JSON."""
    return str(one.metadata.get("key", one.name))


def argument_type(method: Callable[..., object]) -> Any:
    """What a method's first argument is declared as."""
    return next(iter(get_type_hints(method, include_extras=True).values()))


def return_type(method: Callable[..., object]) -> Any:
    return get_type_hints(method, include_extras=True)["return"]


class Figures:
    """Figures by name where there is no dataclass for them. Every reader raises BadFigure."""

    def __init__(self, recorded: Json) -> None:
        if not isinstance(recorded, dict):
            raise BadFigure(f"figures by name were due, not {recorded!r}")
        self._recorded = recorded

    def of(self, name: str, kind: Any = Any) -> Any:
        if name not in self._recorded:
            raise BadFigure(f"{name} was not measured")
        return decode(kind, self._recorded[name], name)

    def number(self, name: str) -> float:
        value: float = self.of(name, Seconds)
        return value

    def count(self, name: str) -> int:
        return int(self.of(name, Count))

    def status(self, name: str) -> int | None:
        """An exit status: negative for a signal, None for none."""
        value: int | None = self.of(name, int | None)
        return value

    def text(self, name: str) -> str:
        return str(self.of(name, str))

    def flag(self, name: str) -> bool:
        return bool(self.of(name, bool))

    def all(self, name: str) -> list[Json]:
        return list(self.of(name, list[Any]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._recorded)
