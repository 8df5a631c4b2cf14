"""What has to hold before anything is touched. Looking changes nothing, so `plan` does it too."""

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
    """All of them, each with what was found; the first that makes the rest senseless ends the list."""
    found = [_of("root", os.geteuid() == 0, f"uid {os.geteuid()}", "run it with sudo")]
    init = read_text("/proc/1/comm").strip()
    found.append(_of("Linux, systemd as PID 1", sys.platform == "linux" and init == "systemd", init or sys.platform,
                     "run it on the host that runs the engine"))  # fmt: skip
    found.append(
        _of("unit in the allow-list", unit_name in ALLOWED_UNITS, unit_name, f"one of {', '.join(ALLOWED_UNITS)}")
    )
    if not all(item.ok for item in found):
        return found
    version = systemd_version(host)
    found.append(_of("systemd >= 252", _first_number(version) >= 252, version, "Debian 12 or newer"))
    unit = Unit(host, unit_name)
    load = unit.properties("LoadState").get("LoadState", "?")
    active = unit.properties("ActiveState").get("ActiveState", "?")
    remedy = "deploy the engine first (playbooks/deploy.yml)"
    found.append(_of("unit is loaded", load == "loaded", load, remedy))
    found.append(
        _of("unit is active or inactive", active in ("active", "inactive"), active, f"journalctl -u {unit_name}")
    )
    for path in (RELEASE / "lib" / "hybrid_engine", STATE_DIR, CONFIG_DIR):
        found.append(_of(f"{path} is there", path.is_dir(), "directory" if path.is_dir() else "missing", remedy))
    found.append(mode_allows(unit))
    free = shutil.disk_usage("/run").free >> 20
    found.append(_of(f"{_SPACE_MB} MB free in /run", free >= _SPACE_MB, f"{free} MB", "free memory"))
    writable = os.access("/run/systemd/system", os.W_OK)
    found.append(_of("/run/systemd/system is writable", writable, str(writable), "is /run mounted read-only?"))
    unfinished = Path("/run/hybrid-deploy", f"{unit_name}.json")
    found.append(
        _of("no deployment is under way", not unfinished.exists(), str(unfinished), "let playbooks/deploy.yml finish")
    )
    holder = lock.holder(lease.RUN_ROOT / "lock")
    found.append(_of("no other proof runs", not holder, holder or "none", "wait for its end, or stop its unit"))
    # What runs has its lease: nobody may take the host from under it.
    due = [run for run in lease.pending() if not holder.startswith(f"run {run},")]
    found.append(_of("no undo is due", not due, ", ".join(due) or "none", "hybrid-proofs undo RUN"))
    return found


def mode_allows(unit: Unit) -> Prerequisite:
    mode = operators_mode(unit)
    return _of("mode is not LIVE", mode in ("SHADOW", "PAPER"), mode, "proofs never run on an engine that trades")


def _of(name: str, ok: bool, found: str, remedy: str) -> Prerequisite:
    return Prerequisite(name, ok, found, remedy)


def _first_number(text: str) -> int:
    match = re.search(r"\d+", text)
    return int(match[0]) if match else 0


def operators_mode(unit: Unit, config_dir: Path = CONFIG_DIR) -> str:
    """The mode of the operator's engine: LIVE if that is what runs, or what the next start would run; "?" unknown.

    What runs says so in its status. The next start reads, the later over the earlier: config, environment, its words.
    """
    got = unit.properties("StatusText", "Environment", "EnvironmentFiles", "ExecStart")
    runs = [word for word in got.get("StatusText", "").split()[:1] if word in ("SHADOW", "PAPER", "LIVE")]
    texts = [got.get("Environment", "")]
    texts += [read_text(path) for path in re.findall(r"(/\S+) \(ignore_errors", got.get("EnvironmentFiles", ""))]
    asked = re.findall(r"\bHYBRID_ENGINE__MODE=[\"']?(\w+)", "\n".join(texts))
    asked += re.findall(r"--mode[= ](\w+)", got.get("ExecStart", ""))
    modes = runs + [mode.upper() for mode in asked]
    if "LIVE" in modes:
        return "LIVE"
    configured = _configured_mode(config_dir / "config.toml")
    # What the environment or the command line says is over the file: then the file is not asked.
    return modes[-1] if asked else configured


def _configured_mode(path: Path) -> str:
    try:
        return str(tomllib.loads(path.read_text()).get("mode", "SHADOW")).upper()
    except FileNotFoundError:
        return "SHADOW"  # the engine's default
    except (OSError, ValueError):
        return "?"
