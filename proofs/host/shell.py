"""The host as root sees it from a shell: commands through `sh`, /proc, pressure. Everything is recorded."""

import os
import platform
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from proofs.errors import ProofError
from proofs.evidence.recorder import EVENTS, Recorder
from proofs.host.identity import machine_identity
from proofs.verdict import Json

T = TypeVar("T")
_ENV = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "", "PAGER": "cat"}
# Every exit status is a result; which one is wanted is the caller's business.
_STATUSES = list(range(-64, 256))


class HostError(ProofError):
    """A command that had to work failed; the message has the command and its output."""


class WaitTimeout(ProofError):
    """A condition did not become true in time."""


class Interrupted(ProofError):
    """The run was asked to stop (Ctrl-C, SIGTERM, the end of its lease)."""


class Stop:
    """Whether the run was asked to stop, from a signal handler or any thread; whoever waits sees it at its next look.

    A plain flag, which any thread may read: a signal handler that set a threading.Event could meet its own lock.
    """

    asked = False

    def ask(self, *_signal: object) -> None:
        self.asked = True


@dataclass(frozen=True)
class Output:
    rc: int
    stdout: str
    stderr: str


class Host:
    """Runs commands and waits for conditions, on behalf of one scope ("stall", "stall/mutant ...")."""

    def __init__(self, recorder: Recorder, scope: str = "", stop: Stop | None = None) -> None:
        self.recorder = recorder
        self.scope = scope
        self.stop = stop or Stop()
        self._polled: tuple[tuple[str, ...], Output] | None = None

    def scoped(self, scope: str) -> "Host":
        return Host(self.recorder, scope, self.stop)

    def look(self, *argv: str, quiet: bool = False) -> Output:
        """Run something that changes nothing, and record it (quiet: a poll; its wait records the last one)."""
        output = _run(argv)
        if quiet:
            self._polled = argv, output
            return output
        return self._record("command", argv, output)

    def do(self, *argv: str, check: bool = True) -> Output:
        """Run something that changes the host, its intent first. Raises HostError: it failed and check is set."""
        self.recorder.intent("", scope=self.scope, argv=argv)
        output = self._record("command", argv, _run(argv))
        if check and output.rc != 0:
            raise HostError(f"{' '.join(argv)}: exit {output.rc}: {(output.stderr or output.stdout).strip()[:300]}")
        return output

    def send_signal(self, pid: int, number: signal.Signals) -> float:
        """Send a signal to a unit's main process, its intent first; returns when, in seconds on CLOCK_MONOTONIC.

        Raises HostError: systemd named no process; 0 would be the whole process group of this program.
        """
        what = f"kill -{number.name.removeprefix('SIG')} {pid}"
        if pid <= 1:
            raise HostError(f"{what}: the unit has no main process")
        self.recorder.intent(what, scope=self.scope)
        at_s = time.monotonic()
        os.kill(pid, number)
        return at_s

    def note(self, kind: str, data: Json) -> Json:
        """Put it into the evidence; returns it as it stands there (plain JSON, without credentials)."""
        self.recorder.write(kind, scope=self.scope, data=data)
        return self.recorder.recorded(data)

    def wait_for(self, what: str, seconds: float, probe: Callable[[], T | None], every: float = 0.1) -> T:
        """Call the probe until its result is truthy, and return that.

        Raises:
            WaitTimeout: it did not become truthy in that many seconds.
            Interrupted: the run is being stopped.
        """
        result = self._watch("wait_for", what, seconds, probe, every)
        if not result:
            raise WaitTimeout(f"{what} did not happen in {seconds:g} s")
        return result

    def poll(self, what: str, seconds: float, probe: Callable[[], T | None], every: float = 0.25) -> T | None:
        """As `wait_for`, but None when it did not come: what that means is judged later. Raises Interrupted."""
        return self._watch("poll", what, seconds, probe, every) or None

    def assert_never(self, what: str, seconds: float, probe: Callable[[], object], every: float = 0.25) -> bool:
        """Whether something does not happen for so many seconds; its first sign ends the watch. Raises Interrupted."""
        return not self._watch("assert_never", what, seconds, probe, every)

    def _watch(self, verb: str, what: str, seconds: float, probe: Callable[[], T], every: float) -> T:
        """Call the probe until its result is truthy or the time is over; record what was meant and what came."""
        start = time.monotonic()
        tries = 0
        self._polled = None
        while True:
            tries += 1
            look_start = time.monotonic()
            result = probe()
            now = time.monotonic()
            spent = now - start
            if result or spent >= seconds:
                data = {"verb": verb, "for": what, "seconds": round(spent, 3), "tries": tries, "came": bool(result)}
                self._record("waited", *(self._polled or ((), Output(0, "", ""))), data=data)
                return result
            # On a busy host a look takes long, and the engine needs the CPU as well.
            time.sleep(min(max(every, now - look_start), seconds - spent))
            if self.stop.asked:
                raise Interrupted(f"stopped while waiting for {what}")

    def _record(self, kind: str, argv: tuple[str, ...], output: Output, data: Json = None) -> Output:
        self.recorder.write(kind, scope=self.scope, argv=argv, **asdict(output), data=data)
        return output


