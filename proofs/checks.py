"""What has to hold before anything is touched. Looking changes nothing, so `plan` does it too."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from proofs import lease
from proofs.faults import CONFIG_DIR, RELEASE, STATE_DIR
from proofs.host import Host, read_text
from proofs.in_place import not_a_lab
from proofs.unit import Unit

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
    mode = operators_mode(unit)
    found.append(
        _of("mode is not LIVE", mode in ("SHADOW", "PAPER"), mode, "proofs never run on an engine that trades")
    )
    free = shutil.disk_usage("/run").free >> 20
    found.append(_of(f"{_SPACE_MB} MB free in /run", free >= _SPACE_MB, f"{free} MB", "free memory"))
    writable = os.access("/run/systemd/system", os.W_OK)
    found.append(_of("/run/systemd/system is writable", writable, str(writable), "is /run mounted read-only?"))
    unfinished = Path("/run/hybrid-deploy", f"{unit_name}.json")
    found.append(
        _of("no deployment is under way", not unfinished.exists(), str(unfinished), "let playbooks/deploy.yml finish")
    )
    due = lease.pending()
    found.append(_of("no undo is due", not due, ", ".join(due) or "none", "hybrid-proofs undo RUN"))
    return found


def _of(name: str, ok: bool, found: str, remedy: str) -> Prerequisite:
    return Prerequisite(name, ok, found, remedy)


def _first_number(text: str) -> int:
    match = re.search(r"\d+", text)
    return int(match[0]) if match else 0


def systemd_version(host: Host) -> str:
    return host.look("systemctl", "--version", quiet=True).stdout.partition("\n")[0]


def operators_mode(unit: Unit, config_dir: Path = CONFIG_DIR) -> str:
    """The mode that the operator's engine runs in, by its environment or config; "?" when that cannot be told."""
    environment = unit.properties("Environment").get("Environment", "")
    match = re.search(r"\bHYBRID_ENGINE__MODE=\"?(\w+)", environment)
    if match:
        return match[1].upper()
    try:
        return str(tomllib.loads((config_dir / "config.toml").read_text()).get("mode", "SHADOW")).upper()
    except FileNotFoundError:
        return "SHADOW"  # the engine's default
    except (OSError, ValueError):
        return "?"


def kind_of_host(host: Host) -> str:
    """ "lab" or "nuc": what a kind cannot show at all is not in its required set."""
    return "nuc" if not_a_lab(host) else "lab"
