"""A lab that is over has left nothing: no process, mount, cgroup or file, however it came to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab.labs import CHECKOUT, LAB_PY, STATE, SUITE, Lab, MakeLab, lab_py, wait_for
from tests.support import programs

pytestmark = pytest.mark.lab


def remains(name: str) -> list[str]:
    """Whatever there is of a lab: processes, mounts in any process's view, cgroups, files."""
    result = []
    place = str(STATE / name)
    for proc in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if place in line or f"--machine={name} " in line or f"connect {name}" in line:
                result.append(f"process {proc.name}: {line}")
        with suppress(OSError):
            if f"hybrid-engine-lab-{name}/" in (proc / "cgroup").read_text() + "/":
                result.append(f"process {proc.name} in its cgroup")
        with suppress(OSError):
            result += [f"mount seen by {proc.name}" for row in (proc / "mountinfo").open() if place in row]
    if (STATE / name).exists():
        result.append(str(STATE / name))
    for top, part in (("/sys/fs/cgroup", f"hybrid-engine-lab-{name}"), ("/run/systemd/nspawn", name)):
        for folder, folders, files in os.walk(top):
            result += [f"{folder}/{entry}" for entry in (*folders, *files) if part in entry]
    return result


def inner_processes(lab: Lab) -> list[Path]:
    """Every process in the lab's PID namespace, as /proc entries out here."""
    namespace = os.readlink(f"/proc/{lab.pid()}/ns/pid")
    result = []
    for proc in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(proc / "ns/pid") == namespace:
                result.append(proc)
    return result


def is_over(proc: Path) -> bool:
    with suppress(OSError):
        return (proc / "stat").read_text().rpartition(") ")[2][0] == "Z"
    return True


@pytest.fixture
def logged_in() -> Iterator[Callable[[Lab], None]]:
    """Open a session that stays, over a connection that ssh shares."""
    sessions = []

    def log_in(lab: Lab) -> None:
        argv = [str(Path(sys.executable).with_name("ansible")), "-i", str(lab.inventory), "nuc", "-m", "ping"]
        subprocess.run(argv, cwd=CHECKOUT, capture_output=True, check=True)
        argv = [sys.executable, str(LAB_PY), "ssh", lab.name, "--", "echo in; exec sleep 600"]
        session = programs.start(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        sessions.append(session)
        assert session.stdout
        assert session.stdout.readline() == "in\n"

    yield log_in
    for session in sessions:
        session.kill()
        session.communicate()


def kill_nspawn(lab: Lab) -> None:
    """What an impatient person does, which leaves the processes inside alone in the world."""
    for proc in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (proc / "cmdline").read_bytes()
            if line.startswith(b"systemd-nspawn\0") and f"--machine={lab.name}".encode() in line.split(b"\0"):
                os.kill(int(proc.name), signal.SIGKILL)


def kill_outermost(lab: Lab) -> None:
    """Kill the one process that all others of a lab hang on."""
    pid = lab.pid()
    while (parent := int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])) > 1:
        pid = parent
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("before", ["running", "off", "logged in", "nspawn killed", "machine killed"])
def test_down_leaves_nothing(before: str, make_lab: MakeLab, logged_in: Callable[[Lab], None]) -> None:
    lab = make_lab()
    inside = inner_processes(lab)
    assert len(inside) > 3
    assert remains(lab.name)
    if before == "off":
        lab_py("poweroff", lab.name)
    elif before == "logged in":
        logged_in(lab)
    elif before == "nspawn killed":
        kill_nspawn(lab)
    elif before == "machine killed":
        kill_outermost(lab)
        wait_for("everything inside ending with it", lambda: all(map(is_over, inside)), 10)
    assert lab_py("down", lab.name).stdout == f"{lab.name}: removed\n"
    assert [proc for proc in inside if not is_over(proc)] == []
    assert [what for what in remains(lab.name) if "[mux]" in what] == []
    # Somebody's own ssh ends by itself once the other side is gone.
    wait_for("sessions ending", lambda: not [what for what in remains(lab.name) if " ssh" in what], 10)
    assert remains(lab.name) == []
    assert lab_py("down", lab.name).stdout == f"{lab.name}: was not there\n"


