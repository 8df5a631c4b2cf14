"""Prerequisites: what has to hold before a run touches the host. Checking them changes nothing."""

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from proofs.experiment.subject import CONFIG_DIR, RELEASE, STATE_DIR
from proofs.host import lock, release_files
from proofs.host.kind import systemd_version
from proofs.host.shell import Host, read_text
from proofs.host.unit import Unit
from proofs.restore import lease

ALLOWED_UNITS = ("hybrid-engine.service",)
_SPACE_MB = 48


class Prerequisite(NamedTuple):
    name: str
    ok: bool
    found: str
    remedy: str


def prerequisites(host: Host, unit_name: str) -> list[Prerequisite]:
    """All prerequisites with the state of each; later ones are left out where an earlier one makes them meaningless."""
    init = read_text("/proc/1/comm").strip()
    ours = sys.platform == "linux" and init == "systemd"
    rows = [
        ("root", os.geteuid() == 0, f"uid {os.geteuid()}", "run it with sudo"),
        ("Linux, systemd as PID 1", ours, init or sys.platform, "run it on the host that runs the engine"),
        ("unit in the allow-list", unit_name in ALLOWED_UNITS, unit_name, f"one of {', '.join(ALLOWED_UNITS)}"),
    ]
    items = [Prerequisite(*row) for row in rows]
    return items + _of_host(host, Unit(host, unit_name)) if all(item.ok for item in items) else items


def _of_host(host: Host, unit: Unit) -> list[Prerequisite]:
    version = systemd_version(host)
    number = int((re.findall(r"\d+", version) or [0])[0])
    names = ("LoadState", "ActiveState", "NeedDaemonReload")
    load, active, stale = (unit.properties(name).get(name, "?") for name in names)
    undeployed = "deploy the engine first (playbooks/deploy.yml)"
    free = shutil.disk_usage("/run").free >> 20
    writable = os.access("/run/systemd/system", os.W_OK)
    deployment = Path("/run/hybrid-deploy", f"{unit.name}.json")
    holder = lock.holder(lease.RUN_ROOT / "lock")
    # The run that holds the host has a lease too, which is not due.
    due = [run for run in lease.pending() if not holder.startswith(f"run {run},")]
    folders = {path: path.is_dir() for path in (RELEASE / "lib" / "hybrid_engine", STATE_DIR, CONFIG_DIR)}
    keeps = "-- cursor:" in host.look("journalctl", "-n0", "--show-cursor", "-q", quiet=True).stdout
    rows = [
        ("systemd >= 252", number >= 252, version, "Debian 12 or newer"),
        ("unit is loaded", load == "loaded", load, undeployed),
        ("systemd has read the unit's files", stale == "no", f"NeedDaemonReload={stale}", "systemctl daemon-reload"),
        ("unit is active or inactive", active in ("active", "inactive"), active, f"journalctl -u {unit.name}"),
        *((f"{path} is there", ok, "directory" if ok else "missing", undeployed) for path, ok in folders.items()),
        (
            "the release is as it was built",
            not (altered := _alteration()),
            altered or "yes",
            "let playbooks/deploy.yml heal it",
        ),
        (
            "the journal keeps entries",
            keeps,
            "yes" if keeps else "none",
            "Storage=auto in journald.conf: proofs read it",
        ),
        mode_allows(unit),
        (f"{_SPACE_MB} MB free in /run", free >= _SPACE_MB, f"{free} MB", "free memory"),
        ("/run/systemd/system is writable", writable, str(writable), "is /run mounted read-only?"),
        ("no deployment is under way", not deployment.exists(), str(deployment), "let playbooks/deploy.yml finish"),
        ("no other proof runs", not holder, holder or "none", "wait for its end, or stop its unit"),
        ("no undo is due", not due, ", ".join(due) or "none", "hybrid-proofs undo RUN"),
    ]
    return [Prerequisite(*row) for row in rows]


def _alteration() -> str:
    """What of the release is not as it was built; empty when nothing is."""
    try:
        release_files.digest(RELEASE.resolve())
    except release_files.AlteredRelease as error:
        return str(error)
    return ""


def mode_allows(unit: Unit) -> Prerequisite:
    mode, why = operators_mode(unit), "proofs never run on an engine that trades"
    return Prerequisite("mode is not LIVE", mode in ("SHADOW", "PAPER"), mode, why)


def operators_mode(unit: Unit, config_dir: Path = CONFIG_DIR) -> str:
    """The mode of the operator's engine: LIVE if it runs in LIVE or would at its next start; "?" when unknown.

    The running engine reports its mode in its status. A start reads config, environment and command line; a later one
    of these outranks an earlier one.
    """
    got = unit.properties("StatusText", "Environment", "EnvironmentFiles", "ExecStart")
    runs = [word for word in got.get("StatusText", "").split()[:1] if word in ("SHADOW", "PAPER", "LIVE")]
    texts = [got.get("Environment", "")]
    texts += [read_text(path) for path in re.findall(r"(/\S+) \(ignore_errors", got.get("EnvironmentFiles", ""))]
    overrides = re.findall(r"\bHYBRID_ENGINE__MODE=[\"']?(\w+)", "\n".join(texts))
    overrides += re.findall(r"--mode[= ](\w+)", got.get("ExecStart", ""))
    modes = runs + [mode.upper() for mode in overrides]
    if "LIVE" in modes:
        return "LIVE"
    if overrides:
        return str(modes[-1])
    try:
        settings = tomllib.loads((config_dir / "config.toml").read_text())
        return str(settings.get("mode", "SHADOW")).upper()
    except FileNotFoundError:
        return "SHADOW"  # the engine's default
    except (OSError, ValueError):
        return "?"
