"""One thread of a process stopped from outside, by ptrace: it waits for ever, and all others run on.

A thread is stopped while it waits in a system call, so that it does not hold the interpreter's lock. The program that
stops it runs beside this one; when that ends, however it ends, the kernel lets the threads go on.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from proofs.errors import ProofError
from proofs.host.shell import Host

MAIN = "main thread"
_SECONDS = 5.0  # how long a thread may take to wait for something
# Its arguments: pairs of a process and the name of its thread ("": the main one). It prints when each was stopped. As a
# tracer it has to reap the threads when they are killed, or systemd would not see the end of their process.
_TRACER = """
import ctypes, json, os, select, sys, time

SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes, libc.ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long


def ptrace(request, tid):
    if libc.ptrace(request, tid, 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")


def read(pid, tid, name):
    with open(f"/proc/{pid}/task/{tid}/{name}") as file:
        return file.read()


def stop(pid, name, until):
    tids = [tid for tid in map(int, os.listdir(f"/proc/{pid}/task")) if read(pid, tid, "comm").strip() == name]
    tid = tids[0] if name else pid
    ptrace(SEIZE, tid)
    while time.monotonic() < until:
        call = read(pid, tid, "syscall")
        if read(pid, tid, "stat").rpartition(") ")[2][0] == "S" and not call.startswith("running"):
            at_s = time.monotonic()
            ptrace(INTERRUPT, tid)
            os.waitpid(tid, WALL)
            if read(pid, tid, "syscall") == call:  # it has not left that wait in between
                return {"tid": tid, "at_s": at_s}
            libc.ptrace(7, tid, 0, 0)  # PTRACE_CONT
        time.sleep(0.003)
    raise TimeoutError(f"{name or 'the main thread'} does not wait")


until = time.monotonic() + float(sys.argv[1])
pairs = list(zip(sys.argv[2::2], sys.argv[3::2]))
stopped = [stop(int(pid), name, until) for pid, name in pairs]
print(json.dumps(stopped), flush=True)
left = {each["tid"] for each in stopped}
while not select.select([sys.stdin], [], [], 0.02)[0]:
    for tid in list(left):
        try:
            if os.waitpid(tid, WALL | os.WNOHANG)[0]:
                left.discard(tid)
        except ChildProcessError:
            left.discard(tid)
"""


class CannotStop(ProofError):
    """A thread could not be stopped; the message is the tracer's."""


@dataclass(frozen=True)
class StoppedThread:
    """at_s: on CLOCK_MONOTONIC, just before it was stopped."""

    tid: int
    at_s: float


class StoppedThreads:
    """pids: by the name of the one thread that is stopped in each process. Raises CannotStop."""

    def __init__(self, host: Host, pids: Mapping[str, int]) -> None:
        host.recorder.intent("stop one thread of each process by ptrace", scope=host.scope, data=dict(pids))
        words = [word for name, pid in pids.items() for word in (str(pid), "" if name == MAIN else name)]
        argv = [sys.executable, "-ISBc", _TRACER, str(_SECONDS), *words]
        pipe = subprocess.PIPE
        self._tracer = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self._tracer.stdout
        line = self._tracer.stdout.readline()
        if not line:
            raise CannotStop(f"no thread was stopped: {self._tracer.communicate()[1].strip()[-300:]}")
        self.threads = {name: StoppedThread(**one) for name, one in zip(pids, json.loads(line), strict=True)}
        host.note("stopped threads", {name: vars(thread) for name, thread in self.threads.items()})

    def end(self) -> None:
        """Let those go on that are still there."""
        self._tracer.communicate()


@dataclass(frozen=True)
class ListedThread:
    """state: its letter."""

    tid: int
    name: str
    state: str


def list_threads(host: Host, pid: int) -> list[ListedThread]:
    """The threads of a process, by their files in /proc; the look at them is recorded."""
    files = sorted(str(path) for path in Path(f"/proc/{pid}/task").glob("*/stat"))
    return threads_in(host.look("grep", "-sH", "", *files).stdout)


def threads_in(output: str) -> list[ListedThread]:
    """What grep printed of such files."""
    lines = re.findall(r"^\S+/stat:(\d+) \((.*)\) (\w)", output, re.M)
    return [ListedThread(int(tid), name, state) for tid, name, state in lines]
