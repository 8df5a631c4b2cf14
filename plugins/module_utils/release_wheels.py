"""The wheels that a release brings to a host: pinned by hash in a lock of the checkout, fetched and checked by it.

<checkout>/requirements/<list>.lock belongs to a list of requirements in pyproject.toml (dependencies, or an extra). It
is what pip reads with --require-hashes, and above each requirement a comment names every wheel with its hash. `make
lock` writes it, for every supported Python and machine.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("aarch64", "x86_64")
GLIBC_MINOR = 36  # of the oldest system that is supported; wheels for it run on all newer ones
PIP_S = 600
HEAD = """\
# The wheels that hosts get, each with its hash: nothing else is built into a release.
# Written by "make lock", for Python {pythons} on {machines}. Do not edit it.
"""
_WHEEL = re.compile(r"^# (\S+\.whl) sha256:([0-9a-f]{64})$")
_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*==[^\s\\;]+)(?= |$)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_MISMATCH = re.compile(r"^ *(\S.*?) \(from .*\n(?: *Expected (?:or )?(?:sha256 )?.*\n)+ *Got +([0-9a-f]{64})", re.M)
Wheels = Mapping[str, str]  # file name -> SHA-256
Pins = Mapping[str, Wheels]  # name==version -> its wheels


class WheelError(Exception):
    """The wheels cannot be had, or one is not what the lock says; the message says which, and what to do."""


def lock_file(checkout: Path, group: str) -> Path:
    """Where the lock of a list of requirements is."""
    return checkout / "requirements" / f"{group}.lock"


def read_lock(path: Path) -> dict[str, dict[str, str]]:
    """The wheels of a lock by requirement, {name==version: {file: SHA-256}}. Raises WheelError."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise WheelError(f"{path}: {error.strerror}: run make lock, which writes it") from None
    pins: dict[str, dict[str, str]] = {}
    wheels: dict[str, str] = {}
    hashes: set[str] = set()
    for line in lines:
        if match := _WHEEL.match(line):
            wheels[match[1]] = match[2]
        if match := _PIN.match(line):
            pins[match[1]], wheels, hashes = wheels, {}, set()
        hashes |= set(_HASH.findall(line))
        if hashes and not line.endswith("\\") and hashes != set(next(reversed(pins.values()), {}).values()):
            raise WheelError(f"{path}: hashes of pip and of the comments differ: run make lock, which writes it")
    return pins


def lock_text(pins: Pins) -> str:
    """The text of a lock."""
    parts = [HEAD.format(pythons=", ".join(PYTHONS), machines=" and ".join(MACHINES))]
    for pin, wheels in sorted(pins.items()):
        named = [f"# {name} sha256:{sha}\n" for name, sha in sorted(wheels.items())]
        hashes = "".join(f" \\\n    --hash=sha256:{sha}" for sha in sorted(set(wheels.values())))
        parts.append(f"{''.join(named)}{pin}{hashes}\n")
    return "\n".join(parts)


def make_lock(requirements: Sequence[str], scratch: Path) -> str:
    """The text of the lock of these requirements, from the package index. Raises WheelError."""
    pins: dict[str, dict[str, str]] = {}
    for python in PYTHONS:
        for machine in MACHINES:
            folder = scratch / f"py{python}-{machine}"
            run_pip([*requirements], folder, python, machine)
            for wheel in folder.glob("*.whl"):
                pins.setdefault(pin_of(wheel.name), {})[wheel.name] = sha256(wheel)
    return lock_text(pins)


def pin_of(wheel: str) -> str:
    """The requirement that a wheel answers, by its name.

    >>> pin_of("websocket_client-1.9.2-py3-none-any.whl")
    'websocket-client==1.9.2'
    """
    name, version = wheel.split("-")[:2]
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"


def glibc_of(wheels: Sequence[str]) -> str:
    """The oldest glibc that can load all of these, by their names; "" where any can, or there is none.

    >>> glibc_of(["a-1-py3-none-any.whl", "b-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"])
    '2.17'
    """
    needs = [(0, 0)]
    for wheel in wheels:
        tags = [(int(major), int(minor)) for major, minor in re.findall(r"manylinux_(\d+)_(\d+)_", wheel)]
        tags += [(2, 17)] * ("manylinux2014_" in wheel)
        needs += [min(tags)] if tags else []
    return ".".join(map(str, max(needs))) if max(needs) > (0, 0) else ""


def platforms(machine: str) -> list[str]:
    """Wheel platforms that every supported target can load, the newest first."""
    newer = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 16, -1)]
    return [*newer, f"manylinux2014_{machine}", f"linux_{machine}"]


def run_pip(words: Sequence[str], dest: Path, python: str, machine: str) -> None:
    """Fetch wheels into a directory. Raises WheelError, with one line for a wheel that has another hash."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    command += [f"--platform={name}" for name in platforms(machine)]
    try:
        process = subprocess.run([*command, f"--dest={dest}", *words], capture_output=True, text=True, timeout=PIP_S)
    except subprocess.TimeoutExpired:
        raise WheelError(f"pip could not fetch them within {PIP_S} s") from None
    if process.returncode != 0:
        raise WheelError(_explain(process.stderr))


def _explain(error: str) -> str:
    match = _MISMATCH.search(error)
    if match is None:
        return f"pip could not fetch them: {error.strip()[-600:]}"
    expected = " or ".join(re.findall(r"[0-9a-f]{64}", match[0].partition("Expected")[2])[:-1])
    name = os.path.basename(match[1].rpartition(" from ")[2].partition("#")[0])
    return f"{name} is refused: expected sha256 {expected}, actual {match[2]}"


def check(wheels: Sequence[Path], pins: Pins, lock: Path) -> None:
    """Compare wheels with their lock. Raises WheelError for the first that differs, or that the lock does not have."""
    expected = {name: sha for group in pins.values() for name, sha in group.items()}
    for wheel in wheels:
        actual = sha256(wheel)
        if wheel.name not in expected:
            raise WheelError(f"{wheel} is refused: {lock} does not have it (sha256 {actual})")
        if actual != expected[wheel.name]:
            raise WheelError(
                f"{wheel} is refused: expected sha256 {expected[wheel.name]}, actual {actual}; remove it, and it is"
                " fetched again"
            )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
