"""Where two JSON values differ, as paths that a person can follow."""

from __future__ import annotations

from proofs.evidence.recorder import canonical
from proofs.verdict import Json


def differences(said: Json, found: Json, where: str = "") -> list[str]:
    """Where two JSON values differ, as PATH: one, other. Elements that have a name or a case are called by it."""
    if canonical({"": said}) == canonical({"": found}):
        return []
    if isinstance(said, dict) and isinstance(found, dict):
        keys = sorted(said.keys() | found.keys())
        below = [differences(said.get(key), found.get(key), f"{where}.{key}" if where else key) for key in keys]
    elif isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        pairs = enumerate(zip(said, found, strict=True))
        below = [differences(one, other, f"{where}[{_called(one, number)}]") for number, (one, other) in pairs]
    else:
        below = []
    return [line for lines in below for line in lines] or [f"{where}: {_short(said)}, but {_short(found)}"]


def _called(element: Json, number: int) -> str:
    if isinstance(element, dict):
        return str(element.get("name") or element.get("case") or number)
    return str(number)


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
