"""Faults for the next connections: each rule applies a number of times, or until it is cleared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KINDS = ("http", "hang", "accept_close", "silent", "garbage")


@dataclass(slots=True)
class Rule:
    """What to do to a coming connection; `left` None means until the command `behave`."""

    args: dict[str, Any]
    left: int | None = None


@dataclass(slots=True)
class Rules:
    """At most one rule of each kind in force."""

    waiting: dict[str, Rule] = field(default_factory=dict)

    def set(self, kind: str, args: dict[str, Any], times: int | None) -> None:
        assert kind in KINDS
        if times == 0:
            self.waiting.pop(kind, None)
        else:
            self.waiting[kind] = Rule(args, times)

    def take(self, kind: str) -> dict[str, Any] | None:
        """Apply the rule of this kind to one connection: its arguments, or None without a rule."""
        rule = self.waiting.get(kind)
        if rule is None:
            return None
        if rule.left is not None:
            rule.left -= 1
            if rule.left == 0:
                del self.waiting[kind]
        return rule.args

    def clear(self) -> None:
        self.waiting.clear()

    def as_dict(self) -> dict[str, Any]:
        return {kind: {**rule.args, "left": rule.left} for kind, rule in self.waiting.items()}
