"""What is deployed on this host: release, effective config, unit and machine. It reads, and changes nothing.

A bundle of proofs counts only for these four."""

import json
import os
import re
import shlex
import subprocess
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence import unit_parts
from proofs.evidence.redaction import is_secret
from proofs.host import release_files
from proofs.host.identity import machine_identity
from proofs.host.regular_file import read_regular
from proofs.verdict import Json

ENGINE = Path("/opt/hybrid-engine/current/bin/hybrid-engine")
# As its user: root would follow what the engine may have put in the place of its database.
AS_ENGINE = ("setpriv", "--reuid=hybrid-engine", "--regid=hybrid-engine", "--clear-groups")
HEALTH = (*AS_ENGINE, str(ENGINE), "health", "--json")
UNIT = "hybrid-engine.service"
SHOW_ENVIRONMENT = ("systemctl", "show", UNIT, "--property=Environment")
_MODE = "HYBRID_ENGINE__MODE"
_SECONDS = 30
_CREDENTIAL_BYTES = 1 << 20  # as many as systemd allows


class NotLive(ProofError):
    """It cannot be read here; the message says what and why."""


@dataclass(frozen=True)
class Live:
    """Digests as 64 hexadecimal digits; the machine's identity; the unit's parts by their names."""

    release_digest: str
    config_digest: str
    machine_id: str
    unit_digest: str
    unit_parts: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        return asdict(self)


def read(engine: Path = ENGINE, root: Path = Path("/")) -> Live:
    """Read them off the engine, its files and this host.

    Raises NotLive: no engine, no answer of it, files that are not its release's, a unit that does not run or is not in
    force as its files say, or no machine id.
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
    checked = _run(engine, "config", "check", **of_unit)
    config = re.search(r"\bconfig digest ([0-9a-f]{64})\b", checked)
    if config is None:
        raise NotLive(f"{engine} config check: no digest")
    shown = _output(*show_unit(UNIT))
    if state := _not_in_force(shown):
        raise NotLive(f"{UNIT} {state}")
    try:
        parts = parts_of_unit(shown, checked)
    except OSError as error:
        raise NotLive(f"{error.filename}: {error.strerror}") from None
    if not (machine_id := machine_identity(root)):
        raise NotLive("/etc/machine-id is empty or missing, so this host has no identity: systemd-machine-id-setup")
    return Live(str(release), config[1], machine_id, unit_parts.digest(parts), tuple(parts))


def show_unit(unit: str) -> tuple[str, ...]:
    """The command whose output `parts_of_unit` reads."""
    return ("systemctl", "show", unit, "--property=FragmentPath,DropInPaths,NeedDaemonReload,MainPID")


def parts_of_unit(shown: str, checked: str) -> list[str]:
    """The parts of a unit, sorted: those of its environment only while its process is there.

    shown, checked: outputs of `show_unit` and `hybrid-engine config check`. Raises OSError: a file cannot be read.
    """
    values = _values(shown)
    paths = f"{values.get('FragmentPath', '')} {values.get('DropInPaths', '')}".split()
    parts = [unit_parts.of_file(path, Path(path).read_bytes()) for path in paths]
    if (pid := values.get("MainPID", "0")) != "0":
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since it was asked for
            parts += unit_parts.of_environment(Path("/proc", pid, "environ").read_bytes())
    return sorted([*parts, *unit_parts.of_config(checked)])


def _values(shown: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def _not_in_force(shown: str) -> str:
    values = _values(shown)
    if values.get("NeedDaemonReload", "no") != "no":
        return "has files that are not in force; systemctl daemon-reload"
    return "does not run, so that its environment is not known" if values.get("MainPID", "0") == "0" else ""


def environment() -> str:
    """The output of SHOW_ENVIRONMENT; empty where there is no systemd."""
    return _output(*SHOW_ENVIRONMENT)


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_SECONDS).stdout
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
