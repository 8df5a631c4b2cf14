"""What systemd itself says of a unit before it is installed: whether it can be read, and how exposed it is."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence

from ansible.module_utils.service_unit import run


class Refused(Exception):
    """systemd would not have it, or it is more exposed than allowed; the message says what and why."""


def judge(unit: str, content: str, dropins: Mapping[str, str], exposure: float | None, to_come: Sequence[str]) -> float:
    """The exposure that `systemd-analyze security` gives, with these drop-ins ({name: text}).

    Staged under another name, since one of the real name would inherit the drop-ins that are installed. to_come:
    programs that may be missing now. Raises Refused.
    """
    staged = f"{unit.removesuffix('.service')}-staged.service"
    # Below /run, which no boot keeps; in check mode as well, for it is gone before the module answers.
    place = tempfile.mkdtemp(prefix="hybrid-stage-", dir="/run")
    try:
        path = os.path.join(place, staged)
        os.mkdir(f"{path}.d")
        texts = {path: content} | {f"{path}.d/{name}.conf": text for name, text in dropins.items()}
        for name, text in texts.items():
            with open(name, "w", encoding="utf-8") as stream:
                stream.write(text)
        # It exits 0 on unknown keys and only prints, so anything it prints is a refusal.
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path)
        said = [
            line.replace(f"{place}/", "").replace(staged, unit)
            for line in (done.stdout + done.stderr).splitlines()
            if line.strip()
        ]
        awaited = tuple(f"Command {name} is not executable: No such file or directory" for name in to_come)
        bad = [line for line in said if not (awaited and line.endswith(awaited))]
        if bad or (done.returncode != 0 and not said):
            raise Refused(f"systemd-analyze verify refuses {unit}, nothing was replaced: {bad}")
        done = run("systemd-analyze", "security", "--no-pager", "--offline=true", path)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    found = re.search(r"Overall exposure level[^:]*: ([0-9.]+)", done.stdout)
    if not found:
        raise Refused(f"systemd-analyze security gave no figure: {(done.stderr or done.stdout)[-300:]}")
    measured = float(found.group(1))
    if exposure is not None and measured > exposure:
        weights = re.findall(r"^✗ (\S+).*?([0-9.]+)\s*$", done.stdout, re.M)
        worst = ", ".join(f"{name} {cost}" for name, cost in sorted(weights, key=lambda w: -float(w[1]))[:8])
        raise Refused(
            f"{unit} scores {measured} in systemd-analyze security where {exposure} is allowed, "
            f"nothing was replaced. What weighs most: {worst}"
        )
    return measured
