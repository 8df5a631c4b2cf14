"""CPU load inside a unit's own cgroup: programs that burn CPU there, and the pressure that the kernel reports of it."""

import os
import subprocess
import sys
from pathlib import Path

from proofs.host import shell
from proofs.host.shell import Host, cgroup2_mount, process_state, read_text

MOST = 48
# It gives way to everything that is not idle. It ends with the one that started it (the end of its input), and with
# the unit, whose cgroup it is in.
_BURNER = """
import os, select, sys
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
print("burning", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(200000):
        pass
"""


def cgroup(control_group: str) -> Path | None:
    """The directory of a unit's cgroup, by systemd's name for it; None where the host shows none."""
    mount = cgroup2_mount()
    folder = Path(f"{mount}{control_group}") if mount and control_group else None
    return folder if folder and (folder / "cgroup.procs").exists() else None


def some_avg10(folder: Path) -> float | None:
    """Percent of the last 10 s in which some task of that cgroup waited for a CPU; None: it does not say."""
    return shell.some_avg10(read_text(folder / "cpu.pressure"))


class Burners:
    """So many that some always wait for a CPU, started in the cgroup at `folder`."""

    def __init__(self, host: Host, folder: Path) -> None:
        # Two for each CPU: wherever they run, one of them waits.
        count = min(2 * (os.cpu_count() or 1), MOST)
        host.recorder.intent(f"burn CPU with {count} idle-class processes in {folder}", scope=host.scope)
        self._host, self._folder = host, folder
        self._processes: list[subprocess.Popen[bytes]] = []
        argv = [sys.executable, "-ISBc", _BURNER]
        for _ in range(count):
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._processes.append(process)
            assert process.stdout
            process.stdout.readline()
            (folder / "cgroup.procs").write_text(str(process.pid))
        host.note("burners", {"pids": self.pids, "cgroup": str(folder)})

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def running(self) -> list[int]:
        """Those that run, or wait for a CPU, in that cgroup."""
        members = {int(word) for word in read_text(self._folder / "cgroup.procs").split()}
        return [pid for pid in self.pids if pid in members and process_state(pid) == "R"]

    def end(self) -> None:
        for process in self._processes:
            if process.stdin:
                process.stdin.close()
        for process in self._processes:
            process.wait()