@contextmanager
def unrecorded_host() -> Iterator[Host]:
    """A host for looks that belong to no run: commands are always recorded, and this recording is discarded."""
    with tempfile.TemporaryDirectory() as folder:
        yield Host(Recorder(Path(folder) / EVENTS))


def _run(argv: tuple[str, ...]) -> Output:
    import sh  # takes 0.1 s, and not every command of this program runs others

    # The command writes into memory of its own: two seconds after its end sh stops to read a pipe, whatever is left in
    # it. And timeout(1), not sh's _timeout: with that, every command took 0.1 s, the interval at which sh looks at its
    # clock.
    with _memory("stdout") as out, _memory("stderr") as err:
        try:
            timeout = sh.Command("timeout").bake("--kill-after=5", "90", _tty_out=False, _tty_in=False, _env=_ENV)
            command = timeout(*argv, _ok_code=_STATUSES, _return_cmd=True, _out=out, _err=err)
        except sh.CommandNotFound as error:  # no coreutils: not the kind of host that this is for
            return Output(127, "", f"{error}: not found")
        return Output(int(command.exit_code), _content(out), _content(err))


def _memory(name: str) -> BinaryIO:
    """A file in memory."""
    return open(os.memfd_create(name), "w+b")


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def read_text(path: Path | str, default: str = "") -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return default


def process_state(pid: int) -> str:
    """The letter of /proc/PID/stat (R, S, T, Z ...), or "" when there is no such process."""
    return read_text(f"/proc/{pid}/stat").rpartition(") ")[2][:1]


def cgroup2_mount() -> Path | None:
    """Where cgroup v2 is mounted, by /proc/self/mountinfo: not always /sys/fs/cgroup."""
    match = re.search(r"^(?:\S+ ){4}(\S+) .*? - cgroup2 ", read_text("/proc/self/mountinfo"), re.M)
    return Path(match[1]) if match else None


def pressure(control_group: str = "") -> dict[str, str]:
    """Stall time (PSI, not CPU use) of the host, and of the unit's own cgroup where that can be read."""
    kinds = ("cpu", "io", "memory")
    texts = {kind: read_text(f"/proc/pressure/{kind}") for kind in kinds}
    if control_group and (mount := cgroup2_mount()):
        texts |= {f"unit {kind}": read_text(f"{mount}{control_group}/{kind}.pressure") for kind in kinds}
    return {kind: text.strip() for kind, text in texts.items() if text.strip()}


def some_avg10(text: str) -> float | None:
    """Of a pressure file's text: percent of the last 10 s in which some task was stalled; None: it does not say.

    >>> some_avg10("some avg10=1.50 avg60=0.00 avg300=0.00 total=9"), some_avg10("")
    (1.5, None)
    """
    match = re.search(r"^some avg10=([0-9.]+) ", text, re.M)
    return float(match[1]) if match else None


def facts() -> dict[str, str]:
    """Who this host is: what the buglog opens with."""
    release = dict(line.split("=", 1) for line in read_text("/etc/os-release").splitlines() if "=" in line)
    return {
        "hostname": platform.node(),
        "machine_id": machine_identity(),
        "boot_id": read_text("/proc/sys/kernel/random/boot_id").strip(),
        "os": release.get("PRETTY_NAME", "?").strip('"'),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "cpus": str(os.cpu_count()),
    }
