"""verify, sign and diff as they are typed: exit codes, one clear line for a bad call, JSON for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs import cli
from proofs.host import deployed
from proofs.verifier import policy
from proofs.verifier import verify as verifying
from tests.support import proof_run
from tests.support.proof_run import LIVE, events_of, put, rechained

DIGESTS = [f"--release-digest={LIVE.release_digest}", f"--config-digest={LIVE.config_digest}"]
ALL = [*DIGESTS, f"--machine-id={LIVE.machine_id}", f"--unit-digest={LIVE.unit_digest}"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("proofs")
    directory = proof_run.record(root)
    key = proof_run.make_key(root / "operator")
    (root / "allowed_signers").write_text(f"operator {key.with_suffix('.pub').read_text()}")
    with pytest.MonkeyPatch.context() as patch:
        proof_run.enlist(patch)
        yield directory


@pytest.fixture
def there(recorded: Path, tmp_path: Path) -> Path:
    shutil.copytree(recorded, tmp_path / "r1")
    return tmp_path / "r1"


def call(*args: str | Path) -> int:
    try:
        return cli.main([str(arg) for arg in args])
    except SystemExit as stop:  # argparse
        return int(stop.code or 0)


def sign(there: Path, recorded: Path, *more: str) -> int:
    return call("sign", there, "--key", recorded.parent / "operator", *(more or ALL))


def verify(there: Path, recorded: Path, *more: str) -> int:
    return call("verify", there, "--allowed-signers", recorded.parent / "allowed_signers", *more)


def test_signed_bundle_is_allowed(there: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sign(there, recorded) == 0
    assert capsys.readouterr().out == f"signed: {there / 'statement.sig'}\n"
    assert verify(there, recorded, *ALL) == 0
    assert capsys.readouterr().out.startswith(f"ALLOW: {there}: run r1, ended ")
    assert verify(there, recorded, "--skip-live") == 0
    assert "(live: not compared with any release, config, unit or host)" in capsys.readouterr().out
    assert verify(there, recorded, "--json", *ALL) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["decision"], report["signer"], report["reasons"]) == ("ALLOW", "operator", [])


def test_unsigned_bundle_is_denied(there: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(there, recorded, "--json", *ALL) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["decision"] == "DENY"
    assert "signature: the statement is not signed" in report["reasons"]


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(
    "step",
    ["recorder.checked", "event_order.problems", "recompute.rebuild", "recompute.Trace", "recompute.judge", "_pages"],
)
def test_bundle_that_takes_too_much_memory_is_denied_for_that(
    there: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    def take(*_: object) -> None:
        raise MemoryError

    assert sign(there, recorded) == 0
    capsys.readouterr()
    monkeypatch.setattr(f"proofs.verifier.verify.{step}", take)
    assert verify(there, recorded, *ALL) == 1
    reasons = [line for line in capsys.readouterr().out.splitlines() if "not checked" not in line]
    assert reasons[1:] == ["  recording: checking the bundle is given up, it takes more than 240 MB of memory"]


def test_live_is_read_from_this_host_where_an_engine_is_installed(
    there: Path, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign(there, recorded) == 0
    monkeypatch.setattr(deployed, "ENGINE", tmp_path / "none")
    assert verify(there, recorded) == 0
    assert "(live: not compared with any release, config, unit or host)" in capsys.readouterr().out
    assert verify(there, recorded, "--live") == 1
    assert "live: what is live cannot be read: " in capsys.readouterr().out
    monkeypatch.setattr(deployed, "ENGINE", tmp_path)  # something is installed: then it has to be what was proven
    assert verify(there, recorded) == 1
    monkeypatch.setattr(deployed, "read", lambda: LIVE)
    assert verify(there, recorded) == verify(there, recorded, "--live") == 0


def test_sign_refuses_what_verify_denies(there: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = events_of(there)
    next(event for event in events if event["kind"] == "measured" and event["scope"] == "toy")["data"]["value"] = 7
    put(there, rechained(events))
    assert sign(there, recorded) == 1
    assert capsys.readouterr().out.startswith("DENY: ")
    assert sign(there, recorded, *ALL[:-2], "--machine-id=another", ALL[-1]) == 1
    assert not (there / "statement.sig").exists()


def test_sign_signs_the_bytes_that_were_verified(there: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another statement takes its place between verification and signature."""
    real, path = verifying.verify, there / "statement.json"

    def swapping(*args: Any) -> policy.Report:
        report = real(*args)
        path.write_bytes(path.read_bytes().replace(b'"n": 6', b'"n": 9'))
        return report

    monkeypatch.setattr(verifying, "verify", swapping)
    assert sign(there, recorded) == 0
    monkeypatch.undo()
    assert verify(there, recorded, "--skip-live") == 1