MOMENTS: dict[str, Callable[[str], bool]] = {
    "its disk is being made": lambda name: (STATE / name).is_dir(),
    "its machine starts": lambda name: (STATE / name / "console.log").exists(),
    "it boots": lambda name: lab_py("pid", name, check=False).returncode == 0,
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted_up_leaves_nothing(moment: str, number: signal.Signals, lab_names: Callable[[], str]) -> None:
    name = lab_names()
    argv = [sys.executable, str(LAB_PY), "up", name, "--suite", SUITE]
    with programs.start(argv, stderr=subprocess.PIPE) as up:
        wait_for(moment, lambda: MOMENTS[moment](name))
        up.send_signal(number)
        code = up.wait(timeout=30)
        assert up.stderr
        output = up.stderr.read()
    if code in (0, -number) and lab_py("pid", name, check=False).returncode == 0:
        lab_py("down", name)  # on a busy machine it was done before the signal reached it
    else:
        assert (code, output) == (130, "lab: interrupted\n")
    # What was killed takes the kernel a moment to bury.
    wait_for("everything being gone", lambda: remains(name) == [], 10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_up_ends_a_starting_machine(
    number: signal.Signals, tmp_path: Path, lab_names: Callable[[], str]
) -> None:
    """What was started and cannot be found by its command line, which a process has only once it is itself."""
    name, nap = lab_names(), f"{10**6 + os.getpid()}"
    (tmp_path / "unshare").write_text(f"#!/bin/sh\nsleep {nap} & exec sleep {nap}\n")
    (tmp_path / "unshare").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    argv = [sys.executable, str(LAB_PY), "up", name, "--suite", SUITE]

    def asleep() -> list[str]:
        return subprocess.run(["pgrep", "-x", "-f", f"sleep {nap}"], capture_output=True, text=True).stdout.split()

    with programs.start(argv, env=environment, stderr=subprocess.PIPE) as up:
        wait_for("what is not yet a machine", lambda: len(asleep()) == 2)
        up.send_signal(number)
        assert up.wait(timeout=30) == 130
    wait_for("everything being gone", lambda: remains(name) == [] and not asleep(), 10)


def test_interrupted_playbook_leaves_nothing(lab_names: Callable[[], str]) -> None:
    name = lab_names()
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/lab_up.yml"]
    environment = {**os.environ, "LAB": name, "LAB_SUITE": SUITE}
    with programs.start(
        argv, cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as play:
        wait_for("its disk being made", lambda: (STATE / name).is_dir(), 60)
        os.killpg(play.pid, signal.SIGINT)
        assert play.wait(timeout=30) != 0
    wait_for("everything being gone", lambda: remains(name) == [], 15)


def test_down_cleans_up_after_a_killed_up(lab_names: Callable[[], str]) -> None:
    name = lab_names()
    up = programs.start([sys.executable, str(LAB_PY), "up", name, "--suite", SUITE])
    wait_for("its machine starting", lambda: (STATE / name / "console.log").exists())
    up.kill()
    up.wait()
    lab_py("down", name)
    assert remains(name) == []


def test_down_ends_a_machine_that_a_killed_up_was_about_to_start(tmp_path: Path, lab_names: Callable[[], str]) -> None:
    """Between fork and exec it has its parent's command line, the console, and a pipe to a parent that is gone."""
    name = lab_names()
    (tmp_path / "lab.py").write_text("import os, time\nos.closerange(3, 1000)\nos.pipe()\ntime.sleep(600)\n")
    argv = [sys.executable, str(tmp_path / "lab.py"), "up", name, "--suite", SUITE]

    def orphans() -> list[str]:
        return subprocess.run(["pgrep", "-f", " ".join(argv[1:])], capture_output=True, text=True).stdout.split()

    (STATE / name).mkdir(mode=0o700, parents=True)
    console = str(STATE / name / "console.log")
    with programs.start(["/bin/sh", "-c", '"$@" >"$0" &', console, *argv]) as shell:
        shell.wait()
        wait_for("an orphan", lambda: [Path(f"/proc/{pid}/stat").read_text().split()[3] for pid in orphans()] == ["1"])
        lab_py("down", name)
        assert orphans() == []
    assert remains(name) == []


def test_up_after_a_killed_up_starts_clean(lab_names: Callable[[], str]) -> None:
    name = lab_names()
    up = programs.start([sys.executable, str(LAB_PY), "up", name, "--suite", SUITE])
    wait_for("its disk being made", lambda: (STATE / name / "upper").exists())
    up.kill()
    up.wait()
    assert lab_py("up", name, "--suite", SUITE).stdout == f"{name}: booted ({SUITE})\n"
    assert lab_py("ssh", name, "--", "id -un").stdout == "operator\n"
