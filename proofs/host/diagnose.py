"""Collects what to look at on a host when something is wrong into one report. Changes nothing on the host.

Every look is a shell command, reported with its output. So it works where no engine runs or was ever deployed, and
where there is no Python. A command that is missing is named and fails nothing. Credentials are removed before anything
is written or shown.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from proofs.evidence import host_input
from proofs.evidence.redaction import Redactor
from proofs.host import activity, deployed

_ESCAPES = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|[^\S\n\t ]|[\x00-\x08\x0e-\x1f\x7f]"
)  # sequences that would move a cursor
UNIT = "hybrid-engine.service"
LIVE = "/opt/hybrid-engine/current/bin/hybrid-engine"
SHOWN_CHARACTERS = 1 << 18  # of an output
MOST_CHARACTERS = 1 << 23  # a longer output is refused
SECONDS = 30.0  # a look that takes longer is ended, and named: a command hangs on a dead mount
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


class Part(NamedTuple):
    title: str
    looks: tuple[Look, ...]


_LIMITS = "MemoryCurrent,MemoryMax,CPUUsageNSec,TasksCurrent,TasksMax"
_ACTIVITY = Look(activity.SHELL, f"two looks at /proc, {activity.SECONDS} s apart", seconds=SECONDS + activity.SECONDS)
# The ten looks of the field notes, in their order, and what an operator looks at next.
PARTS = (
    Part("time", (Look("date --iso-8601=seconds"), Look("timedatectl show --property=NTPSynchronized,Timezone"))),
    Part(
        "host and kernel",
        (
            Look("hostname"),
            Look("uname -a"),
            Look("cat /etc/os-release"),
            Look("systemd-detect-virt || true"),
            Look("systemctl --version"),
        ),
    ),
    Part("uptime", (Look("uptime", needs="procps"),)),
    Part(
        "pressure (PSI: stall time, not CPU use)",
        (
            Look("cd /proc/pressure && grep -H . cpu memory io", "/proc/pressure: the host's"),
            Look(
                f"{_GROUP}; [ \"$group\" ] || {{ echo '{UNIT} has no cgroup: it does not run'; exit 0; }};"
                ' cd "$mount$group" && grep -H . cpu.pressure memory.pressure io.pressure',
                f"{UNIT}: its own",
            ),
        ),
    ),
    Part("load", (Look("cat /proc/loadavg"), Look("nproc"))),
    Part("memory", (Look("free -h || head -n 5 /proc/meminfo", needs="procps"),)),
    Part(
        "disk",
        (Look("df -h"), Look("df -i / /var"), Look("ls -la /var/lib/hybrid-engine"), Look("journalctl --disk-usage")),
    ),
    Part(f"top CPU, over {activity.SECONDS} s", (_ACTIVITY,)),
    Part(
        "cgroups",
        (
            Look("systemd-cgtop --batch --iterations=2 --delay=1 --depth=3 --cpu=percentage"),
            Look(f"systemctl show --property={_LIMITS} {UNIT}"),
        ),
    ),
    Part("I/O wait", (Look("iostat -x 1 2", needs="sysstat"),)),
    Part(
        "units",
        (
            Look("systemctl --failed --no-pager --plain"),
            Look("systemctl list-timers --no-pager --full 'hybrid*'"),
            Look("systemctl status --no-pager --full --lines=0 'hybrid*'", answers=(0, 3)),
            Look(f"systemctl cat {UNIT}"),
        ),
    ),
    Part(
        "journal, the last 50 lines",
        (
            Look(f"journalctl --no-pager --output=short-iso --lines=50 --unit={UNIT}"),
            Look("journalctl --no-pager --output=short-iso --lines=20 --priority=err"),
        ),
    ),
    Part(
        "configuration in force",
        (
            Look(
                f"{LIVE} config check || {{ echo; echo 'and in SHADOW, which asks no gate:';"
                f" HYBRID_ENGINE__MODE=SHADOW {LIVE} config check; }}",
                f"{LIVE} config check",
            ),
            Look("grep -v '^ *#' /etc/hybrid-engine/config.toml"),
            Look("grep -v '^ *#' /etc/hybrid-engine/ws_sources.toml"),
        ),
    ),
    Part(
        "health",
        (
            Look(
                f"setpriv --reuid=hybrid-engine --regid=hybrid-engine --clear-groups {LIVE} health",
                f"{LIVE} health",
                answers=(0, 1),
            ),
            Look("/usr/local/libexec/hybrid-health-snapshot --show 12", "the flight recorder's last hour"),
        ),
    ),
)


def words(shell: str) -> str:
    """The text that a runner passes to `sh -c`: in English, without colours, both streams in one."""
    return f"export LC_ALL=C.UTF-8 SYSTEMD_COLORS=0 TERM=dumb; exec 2>&1\n{shell}"


def local(shell: str, seconds: float) -> Output:
    """Run a shell text on this machine."""
    argv = ["timeout", f"{seconds:g}", "sh", "-c", words(shell)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    return Output(done.returncode, done.stdout.decode(errors="replace"))


def report(run: Run, tell: Callable[[str], None], name: str) -> tuple[str, list[str]]:
    """The report on the host of that name, and what is missing in it.

    Args:
        run: runs a shell text on the host.
        tell: called with a line of progress before each part.
    """
    redactor = Redactor()
    environment = run(" ".join(deployed.SHOW_ENVIRONMENT), SECONDS).text[:SHOWN_CHARACTERS]
    if environment.startswith("Environment="):
        redactor.learn(_credentials(environment))
    lines = [f"Diagnosis of {name}, begun {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", ""]
    missing: list[str] = []
    between: activity.Activity | None = None
    for number, part in enumerate(PARTS, 1):
        tell(f"{number}/{len(PARTS)} {part.title}")
        lines += [f"--- {number}. {part.title} ---", ""]
        if part.title == "I/O wait":
            lines += _disk_lines(between)
        for look in part.looks:
            output = run(look.shell, look.seconds)
            failure = _explain_failure(look, output)
            answer = _printable(output.text).rstrip().splitlines()
            if len(output.text) > SHOWN_CHARACTERS:
                cut = f"all but the first {SHOWN_CHARACTERS} of {len(output.text)} characters"
                failure = [*failure, f"{look.name}: {cut}"]
            if look is _ACTIVITY:
                between = _compare(output.text[:SHOWN_CHARACTERS])
                failure = failure or ([] if between else [f"{look.name}: they cannot be compared"])
                answer = _task_lines(between)
                if between and not between.pidstat:
                    failure = [*failure, "pidstat: not there (apt-get install sysstat)"]
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


def _compare(text: str) -> activity.Activity | None:
    """None where the output of the two looks is not what a host of ours prints."""
    try:
        return activity.compare(_printable(text))
    except (ValueError, ArithmeticError, LookupError, TypeError):
        return None


def _task_lines(between: activity.Activity | None) -> list[str]:
    return [*between.tasks, "", *between.pidstat.splitlines()] if between else []


def _disk_lines(between: activity.Activity | None) -> list[str]:
    """The disks' activity between the two looks at /proc, which needs no iostat."""
    if between is None:
        return []
    return [f"$ {_ACTIVITY.name}: CPU time and disks", between.cpu, "", *between.disks, ""]


def main(args: argparse.Namespace) -> int:
    """Print or write the report. Returns 1 when it could not be written, else 0."""
    text, missing = report(local, lambda part: print(part, file=sys.stderr, flush=True), "this host")
    if args.out is None:
        print(text)
        return 0
    try:
        write(args.out, text)
    except OSError as error:
        print(f"hybrid-proofs: {args.out}: {error.strerror}", file=sys.stderr)
        return 1
    print("\n".join([str(args.out), *(f"missing: {entry}" for entry in missing)]), file=sys.stderr)
    return 0


def write(path: Path, text: str) -> None:
    """Write the report with mode 0600, for it tells much about a host. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(text.encode(errors="backslashreplace"))