def test_bundle_cannot_send_terminal_escapes(there: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shout(statement: dict[str, dict[str, object]]) -> None:
        statement["predicate"]["run"] = "x\x1b[2K\rALLOW: \nALLOW: \u202e\x9b2K"

    put(there, events_of(recorded), shout)
    assert verify(there, recorded, "--skip-live") == 1
    output = capsys.readouterr().out
    assert output.startswith("DENY: ")
    assert "\nALLOW" not in output
    assert all(character.isprintable() or character == "\n" for character in output)


def test_missing_key_signs_nothing(there: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sign", there, "--key", there / "none", "--skip-live") == 2
    assert capsys.readouterr().err.startswith("hybrid-proofs: not signed: ")
    assert not (there / "statement.sig").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--release-digest=x"], "give all"),
        (["--live", "--skip-live"], "exclude each other"),
        (["--skip-live", *ALL], "exclude each other"),
        (["--max-age-h=0"], "a number of hours above 0"),
        (["--max-age-h=nan"], "a number of hours above 0"),
        (["--required=toy,nonsense"], "no proof is called 'nonsense'"),
        (["--required="], "no proof is called ''"),
    ],
)
def test_bad_call_exits_2(
    there: Path, recorded: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(there, recorded, *options) == 2
    assert message in capsys.readouterr().err


def test_missing_bundle_or_signers_is_denied_with_one_line(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path / "none", recorded, "--skip-live") == 1
    first, reason, *_ = capsys.readouterr().out.splitlines()
    assert (first[:5], reason) == ("DENY:", f"  signature: {tmp_path / 'none'}: no such directory")
    os.mkfifo(tmp_path / "pipe")
    for name, why in {"none": "No such file or directory", "pipe": "is no plain file"}.items():
        assert call("verify", recorded, "--allowed-signers", tmp_path / name, "--skip-live", "--json") == 1
        report = json.loads(capsys.readouterr().out)
        assert report["decision"] == "DENY"
        assert why in report["reasons"][0]


def test_diff_prints_differences(there: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("diff", recorded, there) == 0
    assert capsys.readouterr().out.endswith("verdicts: the same\n")

    def other(statement: dict[str, object]) -> None:
        statement["subject"][0]["digest"]["sha256"] = "f" * 64  # type: ignore[index]
        predicate: dict[str, list[dict[str, object]]] = statement["predicate"]  # type: ignore[assignment]
        predicate["unit"] = predicate["unit"].replace("ExecStart=/x", "ExecStart=/y")  # type: ignore[attr-defined]
        predicate["proofs"][0].update(verdict="FAIL")
        predicate["proofs"][1]["cases"][0]["checks"][0].update(measured=2)  # type: ignore[index]

    put(there, events_of(recorded), other)
    assert call("diff", recorded, there) == 1
    output = capsys.readouterr().out
    for line in (
        f"release: 0.1.0-aaaaaaaaaaaa sha256 {'a' * 64} -> 0.1.0-aaaaaaaaaaaa sha256 {'f' * 64}",
        "toy: PASS -> FAIL",
        "toy2/first: value: 1 -> 2",
        "-ExecStart=/x",
        "+ExecStart=/y",
        "verdicts: different",
    ):
        assert f"{line}\n" in output
    assert call("diff", recorded, recorded.parent) == 2
    assert capsys.readouterr().err.startswith("hybrid-proofs: the statements cannot be compared: ")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a temporary file is needed")
def test_verify_needs_no_writable_disk(there: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sign(there, recorded) == 0
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert verify(there, recorded, *ALL) == 0
