"""Prerequisites: what has to hold before a run touches the host. Checking them changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from proofs.experiment.subject import CONFIG_DIR, RELEASE, STATE_DIR
from proofs.host import lock
from proofs.host.kind import systemd_version
from proofs.host.shell import Host, read_text
from proofs.host.unit import Unit
from proofs.restore import lease

ALLOWED_UNITS = ("hybrid-engine.service",)
_SPACE_MB = 48


@dataclass(frozen=True)
class Prerequisite:
    name: str
    ok: bool
    found: str
    remedy: str


def prerequisites(host: Host, unit_name: str) -> list[Prerequisite]:
    """All prerequisites with the state of each; later ones are left out where an earlier one makes them meaningless."""
    items = [_of("root", os.geteuid() == 0, f"uid {os.geteuid()}", "run it with sudo")]
    init = read_text("/proc/1/comm").strip()
    items.append(
        _of(
            "Linux, systemd as PID 1",
            sys.platform == "linux" and init == "systemd",
            init or sys.platform,
            "run it on the host that runs the engine",
        )
    )
    items.append(
        _of("unit in the allow-list", unit_name in ALLOWED_UNITS, unit_name, f"one of {', '.join(ALLOWED_UNITS)}")
    )
    if not all(item.ok for item in items):
        return items
    version = systemd_version(host)
    items.append(_of("systemd >= 252", _first_number(version) >= 252, version, "Debian 12 or newer"))
    unit = Unit(host, unit_name)
    load = unit.properties("LoadState").get("LoadState", "?")
    active = unit.properties("ActiveState").get("ActiveState", "?")
    remedy = "deploy the engine first (playbooks/deploy.yml)"
    items.append(_of("unit is loaded", load == "loaded", load, remedy))
    items.append(
        _of("unit is active or inactive", active in ("active", "inactive"), active, f"journalctl -u {unit_name}")
    )
    for path in (RELEASE / "lib" / "hybrid_engine", STATE_DIR, CONFIG_DIR):
        items.append(_of(f"{path} is there", path.is_dir(), "directory" if path.is_dir() else "missing", remedy))
    items.append(mode_allows(unit))
    free = shutil.disk_usage("/run").free >> 20
    items.append(_of(f"{_SPACE_MB} MB free in /run", free >= _SPACE_MB, f"{free} MB", "free memory"))
    writable = os.access("/run/systemd/system", os.W_OK)
    items.append(_of("/run/systemd/system is writable", writable, str(writable), "is /run mounted read-only?"))
    unfinished = Path("/run/hybrid-deploy", f"{unit_name}.json")
    items.append(
        _of("no deployment is under way", not unfinished.exists(), str(unfinished), "let playbooks/deploy.yml finish")
    )
    holder = lock.holder(lease.RUN_ROOT / "lock")
    items.append(_of("no other proof runs", not holder, holder or "none", "wait for its end, or stop its unit"))
    # The run that holds the host has a lease too, which is not due.
    due = [run for run in lease.pending() if not holder.startswith(f"run {run},")]
    items.append(_of("no undo is due", not due, ", ".join(due) or "none", "hybrid-proofs undo RUN"))
    return items


def mode_allows(unit: Unit) -> Prerequisite:
    mode = operators_mode(unit)
    return _of("mode is not LIVE", mode in ("SHADOW", "PAPER"), mode, "proofs never run on an engine that trades")


def _of(name: str, ok: bool, found: str, remedy: str) -> Prerequisite:
    return Prerequisite(name, ok, found, remedy)


def _first_number(text: str) -> int:
    match = re.search(r"\d+", text)
    return int(match[0]) if match else 0


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
    configured = _configured_mode(config_dir / "config.toml")
    return modes[-1] if overrides else configured


def _configured_mode(path: Path) -> str:
    try:
        return str(tomllib.loads(path.read_text()).get("mode", "SHADOW")).upper()
    except FileNotFoundError:
        return "SHADOW"  # the engine's default
    except (OSError, ValueError):
        return "?"
