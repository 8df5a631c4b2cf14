"""What is asked of a bundle, and what the answer is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proofs.errors import ProofError
from proofs.host.deployed import Live
from proofs.verdict import Json

MAX_AGE_H = 168.0
STEPS = ("signature", "statement", "recording", "live", "freshness", "required", "verdicts", "buglog")


class Unusable(ProofError):
    """There is nothing to verify, or nothing to verify it with: no verdict, but a mistake of the call."""


@dataclass(frozen=True)
class Asked:
    """What a bundle has to be.

    signers: the allowed signers; None leaves the signature out, which only signing may. current: reads what is live;
    None leaves that out. required: names that have to PASS instead of those of the statement's kind of host.
    """

    signers: Path | None
    current: Callable[[], Live] | None
    max_age_h: float = MAX_AGE_H
    required: Sequence[str] | None = None
    now: Callable[[], float] = time.time


@dataclass
class Report:
    """What came of it. `steps`: the reasons of each step that was taken; `skipped`: those that were left out.
    body, signature: the bytes of the statement and its signature, as they were read and judged.
    """

    directory: Path
    steps: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    signer: str = ""
    body: bytes = b""
    signature: bytes = b""
    statement: Json = None

    @property
    def reasons(self) -> list[str]:
        said = [f"{step}: {reason}" for step, reasons in self.steps.items() for reason in reasons]
        untold = [step for step in STEPS if step not in self.steps and step not in self.skipped]
        return said + [f"{step}: not checked" for step in untold]

    @property
    def allowed(self) -> bool:
        return not self.reasons

    def as_json(self) -> dict[str, Json]:
        return {
            "decision": "ALLOW" if self.allowed else "DENY", "directory": str(self.directory), "signer": self.signer,
            "reasons": self.reasons, "steps": {step: not said for step, said in self.steps.items()},
            "skipped": self.skipped,
        }  # fmt: skip
