"""Every file of a bundle replaced by each odd thing in turn: DENY with a reason, as text and as JSON, and no hang."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs import cli
from proofs.evidence import recorder, statement
from proofs.report import buglog, html
from proofs.verifier import cli as bundles
from tests.support import proof_run
from tests.support.proof_run import events_of, sign

FILES = ["statement.json", "statement.sig", "events.jsonl", "BUGLOG.md", "report.html", "log/toy.md", "blobs/*"]
FOLDERS = ["log", "blobs"]
SECONDS = 30


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket is short
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "more").touch()


def _zeros(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


KINDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "folder": _folder,
    "pipe": os.mkfifo,
    "socket": _socket,
    "link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a folder": lambda path: path.symlink_to("/proc"),
    "empty": lambda path: path.touch(),
    "newlines": lambda path: path.write_bytes(b"\n" * 1000),
    "deep": lambda path: path.write_bytes(b"[" * 100_000 + b"\n"),
    "great number": lambda path: path.write_bytes(b"9" * 100_000 + b"\n"),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00\x1b]0;owned\x07\n"),
    "byte order mark": lambda path: path.write_bytes(b"\xef\xbb\xbf{}\n"),
    "lone surrogate": lambda path: path.write_bytes(b'{"predicateType": "\\ud800"}\n'),
    "NaN": lambda path: path.write_bytes(b"NaN\n"),
    "10 GB of zeros": lambda path: _zeros(path, 10 << 30),
    "60 MB of zeros": lambda path: _zeros(path, 60 << 20),
}
if os.geteuid() == 0:
    KINDS["device"] = lambda path: os.mknod(path, 0o020666, os.makedev(1, 5))  # /dev/zero's numbers


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A signed bundle with every page, the key and the allowed signers beside it."""
    root = tmp_path_factory.mktemp("proofs")
    directory = proof_run.record(root)
    key = proof_run.make_key(root / "operator")
    (root / "allowed_signers").write_text(f"operator {key.with_suffix('.pub').read_text()}")
    (directory / "progress.log").unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        proof_run.enlist(patch)
        buglog.write(directory)
        html.write(directory)
        sign(directory, key)
        yield directory


@pytest.fixture
def there(rendered: Path, tmp_path: Path) -> Path:
    shutil.copytree(rendered, tmp_path / "r1")
    return tmp_path / "r1"


def verify(there: Path, rendered: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and the report as JSON, which says what the report for people says."""
    argv = ["verify", str(there), f"--allowed-signers={rendered.parent / 'allowed_signers'}", "--skip-live", *more]
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        prints = bundles._print
        patch.setattr(bundles, "_print", lambda report, as_json: (prints(report, True), prints(report, False)))
        code = cli.main(argv)
    said = capsys.readouterr()
    report, end = json.JSONDecoder().raw_decode(said.out)
    text = said.out[end:].strip()
    assert said.err == ""
    assert text.startswith(report["decision"])
    assert all(line.isprintable() for line in text.splitlines())
    return code, report


def test_whole_bundle_is_allowed(rendered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = verify(rendered, rendered, capsys)
    assert (code, report["reasons"]) == (0, [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_odd_file_is_denied(
    there: Path, rendered: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if (name, kind) == ("report.html", "nothing"):
        pytest.skip("a bundle need not have it")
    path = next(there.glob(name))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    KINDS[kind](path)
    if name != "report.html":
        (there / "report.html").unlink()  # which takes time
    began = time.monotonic()
    code, report = verify(there, rendered, capsys, "--despite-signature")
    assert (code, report["decision"]) == (1, "DENY")
    assert report["reasons"]
    assert time.monotonic() - began < SECONDS


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_unreadable_file_is_denied(there: Path, rendered: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(there.glob(name))
    path.chmod(0)
    code, _ = verify(there, rendered, capsys, "--despite-signature")
    path.chmod(0o700)
    assert code == 1


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "BUGLOG.html", "\x1b]0;owned\x07", "log/more.md", "blobs/x"])
def test_file_that_does_not_belong_is_named(
    there: Path, rendered: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / name).touch()
    code, report = verify(there, rendered, capsys)
    shown = name.encode("unicode_escape").decode()
    assert code == 1
    assert any(shown in reason for reason in report["reasons"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (">PASS<", ">FAIL<"),
        ("</h1>", "</h1><script>x</script>"),
        ("<path ", '<script xmlns="http://www.w3.org/1999/xhtml">x</script><path '),
        ("</svg>", "<text>PASS</text></svg>"),
    ],
)
def test_changed_report_is_denied(there: Path, old: str, new: str) -> None:
    page = there / "report.html"
    assert old in page.read_text()
    page.write_text(page.read_text().replace(old, new, 1))
    problems, why = html.problems(there, events_of(there), float("inf"))
    assert problems == ["report.html is not what these events render to; `hybrid-proofs render` writes it anew"]
    assert why == ""


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<path ", "<script>x</script><path "),
        ("<path ", '<path onload="x" '),
        ("<path ", '<image href="http://h.example/"/><path '),
        ("<path ", "<foreignObject><p>PASS</p></foreignObject><path "),
        ("<path ", '<a href="javascript:x"><path '),
        ("stroke-linejoin: round", "background: url(http://h.example)"),
        ('style="', 'style="background: url(http://h.example); '),
        ("</svg>", "<!-- --></svg>"),
    ],
)
def test_chart_that_is_not_compared_still_runs_and_loads_nothing(there: Path, old: str, new: str) -> None:
    page = there / "report.html"
    head, svg, rest = page.read_text().partition("<svg")
    assert old in rest
    page.write_text(head + svg + rest.replace(old, new, 1))
    problems, _ = html.problems(there, events_of(there), time.monotonic() - 1)
    assert problems == ["report.html is not what these events render to; `hybrid-proofs render` writes it anew"]


def test_charts_that_there_is_no_time_for_are_said_not_to_be_compared(rendered: Path) -> None:
    problems, why = html.problems(rendered, events_of(rendered), time.monotonic() - 1)
    assert problems == []
    assert "its charts were not" in why


def test_nothing_is_looked_at_where_the_signature_does_not_hold(
    there: Path, rendered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / "statement.sig").write_text("none")
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "checked", lambda raw: pytest.fail("the recording was read"))
        code, report = verify(there, rendered, capsys)
    assert code == 1
    assert list(report["steps"]) == ["signature"]
    assert len(report["reasons"]) == 1
    assert "--despite-signature" in report["skipped"]["recording"]
    code, report = verify(there, rendered, capsys, "--despite-signature")
    assert code == 1
    assert report["steps"]["recording"] is True


def test_bundle_of_an_earlier_release_is_refused_in_one_line(
    there: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = there / "statement.json"
    stem, version = statement.PREDICATE_TYPE.rsplit("v", 1)
    path.write_text(path.read_text().replace(statement.PREDICATE_TYPE, f"{stem}v{int(version) - 1}"))
    sign(there, rendered.parent / "operator")
    (reason,) = verify(there, rendered, capsys)[1]["reasons"]
    assert "recorded by an earlier release, and has to be verified with that release" in reason
    assert cli.main(["diff", str(there), str(rendered)]) == 2
    assert "recorded by an earlier release" in capsys.readouterr().err
