"""Whether an engine may be soaked: what it is set to, and how it is by its own word."""

from __future__ import annotations

import json

from proofs.experiment.case import NotSteady
from proofs.experiment.subject import RELEASE
from proofs.host import deployed
from proofs.host.shell import Host
from proofs.runner.run_proof import Run
from proofs.soak.options import effective
from proofs.verdict import Json


def settings(host: Host) -> dict[str, Json]:
    """In force for the unit, by its files and its environment.

    Raises:
        NotSteady: the engine would refuse them.
    """
    given = deployed.settings(host.look(*deployed.SHOW_ENVIRONMENT, quiet=True).stdout)
    words = [f"{name}={value}" for name, value in given.items()]
    shown = host.look("env", *words, str(RELEASE / "bin" / "hybrid-engine"), "config", "check", quiet=True)
    if shown.rc != 0:
        raise NotSteady((shown.stderr or shown.stdout).strip())
    return effective(shown.stdout)


def unwell(host: Host) -> str:
    """The checks that the engine fails; empty when it is healthy."""
    said = host.look(*Run.HEALTH, quiet=True)
    if said.rc == 0:
        return ""
    try:
        return "; ".join(
            f"{one['name']}: {one['detail']}" for one in json.loads(said.stdout)["checks"] if not one["ok"]
        )
    except (ValueError, KeyError, TypeError):
        return said.stderr.strip() or f"exit {said.rc}"
