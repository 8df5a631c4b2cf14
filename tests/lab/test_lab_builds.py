"""Building a root file system, with a debootstrap that only pretends; and what a lab says when it cannot be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.labs import LAB_PY, STATE, lab_py, wait_for
from tests.support import programs

NAP = 10**6 + os.getpid()  # seconds that nobody else sleeps
pytestmark = pytest.mark.lab
# The first word with a slash is the directory, which must not be there yet.
DEBOOTSTRAP = """#!/bin/sh
for word; do case $word in /*) target=$word; break;; esac; done
mkdir "$target" "$target/etc" || exit 9
echo partial > "$target/etc/partial" && echo run >> {log}
{then}
"""


@pytest.fixture
def pretending(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment whose debootstrap makes a directory and then does `then`, and whose cache is empty."""

    def environment(then: str) -> dict[str, str]:
        tools = tmp_path / "bin"
        tools.mkdir()
        script = DEBOOTSTRAP.format(log=tmp_path / "log", then=then)
        for name, text in (("debootstrap", script), ("chroot", "#!/bin/sh\n")):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        return {"PATH": f"{tools}:{os.environ['PATH']}", "HYBRID_LAB_CACHE": str(tmp_path / "cache")}

    return environment


def test_two_builders_at_once_build_once(tmp_path: Path, pretending: Callable[[str], dict[str, str]]) -> None:
    environment = {**os.environ, **pretending(f"while ! test -e {tmp_path}/go; do :; done")}
    argv = [sys.executable, str(LAB_PY), "build", "--suite", "trixie"]
    builders = [programs.start(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    wait_for("the build starting", (tmp_path / "log").exists)
    stderrs = [builder.stderr for builder in builders]
    output = [stderr.readline() for stderr in stderrs if stderr]  # both have said what they do
    assert sorted(line.split()[1] for line in output) == ["another", "building"]
    (tmp_path / "go").touch()
    answers = {builder.communicate()[0] for builder in builders}
    assert len(answers) == 1
    built = Path(answers.pop().strip())
    assert (built / "etc/partial").exists()
    assert (tmp_path / "log").read_text() == "run\n"
    assert list((tmp_path / "cache").iterdir()) == [built]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing(
    number: signal.Signals, tmp_path: Path, pretending: Callable[[str], dict[str, str]]
) -> None:
    environment = {**os.environ, **pretending(f"sleep {NAP} & sleep {NAP}")}
    builder = programs.start([sys.executable, str(LAB_PY), "build"], env=environment)
    wait_for("the build starting", (tmp_path / "log").exists)
    wait_for("its children", lambda: len(sleepers()) == 2)
    builder.send_signal(number)
    assert builder.wait(timeout=20) == 130
    assert not (tmp_path / "cache").exists()
    wait_for("its children ending", lambda: not sleepers(), 5)


def test_killed_build_is_not_cached(tmp_path: Path, pretending: Callable[[str], dict[str, str]]) -> None:
    environment = pretending(f"test -e {tmp_path}/go || sleep {NAP}")
    builder = programs.start([sys.executable, str(LAB_PY), "build"], env={**os.environ, **environment})
    wait_for("the build starting", (tmp_path / "log").exists)
    builder.kill()
    builder.wait()
    wait_for("its children ending", lambda: not sleepers(), 5)
    (tmp_path / "go").touch()
    built = Path(lab_py("build", env=environment).stdout.strip())
    assert list((tmp_path / "cache").iterdir()) == [built]
    assert (tmp_path / "log").read_text() == "run\nrun\n"


def test_failed_build_shows_debootstrap_output(tmp_path: Path, pretending: Callable[[str], dict[str, str]]) -> None:
    process = lab_py("build", check=False, env=pretending("echo 'E: Failed getting release file'; exit 1"))
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        "lab: error: debootstrap of bookworm failed with 1: E: Failed getting release file"
    )
    assert not (tmp_path / "cache").exists()


def sleepers() -> list[str]:
    """Processes that the pretended debootstrap left sleeping."""
    expected = f"sleep\0{NAP}\0".encode()
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if _read(path) == expected]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def in_mounts(mounts: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run lab.py where `mounts` (shell) was done to a private view of the machine."""
    command = f'{mounts}; exec "$@"'
    argv = ["unshare", "--mount", "sh", "-ec", command, "sh", sys.executable, str(LAB_PY), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("mounts", "output"),
    [
        ("mount --bind /dev/null /usr/sbin/debootstrap", "run `apt-get install debootstrap`"),
        ("mount --bind /dev/null /usr/bin/systemd-nspawn", "run `apt-get install systemd-container`"),
        (
            f"mkdir -p {STATE}; mount -t tmpfs -o size=5m tmpfs {STATE}",
            "300 MB needed: make room, or set HYBRID_LAB_STATE",
        ),
    ],
)
def test_unfit_machine_is_refused_in_one_line(mounts: str, output: str) -> None:
    process = in_mounts(mounts, "up", "lab-refused")
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert process.stderr.startswith("lab: error: ")
    assert output in process.stderr
    assert not (STATE / "lab-refused").exists()


def test_full_disk_is_reported_before_a_build(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=50m tmpfs {tmp_path}"
    process = in_mounts(f"{mount}; export HYBRID_LAB_CACHE={tmp_path}/cache", "build")
    assert (process.returncode, process.stderr.count("\n")) == (1, 1)
    assert "50 MB free, 900 MB needed: make room, or set HYBRID_LAB_CACHE" in process.stderr


def test_non_root_user_gets_an_alternative() -> None:
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-B", "-", "up"]
    program = f"import sys; sys.path.insert(0, {str(LAB_PY.parent)!r}); import lab; sys.exit(lab.main())"
    process = subprocess.run(argv, input=program, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr.count("\n")) == (1, 1)
    assert "a lab needs root: run it with sudo, or use a real host instead" in process.stderr


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["up", "No_Name"], "LAB='No_Name': a lab's name is 1 to 32 of a-z, 0-9 and inner hyphens"),
        (["up", "../x"], "LAB='../x': a lab's name is"),
        (["up", "lab-x", "--suite", "buster"], "suite 'buster' is unknown: LAB_SUITE is one of bookworm, trixie"),
        (["reboot", "lab-none"], "lab-none does not exist: `make lab-up LAB=lab-none` makes it"),
        (["ssh", "lab-none", "true"], "lab-none does not exist: `make lab-up LAB=lab-none` makes it"),
    ],
)
def test_usage_error_is_one_line(words: list[str], output: str) -> None:
    process = lab_py(*words, check=False)
    assert (process.returncode, process.stdout, process.stderr.count("\n")) == (1, "", 1)
    assert output in process.stderr
