"""The diagnosis: ten parts and more, of any host, with what is missing named and no credential in it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from proofs import cli
from proofs.host import diagnose
from proofs.host.diagnose import PARTS, Output

TASK = "{pid} ({name}) S 1 1 1 0 -1 4194560 100 0 0 0 {user} {system} 0 0 20 0 1 0 {began} 1000 100 1844 0"
DISK = "254 0 vda {reads} 0 {read} 5 {writes} 0 {written} 5 0 {ms} 10"


def looked(up: float, cpu: str, tasks: list[str], disks: list[str]) -> str:
    lines = ["@up", f"{up} 1.0", "@cpu", f"cpu  {cpu} 0 0", "@disks", *disks, "@tasks", *tasks]
    return "\n".join(lines) + "\n"


def between(pidstat: str = "") -> str:
    """Two looks, ten seconds and a hundred ticks a second apart."""
    init, loop = TASK.format(pid=1, name="init", user=5, system=5, began=1), "7 0 loop0 1 0 8 0 0 0 0 0 0 0 0"
    tasks = [
        TASK.format(pid=7, name="a (b) c", user=100, system=0, began=2),
        TASK.format(pid=9, name="gone", user=100, system=0, began=2),
    ]
    disk = DISK.format(reads=10, read=100, writes=10, written=100, ms=0)
    first = looked(100.0, "1000 0 500 8000 100 0 0 0", [init, *tasks], [disk, loop])
    tasks = [
        TASK.format(pid=7, name="a (b) c", user=600, system=50, began=2),
        TASK.format(pid=9, name="another", user=30, system=0, began=10_500),
    ]
    disk = DISK.format(reads=30, read=300, writes=60, written=2148, ms=5000)
    last = looked(110.0, "1500 0 600 9300 200 0 0 0", [init, *tasks], [disk, loop])
    return f"@ticks\n100\n{first}@pidstat\n{pidstat}\n{last}@end\n"


def test_what_was_used_between_two_looks_is_counted() -> None:
    activity = diagnose.compare_looks(between())
    assert activity is not None
    rows = [re.split(r"\s+", line.strip(), maxsplit=5) for line in activity.tasks[1:-1]]
    # 500 + 50 ticks of 100 in 10 s; and a number given to another process counts what that one used.
    assert rows == [["7", "50.00", "5.00", "55.00", "S", "a (b) c"], ["9", "3.00", "0.00", "3.00", "S", "another"]]
    assert activity.cpu.startswith("user 25.00 %  nice 0.00 %  system 5.00 %  idle 65.00 %  iowait 5.00 %")
    assert [line.split() for line in activity.disks[1:]] == [["vda", "2.00", "10.00", "5.00", "102.40", "50.00"]]
    assert activity.pidstat == ""


@pytest.mark.parametrize("cut", ["@end", "@up", "@tasks", "@ticks"])
def test_looks_that_did_not_come_to_their_end_are_not_compared(cut: str) -> None:
    output = between()
    assert (
        diagnose.compare_looks(output[: output.rindex(cut)] if cut == "@end" else output.replace(cut, "@x", 1)) is None
    )
    assert diagnose.compare_looks("") is None


def test_the_shell_text_works_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, without waiting: two looks at this machine at once."""
    output = diagnose.local(diagnose.ACTIVITY_SHELL.replace(f"sleep {diagnose.ACTIVITY_S}", "sleep 0.1"), 20)
    assert output.rc == 0
    activity = diagnose.compare_looks(output.text)
    assert activity is not None
    assert "processes" in activity.tasks[-1]


def answered(shell: str) -> Output:
    """A host on which every look works; the engine's unit has a secret."""
    if shell == diagnose.ACTIVITY_SHELL:
        return Output(0, between("12:00:01 pidstat's own"))
    if shell.startswith("systemctl show hybrid-engine.service --property=Environment"):
        return Output(0, "Environment=HYBRID_ENGINE__MODE=SHADOW EXCHANGE_API_KEY=s3cr3t-of-the-unit\n")
    if "config check" in shell:
        return Output(0, 'engine.ws_url = "ws://trader:hunter2@10.0.0.1:9/feed?token=hunter3"  # file\n')
    if shell.startswith("journalctl --no-pager"):
        return Output(0, "the engine said s3cr3t-of-the-unit\x1b[2J and moved the cursor\n")
    return Output(0, f"said of {shell.split()[0]}\n")


