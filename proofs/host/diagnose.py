"""Collects what to look at on a host when something is wrong into one report. Changes nothing on the host.

Every look is a shell command, reported with its output. So it works where no engine runs or was ever deployed, and
where there is no Python. A command that is missing is named and fails nothing. Credentials are removed before anything
is written or shown.
"""

import argparse
import re
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from proofs.evidence import host_input
from proofs.evidence.redaction import Redactor
from proofs.evidence.terminal import complain, progress, show
from proofs.host import deployed

# Sequences that would move a cursor.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\S\n\t ]|[\x00-\x08\x0e-\x1f\x7f]")
UNIT = "hybrid-engine.service"
LIVE = "/opt/hybrid-engine/current/bin/hybrid-engine"
SHOWN_CHARACTERS = 1 << 18  # of an output
MOST_CHARACTERS = 1 << 23  # a longer output is refused
SECONDS = 30.0  # a look that takes longer is ended, and named: a command hangs on a dead mount
ACTIVITY_S = 10
# What pidstat says of the same time stands between the two looks, where there is a pidstat.
ACTIVITY_SHELL = f"""\
look() {{
    echo @up; cat /proc/uptime; echo @cpu; grep '^cpu ' /proc/stat; echo @disks; cat /proc/diskstats
    echo @tasks; cat /proc/[0-9]*/stat 2>/dev/null
}}
echo @ticks; getconf CLK_TCK; look
echo @pidstat; if command -v pidstat >/dev/null; then pidstat -u 1 {ACTIVITY_S} 2>&1; else sleep {ACTIVITY_S}; fi
look; echo @end"""
_TASK = re.compile(r"(\d+) \((.*)\) (\S) (.*)")
_STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_MOST = 15
_GROUP = (
    "group=$(systemctl show --value --property=ControlGroup " + UNIT + ");"
    " mount=$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)"
)


class Output(NamedTuple):
    """A command's exit status and both its streams. rc 127: there is no such program; 124: it took too long."""

    rc: int
    text: str


Run = Callable[[str, float], Output]  # arguments: a shell text, and its time limit in seconds


class Look(NamedTuple):
    """shell: the command; shown: its name in the report; needs: the package that has the program."""

    shell: str
    shown: str = ""
    needs: str = ""
    seconds: float = SECONDS
    answers: tuple[int, ...] = (0,)  # exit statuses of a complete answer

    @property
    def name(self) -> str:
        return self.shown or self.shell


_LIMITS = "MemoryCurrent,MemoryMax,CPUUsageNSec,TasksCurrent,TasksMax"
_ACTIVITY = Look(ACTIVITY_SHELL, f"two looks at /proc, {ACTIVITY_S} s apart", seconds=SECONDS + ACTIVITY_S)
# The ten looks of the field notes, in their order, and what an operator looks at next.
PARTS: dict[str, tuple[Look, ...]] = {
    "time": (Look("date --iso-8601=seconds"), Look("timedatectl show --property=NTPSynchronized,Timezone")),
    "host and kernel": (
        Look("hostname"),
        Look("uname -a"),
        Look("cat /etc/os-release"),
        Look("systemd-detect-virt || true"),
        Look("systemctl --version"),
    ),
    "uptime": (Look("uptime", needs="procps"),),
    "pressure (PSI: stall time, not CPU use)": (
        Look("cd /proc/pressure && grep -H . cpu memory io", "/proc/pressure: the host's"),
        Look(
            f"{_GROUP}; [ \"$group\" ] || {{ echo '{UNIT} has no cgroup: it does not run'; exit 0; }};"
            ' cd "$mount$group" && grep -H . cpu.pressure memory.pressure io.pressure',
            f"{UNIT}: its own",
        ),
    ),
    "load": (Look("cat /proc/loadavg"), Look("nproc")),
    "memory": (Look("free -h || head -n 5 /proc/meminfo", needs="procps"),),
    "disk": (
        Look("df -h"),
        Look("df -i / /var"),
        Look("ls -la /var/lib/hybrid-engine"),
        Look("journalctl --disk-usage"),
    ),
    f"top CPU, over {ACTIVITY_S} s": (_ACTIVITY,),
    "cgroups": (
        Look("systemd-cgtop --batch --iterations=2 --delay=1 --depth=3 --cpu=percentage"),
        Look(f"systemctl show --property={_LIMITS} {UNIT}"),
    ),
    "I/O wait": (Look("iostat -x 1 2", needs="sysstat"),),
    "units": (
        Look("systemctl --failed --no-pager --plain"),
        Look("systemctl list-timers --no-pager --full 'hybrid*'"),
        Look("systemctl status --no-pager --full --lines=0 'hybrid*'", answers=(0, 3)),
        Look(f"systemctl cat {UNIT}"),
    ),
    "journal, the last 50 lines": (
        Look(f"journalctl --no-pager --output=short-iso --lines=50 --unit={UNIT}"),
        Look("journalctl --no-pager --output=short-iso --lines=20 --priority=err"),
    ),
    "configuration in force": (
        Look(
            f"{LIVE} config check || {{ echo; echo 'and in SHADOW, which asks no gate:';"
            f" HYBRID_ENGINE__MODE=SHADOW {LIVE} config check; }}",
            f"{LIVE} config check",
        ),
        Look("grep -v '^ *#' /etc/hybrid-engine/config.toml"),
        Look("grep -v '^ *#' /etc/hybrid-engine/ws_sources.toml"),
    ),
    "health": (
        Look(
            f"setpriv --reuid=hybrid-engine --regid=hybrid-engine --clear-groups {LIVE} health",
            f"{LIVE} health",
            answers=(0, 1),
        ),
        Look("/usr/local/libexec/hybrid-health-snapshot --show 12", "the flight recorder's last hour"),
    ),
}


