"""Everything about a host that is looked at when something is wrong, as one file: it changes nothing there.

Every look is a shell command, shown with what it said, so that it works where no engine runs, was ever deployed, or no
Python is. What is missing is named, and fails nothing. Credentials are left out before anything is written or shown.
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

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\S\n\t ]|[\x00-\x08\x0e-\x1f\x7f]")  # what would move a cursor
UNIT = "hybrid-engine.service"
LIVE = "/opt/hybrid-engine/current/bin/hybrid-engine"
SHOWN_CHARACTERS = 1 << 18  # of what a look says
MOST_CHARACTERS = 1 << 23  # more than this, and it is no look's answer
SECONDS = 30.0  # a look that takes longer is left, and named: a dead mount hangs whoever asks for it
_GROUP = (
    "group=$(systemctl show --value --property=ControlGroup " + UNIT + ");"
    " mount=$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)"
)


class Said(NamedTuple):
    """What a command said, on either stream. rc 127: there is no such program; 124: it took too long."""

    rc: int
    text: str


Run = Callable[[str, float], Said]  # a shell text, and for how many seconds at most


class Look(NamedTuple):
    """shell: what is run; shown: how the report calls it; needs: the package that a missing program is in."""

    shell: str
    shown: str = ""
    needs: str = ""
    seconds: float = SECONDS
    answers: tuple[int, ...] = (0,)  # exit statuses with which it has said what was asked

    @property
    def name(self) -> str:
        return self.shown or self.shell


class Part(NamedTuple):
    title: str
    looks: tuple[Look, ...]


_LIMITS = "MemoryCurrent,MemoryMax,CPUUsageNSec,TasksCurrent,TasksMax"
_BUSY = Look(activity.SHELL, f"two looks at /proc, {activity.SECONDS} s apart", seconds=SECONDS + activity.SECONDS)
# The ten of the field notes, in their order, and what an operator asks next.
PARTS = (
    Part("time", (Look("date --iso-8601=seconds"), Look("timedatectl show --property=NTPSynchronized,Timezone"))),
    Part("host and kernel", (Look("hostname"), Look("uname -a"), Look("cat /etc/os-release"),
                             Look("systemd-detect-virt || true"), Look("systemctl --version"))),
    Part("uptime", (Look("uptime", needs="procps"),)),
    Part("pressure (PSI: stall time, not CPU use)", (
        Look("cd /proc/pressure && grep -H . cpu memory io", "/proc/pressure: the host's"),
        Look(f"{_GROUP}; [ \"$group\" ] || {{ echo '{UNIT} has no cgroup: it does not run'; exit 0; }};"
             ' cd "$mount$group" && grep -H . cpu.pressure memory.pressure io.pressure', f"{UNIT}: its own"),
    )),
    Part("load", (Look("cat /proc/loadavg"), Look("nproc"))),
    Part("memory", (Look("free -h || head -n 5 /proc/meminfo", needs="procps"),)),
    Part("disk", (Look("df -h"), Look("df -i / /var"), Look("ls -la /var/lib/hybrid-engine"),
                  Look("journalctl --disk-usage"))),
    Part(f"top CPU, over {activity.SECONDS} s", (_BUSY,)),
    Part("cgroups", (Look("systemd-cgtop --batch --iterations=2 --delay=1 --depth=3 --cpu=percentage"),
                     Look(f"systemctl show --property={_LIMITS} {UNIT}"))),
    Part("I/O wait", (Look("iostat -x 1 2", needs="sysstat"),)),
    Part("units", (Look("systemctl --failed --no-pager --plain"),
                   Look("systemctl list-timers --no-pager --full 'hybrid*'"),
                   Look("systemctl status --no-pager --full --lines=0 'hybrid*'", answers=(0, 3)),
                   Look(f"systemctl cat {UNIT}"))),
    Part("journal, the last 50 lines", (Look(f"journalctl --no-pager --output=short-iso --lines=50 --unit={UNIT}"),
                                        Look("journalctl --no-pager --output=short-iso --lines=20 --priority=err"))),
    Part("configuration in force", (
        Look(f"{LIVE} config check || {{ echo; echo 'and in SHADOW, which asks no gate:';"
             f" HYBRID_ENGINE__MODE=SHADOW {LIVE} config check; }}", f"{LIVE} config check"),
        Look("grep -v '^ *#' /etc/hybrid-engine/config.toml"),
        Look("grep -v '^ *#' /etc/hybrid-engine/ws_sources.toml"),
    )),
    Part("health", (
        Look(f"setpriv --reuid=hybrid-engine --regid=hybrid-engine --clear-groups {LIVE} health", f"{LIVE} health",
             answers=(0, 1)),
        Look("/usr/local/libexec/hybrid-health-snapshot --show 12", "the flight recorder's last hour"),
    )),
)  # fmt: skip


def words(shell: str) -> str:
    """The text as every runner gives it to `sh -c`: in English, without colours, both streams in one."""
    return f"export LC_ALL=C.UTF-8 SYSTEMD_COLORS=0 TERM=dumb; exec 2>&1\n{shell}"


def local(shell: str, seconds: float) -> Said:
    """Run a shell text on this machine."""
    argv = ["timeout", f"{seconds:g}", "sh", "-c", words(shell)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    return Said(done.returncode, done.stdout.decode(errors="replace"))


def report(run: Run, tell: Callable[[str], None], name: str) -> tuple[str, list[str]]:
    """The whole report on the host of that name, and what was missing. `tell` is told of each part before it begins."""
    redactor = Redactor()
    given = run(" ".join(deployed.SHOW_ENVIRONMENT), SECONDS).text[:SHOWN_CHARACTERS]
    if given.startswith("Environment="):
        redactor.learn(_credentials(given))
    lines = [f"Diagnosis of {name}, begun {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", ""]
    missing: list[str] = []
    between: activity.Busy | None = None
    for number, part in enumerate(PARTS, 1):
        tell(f"{number}/{len(PARTS)} {part.title}")
        lines += [f"--- {number}. {part.title} ---", ""]
        if part.title == "I/O wait":
            lines += _waiting(between)
        for look in part.looks:
            said = run(look.shell, look.seconds)
            lack = _lack(look, said)
            told = _plain(said.text).rstrip().splitlines()
            if len(said.text) > SHOWN_CHARACTERS:
                lack = [*lack, f"{look.name}: all but the first {SHOWN_CHARACTERS} of {len(said.text)} characters"]
            if look is _BUSY:
                between = _compare(said.text[:SHOWN_CHARACTERS])
                lack = lack or ([] if between else [f"{look.name}: they cannot be compared"])
                told = _busiest(between)
                if between and not between.pidstat:
                    lack = [*lack, "pidstat: not there (apt-get install sysstat)"]
            lines += [f"$ {look.name}", *told, *(f"[{entry}]" for entry in lack), ""]
            missing += lack
    lines += ["--- what was missing ---", "", *(missing or ["nothing"]), ""]
    return redactor.text("\n".join(lines)), [redactor.text(entry) for entry in missing]


def _credentials(shown: str) -> list[str]:
    try:
        return deployed.credentials(shown, Path("/nonexistent"))
    except ValueError:  # quotes that systemd would not write: every value is one then
        return [word.partition("=")[2].strip("'\"") for word in shown.split() if "=" in word]


def _lack(look: Look, said: Said) -> list[str]:
    """What this look did not show, as a list of one; none where it was answered."""
    if said.rc in look.answers:
        return []
    if said.rc == 127:
        return [f"{look.name}: not there" + (f" (apt-get install {look.needs})" if look.needs else "")]
    if said.rc == 124:
        return [f"{look.name}: no answer within {look.seconds:g} s"]
    last = (_plain(said.text).strip().splitlines() or ["nothing said"])[-1]
    return [f"{look.name}: exit {said.rc}: {last[:200]}"]


def _plain(text: str) -> str:
    """The beginning of what was said, without what would move a cursor; what else cannot be seen is spelt out."""
    shown = _ESCAPES.sub("", text[:SHOWN_CHARACTERS])
    return host_input.printable(shown, SHOWN_CHARACTERS, keep="\n\t")


def _compare(text: str) -> activity.Busy | None:
    """None where they cannot be compared: what is no answer of ours makes no difference to the report."""
    try:
        between = activity.compare(_plain(text))
    except (ValueError, ArithmeticError, LookupError, TypeError):
        return None
    return between


def _busiest(between: activity.Busy | None) -> list[str]:
    return [*between.tasks, "", *between.pidstat.splitlines()] if between else []


def _waiting(between: activity.Busy | None) -> list[str]:
    """What the two looks at /proc say of the disks, which needs no iostat."""
    if between is None:
        return []
    return [f"$ {_BUSY.name}: CPU time and disks", between.cpu, "", *between.disks, ""]


def main(args: argparse.Namespace) -> int:
    """0; 1 when the report could not be written."""
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
    """For its owner alone: it says a lot about a host. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(text.encode(errors="backslashreplace"))
