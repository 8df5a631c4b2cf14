"""Run a deployment against a lab and read what it says it did."""

from __future__ import annotations

import atexit
import functools
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.labs import CHECKOUT, Lab

UNIT = "hybrid-engine.service"
# A word of `play` for what concerns the engine alone: a deployment is quicker by a fifth without the flight recorder.
ENGINE_ALONE = "--skip-tags=flight_recorder"
DROPINS = f"/etc/systemd/system/{UNIT}.d"
CONFIG = "/etc/hybrid-engine/config.toml"
ROOT = "/opt/hybrid-engine"
CURRENT = f"{ROOT}/current"
HISTORY = "/var/lib/hybrid-deploy/releases.json"
DEPLOYMENTS = "/var/log/hybrid-engine/deployments.jsonl"
FINGERPRINT = (
    'find "$@" -xdev \\( -type f -o -type l -o -type d \\) -printf "%p %y %U:%G %m %l\\n" 2>/dev/null | sort; '
    'find "$@" -xdev -type f -print0 2>/dev/null | sort -z | xargs -0 -r sha256sum'
)


@dataclass(frozen=True)
class PlayResult:
    """What a playbook's run said. `changes` are the tasks that changed the host, `paths` the diff's headers."""

    rc: int
    out: str

    @property
    def changes(self) -> list[str]:
        task, changed = "", []
        for line in self.out.splitlines():
            if match := re.match(r"TASK \[(.*?)\] \*", line):
                task = match[1]
            elif line.startswith("changed: ["):
                changed.append(task.rpartition(" : ")[2])
        return changed

    @property
    def paths(self) -> list[str]:
        """Files that the diff shows, each once."""
        heads = re.findall(r"^\+\+\+ after: (/\S+)$", self.out, re.M)
        trees = re.findall(r"^/opt/\S+/releases/[^/:]+: (\S+) \(", self.out, re.M)
        return list(dict.fromkeys(heads + trees))

    @property
    def text(self) -> str:
        """Its output with the line breaks of YAML taken out."""
        return re.sub(r"\s+", " ", self.out)


def play(lab: Lab, playbook: str, *words: str, check: bool = True, **variables: object) -> PlayResult:
    """Run a playbook with extra variables; AssertionError with all of its output where it fails and `check`.

    What is deployed is a copy of the sources made once, for the checkout may be edited while the tests run.
    """
    variables = {"release_checkout": frozen(), "release_build_dir": CHECKOUT / "build", **variables}
    extra = [f"--extra-vars={name}={value}" for name, value in variables.items()]
    process = lab.ansible(f"{playbook}.yml", *words, *extra, check=check)
    return PlayResult(process.returncode, process.stdout + process.stderr)


@functools.cache
def frozen() -> Path:
    """A copy of the engine's sources as they are now, removed when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="checkout-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return checkout_with(folder)


def pid(lab: Lab) -> int:
    """The engine's main process, 0 where it does not run."""
    return int(lab.root("systemctl", "show", "--value", "--property=MainPID", UNIT).stdout)


def live(lab: Lab) -> str:
    """The name of the release that `current` points to; empty where there is none."""
    return lab.root("readlink", CURRENT, check=False).stdout.strip().rpartition("/")[2]


def history(lab: Lab) -> list[dict[str, Any]]:
    """The lines of the host's history of deployments; none where there is no such file."""
    lines = lab.root("cat", DEPLOYMENTS, check=False).stdout.splitlines()
    return [json.loads(line) for line in lines]


def fingerprint(lab: Lab, *places: str) -> str:
    """Every path below the places with its owner, mode, size, link and contents: equal when nothing changed."""
    return lab.root("sh", "-c", FINGERPRINT, "sh", *places).stdout


def checkout_with(folder: Path, **appended: str) -> Path:
    """A copy of the engine's sources with texts appended: {module without .py: text}. Another release, that is."""
    source = frozen() if appended else CHECKOUT
    shutil.copytree(source / "hybrid_engine", folder / "hybrid_engine", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "pyproject.toml", folder)
    shutil.copytree(source / "requirements", folder / "requirements")
    for module, text in appended.items():
        with (folder / "hybrid_engine" / f"{module}.py").open("a") as stream:
            stream.write(text)
    return folder


def flip_byte(lab: Lab, path: str) -> None:
    """Alter one byte in the middle of a file: same size, same name, other contents."""
    script = (
        "import sys; p = sys.argv[1]; d = bytearray(open(p, 'rb').read()); d[len(d) // 2] ^= 1; open(p, 'r+b').write(d)"
    )
    lab.root("python3", "-c", script, path)
