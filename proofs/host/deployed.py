"""What is deployed on this host: the release, the effective config, the machine id. It reads, and changes nothing.

A bundle of proofs counts only for these three."""

import json
import os
import re
import shlex
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence.redaction import is_secret
from proofs.host import release_files
from proofs.host.regular_file import read_regular

ENGINE = Path("/opt/hybrid-engine/current/bin/hybrid-engine")
# As its user: root would follow what the engine may have put in the place of its database.
AS_ENGINE = ("setpriv", "--reuid=hybrid-engine", "--regid=hybrid-engine", "--clear-groups")
HEALTH = (*AS_ENGINE, str(ENGINE), "health", "--json")
MACHINE_ID = Path("/etc/machine-id")
SHOW_ENVIRONMENT = ("systemctl", "show", "hybrid-engine.service", "--property=Environment")
_MODE = "HYBRID_ENGINE__MODE"
_SECONDS = 30
_CREDENTIAL_BYTES = 1 << 20  # as many as systemd allows


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
    """Read them off the engine, its files and this host.

    Raises NotLive: no engine, no answer of it, files that are not its release's, or no machine id.
    """
    try:
        release = json.loads(_run(engine, "version", "--json"))["release_digest"]
        if release != release_files.digest(engine.resolve().parents[1]):
            raise NotLive(f"{engine} calls itself the release {release}, and its files are another")
    except (ValueError, KeyError, TypeError):
        raise NotLive(f"{engine} version: no release_digest") from None
    except release_files.AlteredRelease as error:
        raise NotLive(str(error)) from None
    of_unit = settings(environment())
    config = re.search(r"\bconfig digest ([0-9a-f]{64})\b", _run(engine, "config", "check", **of_unit))
    if config is None:
        raise NotLive(f"{engine} config check: no digest")
    try:
        return Live(str(release), config[1], machine_id.read_text().strip())
    except OSError as error:
        raise NotLive(f"{machine_id}: {error.strerror}") from None


def environment() -> str:
    """The output of SHOW_ENVIRONMENT; empty where there is no systemd."""
    try:
        return subprocess.run(SHOW_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=_SECONDS).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def settings(shown: str) -> dict[str, str]:
    """The engine's settings in the output of SHOW_ENVIRONMENT, as the engine reads them, but in SHADOW.

    The mode is no part of the digest, and an engine that is armed would first ask the gate.
    """
    pairs = _variables(shown)
    return {name: value for name, value in pairs if name.startswith("HYBRID_ENGINE__")} | {_MODE: "SHADOW"}


def credentials(shown: str, directory: Path) -> list[str]:
    """Secret values that no recording may hold: those of the unit's environment, and its credentials in `directory`.

    Raises IrregularFile: what stands there cannot be read, and so could not be left out.
    """
    values = [value for name, value in _variables(shown) if is_secret(name)]
    for path in sorted(directory.glob("*")):
        text = read_regular(path, _CREDENTIAL_BYTES).decode(errors="replace")
        values += [text, *text.splitlines()]
    return [value for value in map(str.strip, values) if value]


def _variables(shown: str) -> list[tuple[str, str]]:
    pairs = (word.partition("=") for word in shlex.split(shown.removeprefix("Environment=")))
    return [(name, value) for name, _, value in pairs]


def _run(engine: Path, *arguments: str, **environment: str) -> str:
    try:
        argv, variables = [str(engine), *arguments], os.environ | environment
        result = subprocess.run(
            argv, env=variables, capture_output=True, timeout=_SECONDS, errors="replace", check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotLive(f"{engine}: {getattr(error, 'strerror', None) or 'no answer'}") from None
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise NotLive(f"{engine} {' '.join(arguments)}: exit {result.returncode}: {lines[-1] if lines else ''}")
    return result.stdout