def words(shell: str) -> str:
    """The text that a runner passes to `sh -c`: in English, without colours, both streams in one."""
    return f"export LC_ALL=C.UTF-8 SYSTEMD_COLORS=0 S_COLORS=never TERM=dumb; exec 2>&1\n{shell}"


def local(shell: str, seconds: float) -> Output:
    """Run a shell text on this machine."""
    argv = ["timeout", f"{seconds:g}", "sh", "-c", words(shell)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    return Output(done.returncode, done.stdout.decode(errors="replace"))


def report(run: Run, tell: Callable[[str], None], name: str) -> tuple[str, list[str]]:
    """The report on the host of that name, and what is missing in it. tell: called before each part."""
    redactor = Redactor()
    environment = run(" ".join(deployed.SHOW_ENVIRONMENT), SECONDS).text[:SHOWN_CHARACTERS]
    if environment.startswith("Environment="):
        redactor.learn(_credentials(environment))
    lines = [f"Diagnosis of {name}, begun {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", ""]
    missing: list[str] = []
    between: Activity | None = None
    for number, (title, looks) in enumerate(PARTS.items(), 1):
        tell(f"{number}/{len(PARTS)} {title}")
        lines += [f"--- {number}. {title} ---", ""]
        if title == "I/O wait" and between:  # which needs no iostat
            lines += [f"$ {_ACTIVITY.name}: CPU time and disks", between.cpu, "", *between.disks, ""]
        for look in looks:
            output = run(look.shell, look.seconds)
            failure, answer = _explain_failure(look, output), _printable(output.text).rstrip().splitlines()
            if (size := len(output.text)) > SHOWN_CHARACTERS:
                failure.append(f"{look.name}: all but the first {SHOWN_CHARACTERS} of {size} characters")
            if look is _ACTIVITY:
                between = compare_looks(_printable(output.text))
                failure = failure or ([] if between else [f"{look.name}: they cannot be compared"])
                answer = [*between.tasks, "", *between.pidstat.splitlines()] if between else []
                if between and not between.pidstat:
                    failure.append("pidstat: not there (apt-get install sysstat)")
            lines += [f"$ {look.name}", *answer, *(f"[{entry}]" for entry in failure), ""]
            missing += failure
    lines += ["--- what was missing ---", "", *(missing or ["nothing"]), ""]
    return redactor.text("\n".join(lines)), [redactor.text(entry) for entry in missing]


def _credentials(shown: str) -> list[str]:
    try:
        return deployed.credentials(shown, Path("/nonexistent"))
    except ValueError:  # quotes that systemd would not write: every value is taken for one
        return [word.partition("=")[2].strip("'\"") for word in shown.split() if "=" in word]


def _explain_failure(look: Look, output: Output) -> list[str]:
    """Why this look has no complete answer, as a list of one; empty where it has one."""
    if output.rc in look.answers:
        return []
    if output.rc == 127:
        return [f"{look.name}: not there" + (f" (apt-get install {look.needs})" if look.needs else "")]
    if output.rc == 124:
        return [f"{look.name}: no answer within {look.seconds:g} s"]
    last = (_printable(output.text).strip().splitlines() or ["no output"])[-1]
    return [f"{look.name}: exit {output.rc}: {last[:200]}"]


def _printable(text: str) -> str:
    """The beginning of an output without what would move a cursor; other invisible characters are escaped."""
    shown = _ESCAPES.sub("", text[:SHOWN_CHARACTERS])
    return host_input.printable(shown, SHOWN_CHARACTERS, keep="\n\t")


class Task(NamedTuple):
    """A process; times in clock ticks."""

    name: str
    state: str
    user: int
    system: int
    began: int


class Activity(NamedTuple):
    """How a host spent the time between two looks, as lines for people. pidstat: its output, "" where there is none."""

    tasks: list[str]
    cpu: str
    disks: list[str]
    pidstat: str


def compare_looks(output: str) -> Activity | None:
    """Out of the output of ACTIVITY_SHELL; None where it did not come to its end, or there is no such /proc."""
    parts: dict[str, list[str]] = {}
    for chunk in re.split(r"^@", output, flags=re.M)[1:]:
        name, _, text = chunk.partition("\n")
        parts.setdefault(name, []).append(text)
    try:
        ticks = int(parts["ticks"][0])
        seconds = float(parts["up"][1].split()[0]) - float(parts["up"][0].split()[0])
        if "end" not in parts or seconds <= 0:
            return None
        before, after = (_tasks(text) for text in parts["tasks"])
        old, new = ([int(word) for word in text.split()[1:9]] for text in parts["cpu"])
        disks = _disks(parts["disks"][0], parts["disks"][1], seconds)
        return Activity(_top(before, after, ticks, seconds), _shares(old, new), disks, parts["pidstat"][0].strip())
    except (ValueError, ArithmeticError, LookupError, TypeError):  # not what a host of ours prints
        return None


def _tasks(text: str) -> dict[str, Task]:
    tasks = {}
    for line in text.splitlines():
        if match := _TASK.fullmatch(line):
            rest = match[4].split()
            tasks[match[1]] = Task(match[2], match[3], int(rest[10]), int(rest[11]), int(rest[18]))
    return tasks


def _top(before: Mapping[str, Task], after: Mapping[str, Task], ticks: int, seconds: float) -> list[str]:
    used: list[tuple[float, float, str, Task]] = []
    for pid, task in after.items():
        # A number may be given to another process meanwhile: what began later, used all that it has used since.
        was = then if (then := before.get(pid)) and then.began == task.began else Task("", "", 0, 0, 0)
        user, system = (100 * ticked / ticks / seconds for ticked in (task.user - was.user, task.system - was.system))
        if user + system > 0:
            used.append((user, system, pid, task))
    used.sort(key=lambda row: row[0] + row[1], reverse=True)
    lines = [f"{'PID':>8} {'%usr':>7} {'%system':>8} {'%CPU':>7} state command"]
    for user, system, pid, task in used[:_MOST]:
        lines.append(f"{pid:>8} {user:7.2f} {system:8.2f} {user + system:7.2f} {task.state:5} {task.name}")
    return [*lines, f"{len(after)} processes, {len(used)} of them used CPU; 100 % is one core"]


def _shares(old: list[int], new: list[int]) -> str:
    spent = [now - then for then, now in zip(old, new, strict=True)]
    total = sum(spent) or 1
    return "  ".join(f"{name} {100 * part / total:.2f} %" for name, part in zip(_STATES, spent, strict=False))


def _disks(old: str, new: str, seconds: float) -> list[str]:
    """Devices that did anything."""
    lines = [f"{'device':14} {'r/s':>8} {'rkB/s':>10} {'w/s':>8} {'wkB/s':>10} {'%util':>6}"]
    then = {words[2]: [int(word) for word in words[3:14]] for words in map(str.split, old.splitlines())}
    for words in map(str.split, new.splitlines()):
        now = [int(word) for word in words[3:14]]
        did = [b - a for a, b in zip(then.get(words[2], now), now, strict=True)]
        if any(did):
            reads, read_kb, writes, wrote_kb = did[0], did[2] / 2, did[4], did[6] / 2  # sectors of 512 bytes
            rates = [value / seconds for value in (reads, read_kb, writes, wrote_kb)]
            busy = min(100.0, did[9] / seconds / 10)
            lines.append(f"{words[2]:14} {rates[0]:8.2f} {rates[1]:10.2f} {rates[2]:8.2f} {rates[3]:10.2f} {busy:6.2f}")
    return lines if len(lines) > 1 else ["no device read or wrote anything"]


def main(args: argparse.Namespace) -> int:
    """Print or write the report. Returns 1 when it could not be written, else 0."""
    text, missing = report(local, progress, "this host")
    if args.out is None:
        show(text)
        return 0
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.touch(mode=0o600)  # for it tells much about a host
        args.out.write_bytes(text.encode(errors="backslashreplace"))
    except OSError as error:
        complain(f"{args.out}: {error.strerror}")
        return 1
    progress("\n".join([str(args.out), *(f"missing: {entry}" for entry in missing)]))
    return 0
