"""What the modules share: their options, systemctl, waiting for a healthy unit, writing files, masking secrets."""

import grp
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.address import hide_addresses
from ansible.module_utils.drift import DEPLOYED, ROLLED_BACK

UNITS = "/etc/systemd/system"
RUN_UNITS = "/run/systemd/system"
SHOWN = (
    "LoadState,ActiveState,SubState,Result,MainPID,InvocationID,NRestarts,ExecMainStatus,NeedDaemonReload,"
    "UnitFileState,DropInPaths,FragmentPath,User"
)
# What a diff must not show beside what is secret in addresses: values whose name says that they are secret.
SECRETS = re.compile(
    r"(?im)^([ \t]*(?:Environment=[\"']?)?\w*"
    r"(?:passw|passphrase|secret|token|api_?key|_key|jwt|dsn|cookie|_pass)\w*\s*=\s*).+$"
)


def options_of(documentation: str) -> dict[str, Any]:
    """A module's argument_spec, from the options of its DOCUMENTATION, so that there is one list of them.

    That is written as JSON, which is YAML to ansible-doc, for a host's Python reads JSON and may lack a reader of YAML.
    Not strict: a description may go on in the next line.
    """
    options: dict[str, dict[str, Any]] = json.loads(documentation, strict=False)["options"]
    return {name: {key: option[key] for key in option if key != "description"} for name, option in options.items()}


def run(*argv: str, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; never raises for its exit code. TimeoutExpired after `timeout` seconds."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, **options)


def show(unit: str) -> dict[str, str]:
    """What systemd knows of a unit, as {property: text}; also of one that does not exist."""
    process = run("systemctl", "show", f"--property={SHOWN}", unit)
    return dict(line.split("=", 1) for line in process.stdout.splitlines() if "=" in line)


def journal(unit: str, invocation: str, lines: int = 40, since: float = 0.0) -> list[str]:
    """The last lines of one start of a unit, its own and systemd's about it, the newest last.

    since: when it was started, in s since the epoch: earlier starts of the unit had lines as well.
    """
    # systemd's own lines about a start carry its id under another name, and arrive a moment later.
    run("journalctl", "--sync")
    about = [f"_SYSTEMD_INVOCATION_ID={invocation}", "+", f"INVOCATION_ID={invocation}", f"UNIT={unit}"]
    # Of a process that ends at once, journald may record the unit only.
    whole = [f"_SYSTEMD_UNIT={unit}", "+", f"UNIT={unit}"]
    process = run(
        "journalctl",
        "--no-pager",
        "--output=cat",
        # With both, the first lines are printed, and not the last.
        f"--since=@{since:.6f}" if since else f"--lines={lines}",
        *([*about, "+", whole[0]] if invocation else whole),
    )
    return process.stdout.splitlines()[-lines:]


def wait_until_healthy(
    unit: str, health: Sequence[str], deadline_s: float, settle_s: float, former: str = "", **who: Any
) -> dict[str, Any]:
    """Wait until a started unit is healthy: active, `health` (a command, if any) has exited 0, and the same process has
    stayed for `settle_s`. Returns {healthy, why, and what show() returns}.

    former: the id of the invocation before a restart that was queued and may not have begun yet.
    """
    began = time.monotonic()
    since, process, why = None, None, "it did not get ready"
    while True:
        now = time.monotonic()
        state = show(unit)
        active, main = state.get("ActiveState"), state.get("MainPID")
        if queued := bool(former) and state.get("InvocationID") == former:
            active = "queued"
        ended = active == "failed" or (active == "inactive" and now - began > 1)
        if ended or (not queued and state.get("SubState") == "auto-restart"):
            output = f"{active}, {state.get('Result')}, exit status {state.get('ExecMainStatus')}"
            return {"healthy": False, "why": f"it ended: {output}", **state}
        if active == "active":
            if process not in (None, main):
                return {"healthy": False, "why": "its process was replaced while it should have settled", **state}
            process = main
            if since is None:
                try:
                    answer = run(*health, **who) if health else None
                except subprocess.TimeoutExpired as late:
                    answer = subprocess.CompletedProcess(late.cmd, 124, "", f"no answer within {late.timeout:g} s")
                if answer is None or answer.returncode == 0:
                    since = now
                else:
                    text = (answer.stderr or answer.stdout).strip()
                    why = f"{' '.join(health)}: exit {answer.returncode}: {text[-400:]}"
            elif now - since >= settle_s:
                return {"healthy": True, "why": "", **state}
        if now - began > deadline_s:
            reason = "its restart did not begin" if queued else why
            return {"healthy": False, "why": f"{reason} within {deadline_s:g} s", **state}
        time.sleep(0.1)


def redacted(text: str) -> str:
    """The text as a diff may show it."""
    return SECRETS.sub(r"\1***", str(hide_addresses(text)))


def user_id(name: str) -> int | None:
    """None where there is no such user (yet)."""
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_id(name: str) -> int | None:
    """None where there is no such group (yet)."""
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def write(path: str, data: bytes, mode: int, owner: int = 0, group: int = 0) -> None:
    """Replace a file in one step and have it on the disk: a crash leaves the old one or the new one."""
    new = draft(path, data, mode, owner, group)
    try:
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


def draft(path: str, data: bytes, mode: int, owner: int, group: int) -> str:
    """A file beside the path with what is to be there, on the disk; its name. Raises OSError, and leaves none then."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle, name = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchown(stream.fileno(), owner, group)
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return name


def link(path: str, target: str) -> None:
    """Make a symbolic link, or point it elsewhere, in one step."""
    draft = f"{path}.new"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(draft):
        os.unlink(draft)
    os.symlink(target, draft)
    os.replace(draft, path)


def transaction_file(unit: str) -> str:
    """The record of a unit's unfinished change: under /run, since a boot starts what is in place anyway."""
    return f"/run/hybrid-deploy/{unit}.json"


def deployed_file(unit: str) -> str:
    """The record of what a deployment installed, with which the drift program compares the host."""
    return f"{DEPLOYED}/{unit}.json"


def rolled_back_folder(unit: str) -> str:
    """The markers of drop-ins that were rolled back by name, one each, under the drop-in's name."""
    return f"{ROLLED_BACK}/{unit}"


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
        process = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path)
        lines = [
            line.replace(f"{place}/", "").replace(staged, unit)
            for line in (process.stdout + process.stderr).splitlines()
            if line.strip()
        ]
        missing = tuple(f"Command {name} is not executable: No such file or directory" for name in programs)
        bad = [line for line in lines if not (missing and line.endswith(missing))]
        if bad or (process.returncode != 0 and not lines):
            raise Refused(f"systemd-analyze verify refuses {unit}, nothing was replaced: {bad}")
        process = run("systemd-analyze", "security", "--no-pager", "--offline=true", path)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    overall = re.search(r"Overall exposure level[^:]*: ([0-9.]+)", process.stdout)
    if not overall:
        raise Refused(f"systemd-analyze security gave no figure: {(process.stderr or process.stdout)[-300:]}")
    measured = float(overall.group(1))
    if exposure is not None and measured > exposure:
        weights = re.findall(r"^✗ (\S+).*?([0-9.]+)\s*$", process.stdout, re.M)
        worst = ", ".join(f"{name} {cost}" for name, cost in sorted(weights, key=lambda w: -float(w[1]))[:8])
        raise Refused(
            f"{unit} scores {measured} in systemd-analyze security where {exposure} is allowed, "
            f"nothing was replaced. What weighs most: {worst}"
        )
