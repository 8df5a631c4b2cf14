"""What a bundle has to fulfil to be allowed, and the report of a verification."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence.host_input import printable
from proofs.host.deployed import Live
from proofs.verdict import Json

MAX_AGE_H = 168.0
STEPS = (
    "signature",
    "statement",
    "recording",
    "live",
    "freshness",
    "required",
    "verdicts",
    "buglog",
    "report",
    "files",
)
_LONGEST, _MOST = 500, 200  # characters of a reason, and reasons of a step


class VerificationError(ProofError):
    """The call cannot be answered: no bundle, no allowed signers or no ssh-keygen. The message says which."""


@dataclass(frozen=True)
class Requirements:
    """What a bundle has to fulfil.

    signers: the file of allowed signers; None skips the signature, which only signing may. current: reads the live
    release, config, unit and host; None skips that comparison. required: names of proofs that have to PASS, instead of
    those of the statement's kind of host. despite_signature: look on where the signature does not hold, which denies
    the bundle all the same. now: seconds since 1970.
    """

    signers: Path | None
    current: Callable[[], Live] | None
    max_age_h: float = MAX_AGE_H
    required: Sequence[str] | None = None
    despite_signature: bool = False
    now: Callable[[], float] = time.time


@dataclass
class Report:
    """The result of a verification: by step, the reasons to deny (none: the step holds), or why it was skipped.

    body, signature: the bytes of the statement and of its signature, as they were read and judged.
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
        reasons = []
        for step, problems in self.steps.items():
            reasons += [printable(f"{step}: {reason}", _LONGEST) for reason in problems[:_MOST]]
            reasons += [f"{step}: and {len(problems) - _MOST} more"] * (len(problems) > _MOST)
        missing = [step for step in STEPS if step not in self.steps and step not in self.skipped]
        return reasons + [f"{step}: not checked" for step in missing]

    def skip_rest(self, why: str) -> None:
        """Say of the steps that were not begun why they are not looked at."""
        self.skipped |= {step: why for step in STEPS if step not in self.steps and step not in self.skipped}

    @property
    def allowed(self) -> bool:
        return not self.reasons

    def as_json(self) -> dict[str, Json]:
        return {
            "decision": "ALLOW" if self.allowed else "DENY",
            "directory": str(self.directory),
            "signer": self.signer,
            "reasons": self.reasons,
            "steps": {step: not problems for step, problems in self.steps.items()},
            "skipped": self.skipped,
        }
