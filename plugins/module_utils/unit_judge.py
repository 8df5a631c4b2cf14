"""Render a unit somewhere, and ask systemd's own checks about it: whether it can be read, and how exposed it is."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence

from ansible.module_utils.service_unit import run


def write_unit(folder: str, unit: str, content: str, dropins: Mapping[str, str]) -> None:
    """Write a unit and its drop-ins ({name: text}) into a directory."""
    os.makedirs(f"{folder}/{unit}.d", exist_ok=True)
    texts = {unit: content} | {f"{unit}.d/{name}.conf": text for name, text in dropins.items()}
    for name, text in texts.items():
        with open(f"{folder}/{name}", "w", encoding="utf-8") as stream:
            stream.write(text)


class Refused(Exception):
    """systemd refuses the unit, or it is more exposed than allowed; the message says what and why."""


def judge(unit: str, content: str, dropins: Mapping[str, str], exposure: float | None, programs: Sequence[str]) -> None:
    """Check a unit with its drop-ins ({name: text}). Raises Refused.

    Staged under another name, since one of the real name would inherit the drop-ins that are installed. programs: those
    that may be missing now, for this deployment is about to install them.
    """
    staged = f"{unit.removesuffix('.service')}-staged.service"
    # Below /run, which no boot keeps; in check mode too, because it is removed before the module ends.
    place = tempfile.mkdtemp(prefix="hybrid-stage-", dir="/run")
    try:
        path = os.path.join(place, staged)
        write_unit(place, staged, content, dropins)
        # It exits 0 on unknown keys and only prints, so anything it prints is a refusal.
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path)
        lines = [
            line.replace(f"{place}/", "").replace(staged, unit)
            for line in (done.stdout + done.stderr).splitlines()
            if line.strip()
        ]
        missing = tuple(f"Command {name} is not executable: No such file or directory" for name in programs)
        bad = [line for line in lines if not (missing and line.endswith(missing))]
        if bad or (done.returncode != 0 and not lines):
            raise Refused(f"systemd-analyze verify refuses {unit}, nothing was replaced: {bad}")
        done = run("systemd-analyze", "security", "--no-pager", "--offline=true", path)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    overall = re.search(r"Overall exposure level[^:]*: ([0-9.]+)", done.stdout)
    if not overall:
        raise Refused(f"systemd-analyze security gave no figure: {(done.stderr or done.stdout)[-300:]}")
    measured = float(overall.group(1))
    if exposure is not None and measured > exposure:
        weights = re.findall(r"^✗ (\S+).*?([0-9.]+)\s*$", done.stdout, re.M)
        worst = ", ".join(f"{name} {cost}" for name, cost in sorted(weights, key=lambda w: -float(w[1]))[:8])
        raise Refused(
            f"{unit} scores {measured} in systemd-analyze security where {exposure} is allowed, "
            f"nothing was replaced. What weighs most: {worst}"
        )
