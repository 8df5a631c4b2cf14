"""Where two JSON values differ, as paths that a person can follow."""

from itertools import chain

from proofs.evidence.recorder import canonical
from proofs.verdict import Json


def differences(left: Json, right: Json, where: str = "") -> list[str]:
    """Where two JSON values differ, as PATH: left, but right. Elements that have a name or a case are called by it."""
    if canonical({"": left}) == canonical({"": right}):
        return []
    below = []
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted(left.keys() | right.keys())
        below = [differences(left.get(key), right.get(key), f"{where}.{key}" if where else key) for key in keys]
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        below = [differences(one, other, f"{where}[{_name(one) or number}]") for number, (one, other) in pairs]
    return list(chain.from_iterable(below)) or [f"{where}: {_short(left)}, but {_short(right)}"]


def _name(element: Json) -> str:
    return str(element.get("name") or element.get("case") or "") if isinstance(element, dict) else ""


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