def test_the_report_has_every_part_in_order_and_is_told_part_by_part() -> None:
    progress = list[str]()
    asked = list[tuple[str, float]]()

    def run(shell: str, seconds: float) -> Output:
        asked.append((shell, seconds))
        return answered(shell)

    text, missing = diagnose.report(run, progress.append, "nuc1")
    assert text.startswith("Diagnosis of nuc1, begun 20")
    assert missing == []
    heads = re.findall(r"^--- (\d+)\. (.*) ---$", text, re.M)
    assert heads == [(str(n), title) for n, title in enumerate(PARTS, 1)]
    # the field notes' ten come first, in their order
    ten = ("time", "host and kernel", "uptime", "pressure", "load", "memory", "disk", "top CPU", "cgroups", "I/O wait")
    assert all(title.startswith(word) for (_, title), word in zip(heads, ten, strict=False))
    assert progress == [f"{n}/{len(PARTS)} {title}" for n, title in enumerate(PARTS, 1)]
    assert all(seconds >= 30 for _, seconds in asked)
    assert "12:00:01 pidstat's own" in text
    assert "a (b) c" in text
    assert "iowait 5.00 %" in text
    lines = next(shell for shell, _ in asked if shell.startswith("journalctl") and "--unit=" in shell)
    assert "--lines=50" in lines


def test_no_credential_is_in_it_and_nothing_that_moves_a_cursor() -> None:
    text, _ = diagnose.report(lambda shell, _: answered(shell), lambda _: None, "nuc1")
    for secret in ("s3cr3t-of-the-unit", "hunter2", "hunter3", "\x1b"):
        assert secret not in text
    assert "ws://[redacted]@10.0.0.1:9/feed?token=[redacted]" in text
    assert "the engine said [redacted] and moved the cursor" in text


def test_where_nothing_is_everything_is_named_and_nothing_fails() -> None:
    """No engine was ever deployed, no systemd answers, no tool is there, one look hangs."""

    def run(shell: str, _: float) -> Output:
        if shell.startswith("systemctl"):
            return Output(1, "System has not been booted with systemd. Can't operate.\n")
        return Output(124, "") if shell == "df -h" else Output(127, "sh: 1: not found\n")

    text, missing = diagnose.report(run, lambda _: None, "nuc1")
    looks = [look for part in PARTS.values() for look in part]
    assert len(missing) == len(looks)
    assert "df -h: no answer within 30 s" in missing
    assert "iostat -x 1 2: not there (apt-get install sysstat)" in missing
    assert f"{diagnose.LIVE} config check: not there" in missing
    assert all(entry in text.partition("--- what was missing ---")[2] for entry in missing)
    assert "pidstat" not in "".join(missing), "what was not looked at is not said to be missing"


def test_a_host_without_pidstat_says_so_and_shows_who_used_the_cpu() -> None:
    def run(shell: str, _: float) -> Output:
        return Output(0, between()) if shell == diagnose.ACTIVITY_SHELL else answered(shell)

    text, missing = diagnose.report(run, lambda _: None, "nuc1")
    assert missing == ["pidstat: not there (apt-get install sysstat)"]
    assert "a (b) c" in text


def test_what_hangs_is_left() -> None:
    assert diagnose.local("sleep 60", 0.2).rc == 124
    assert diagnose.local("echo out; echo err >&2; exit 3", 5) == Output(3, "out\nerr\n")


def test_the_command_writes_it_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diagnose, "local", lambda shell, _: answered(shell))
    out = tmp_path / "new" / "diagnosis.txt"
    assert cli_code("diagnose", "--out", str(out)) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "--- 14. health ---" in out.read_text()
    progress = capsys.readouterr().err
    assert progress.startswith("1/14 time\n")
    assert str(out) in progress
    assert cli_code("diagnose", "--out", "/proc/nowhere/x") == 1
    assert cli_code("diagnose") == 0
    assert capsys.readouterr().out.startswith("Diagnosis of this host")


def cli_code(*words: str) -> int:
    code = cli.main(words)
    assert isinstance(code, int)
    return code


def test_colours_of_sysstat_are_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer releases colour whatever they print, and end with the code that ends a colour."""
    (tmp_path / "pidstat").write_text(
        "#!/bin/sh\nsleep 0.2; echo it ran\n[ \"$S_COLORS\" = never ] || printf '\\033[0m'\n"
    )
    (tmp_path / "pidstat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    activity = diagnose.compare_looks(diagnose.local(diagnose.ACTIVITY_SHELL, 30).text)
    assert activity is not None
    assert activity.pidstat == "it ran"
