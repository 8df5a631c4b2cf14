"""What is live on this host, as a proof has to be of it: release, config, host. Looks, and changes nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence.redaction import is_secret

ENGINE = Path("/opt/hybrid-engine/current/bin/hybrid-engine")
HEALTH = (str(ENGINE), "health", "--json")
MACHINE_ID = Path("/etc/machine-id")
SHOW_ENVIRONMENT = ("systemctl", "show", "hybrid-engine.service", "--property=Environment")
_MODE = "HYBRID_ENGINE__MODE"
_SECONDS = 30


class NotLive(ProofError):
    """It cannot be read here; the message says what and why."""


@dataclass(frozen=True)
class Live:
    """Digests as 64 hexadecimal digits; the machine id as in /etc/machine-id."""

    release_digest: str
    config_digest: str
    machine_id: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def read(engine: Path = ENGINE, machine_id: Path = MACHINE_ID) -> Live:
    """Ask the installed engine and this host.

    Raises:
        NotLive: there is no engine here, it does not answer, or the host has no machine id.
    """
    try:
        release = json.loads(_say(engine, "version", "--json"))["release_digest"]
    except (ValueError, KeyError, TypeError):
        raise NotLive(f"{engine} version: no release_digest") from None
    of_unit = settings(environment())
    config = re.search(r"\bconfig digest ([0-9a-f]{64})\b", _say(engine, "config", "check", **of_unit))
    if config is None:
        raise NotLive(f"{engine} config check: no digest")
    try:
        return Live(str(release), config[1], machine_id.read_text().strip())
    except OSError as error:
        raise NotLive(f"{machine_id}: {error.strerror}") from None


def environment() -> str:
    """What SHOW_ENVIRONMENT says; nothing where no systemd is."""
    try:
        return subprocess.run(SHOW_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=_SECONDS).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def settings(shown: str) -> dict[str, str]:
    """The engine's settings among what SHOW_ENVIRONMENT says of the unit, as the engine reads them, but in SHADOW.

    The mode is no part of the digest, and an engine that is armed would first ask the gate.
    """
    pairs = (word.partition("=") for word in shlex.split(shown.removeprefix("Environment=")))
    return {name: value for name, _, value in pairs if name.startswith("HYBRID_ENGINE__")} | {_MODE: "SHADOW"}


def credentials(shown: str, given: Path) -> list[str]:
    """Values that the unit was given and no recording may hold: its variables but the settings, and its credentials."""
    pairs = (word.partition("=") for word in shlex.split(shown.removeprefix("Environment=")))
    found = [value for name, _, value in pairs if is_secret(name)]
    for path in sorted(given.glob("*")):
        text = path.read_bytes().decode(errors="replace")
        found += [text, *text.splitlines()]
    return [value for value in map(str.strip, found) if value]


def _say(engine: Path, *arguments: str, **environment: str) -> str:
    try:
        done = subprocess.run(
            [str(engine), *arguments], capture_output=True, text=True, check=False, timeout=_SECONDS, errors="replace",
            env={**os.environ, **environment},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotLive(f"{engine}: {getattr(error, 'strerror', None) or 'no answer'}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotLive(f"{engine} {' '.join(arguments)}: exit {done.returncode}: {said[-1] if said else ''}")
    return done.stdout
