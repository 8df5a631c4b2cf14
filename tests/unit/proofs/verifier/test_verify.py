"""verify: a good bundle is allowed; one that was changed, with or without the key, is denied by the right step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_engine import live_gate
from proofs.catalog import REQUIRED
from proofs.evidence import recorder, signature, statement, unit_parts
from proofs.host import deployed
from proofs.verifier import cli, policy, verify
from proofs.verifier.policy import Requirements, VerificationError
from tests.support import proof_run
from tests.support.proof_run import LIVE, sign

Lines = list[bytes]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle of a whole run, signed, with the key and the allowed signers beside it."""
    root = tmp_path_factory.mktemp("proofs")
    directory = proof_run.record(root)
    key = proof_run.make_key(root / "operator")
    (root / "allowed_signers").write_text(f"operator {key.with_suffix('.pub').read_text()}")
    sign(directory, key)
    with pytest.MonkeyPatch.context() as patch:
        proof_run.enlist(patch)
        yield directory


@pytest.fixture
def there(signed: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    shutil.copytree(signed, tmp_path / "r1")
    return tmp_path / "r1"


def requirements(signed: Path) -> Requirements:
    return Requirements(signed.parent / "allowed_signers", lambda: LIVE, despite_signature=True)


def denied(directory: Path, what: Requirements) -> list[str]:
    report = verify.verify(directory, what)
    assert not report.allowed
    assert report.as_json()["decision"] == "DENY"
    return report.reasons


def test_good_bundle_is_allowed(signed: Path) -> None:
    report = verify.verify(signed, requirements(signed))
    assert report.reasons == []
    assert report.allowed
    assert report.signer == "operator"
    assert report.skipped == {"buglog": "there is none"}
    assert set(report.steps) | set(report.skipped) == set(policy.STEPS)


def test_trust_keeps_the_bytes_that_were_verified(there: Path, signed: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    report = verify.verify(there, requirements(signed))
    for name in ("statement.json", "statement.sig"):
        (there / name).write_bytes(b"another")
    cli._keep(report, kept)
    for name in ("statement.json", "statement.sig"):
        assert (kept / name).read_bytes() == (signed / name).read_bytes()


def test_gate_and_verifier_agree_on_their_constants() -> None:
    assert signature.NAMESPACE == live_gate.NAMESPACE
    assert REQUIRED["nuc"] == live_gate.REQUIRED
    assert (statement.STATEMENT_TYPE, statement.PREDICATE_TYPE) == (live_gate.STATEMENT_TYPE, live_gate.PREDICATE_TYPE)


def _without(lines: Lines, at: int) -> Lines:
    return [*lines[:at], *lines[at + 1 :]]


def _twice(lines: Lines, at: int) -> Lines:
    return [*lines[: at + 1], *lines[at:]]


def _swapped(lines: Lines, at: int) -> Lines:
    return [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]


def _edited(lines: Lines, at: int) -> Lines:
    event = json.loads(lines[at])
    event["stdout"] += " "
    return [*lines[:at], recorder.line_of(event), *lines[at + 1 :]]


def _cut(lines: Lines, at: int) -> Lines:
    return [*lines[:at], lines[at][: len(lines[at]) // 2]]


@pytest.mark.parametrize(
    ("spoil", "offset"),
    [(_without, 1), (_twice, 2), (_swapped, 1), (_edited, 1), (_cut, 1)],
    ids=["removed", "repeated", "reordered", "edited", "truncated"],
)
def test_changed_line_is_denied_by_its_number(
    there: Path, signed: Path, spoil: Callable[[Lines, int], Lines], offset: int
) -> None:
    """Without the signature: the chain alone has to show it."""
    lines = (signed / "events.jsonl").read_bytes().splitlines(keepends=True)
    # Without its last line a recording is a shorter one that holds; that is for the next test.
    for at in range(len(lines) - (spoil in (_without, _swapped))):
        (there / "events.jsonl").write_bytes(b"".join(spoil(lines, at)))
        (reason,) = (r for r in denied(there, Requirements(None, lambda: LIVE)) if r.startswith("recording"))
        assert reason.startswith(f"recording: events.jsonl: line {at + offset}: ")


def test_recording_cut_between_two_lines_is_denied(there: Path, signed: Path) -> None:
    lines = (signed / "events.jsonl").read_bytes().splitlines(keepends=True)
    for keep in (0, 1, len(lines) // 2, len(lines) - 1):
        (there / "events.jsonl").write_bytes(b"".join(lines[:keep]))
        reasons = "\n".join(denied(there, requirements(signed)))
        assert "recording: not one run from its beginning to its end" in reasons
        assert "verdicts: the statement is not what the events come to" in reasons


@pytest.mark.holds("EVIDENCE")
def test_lines_of_another_run_are_denied(there: Path, signed: Path, tmp_path: Path) -> None:
    other = (proof_run.record(tmp_path / "other") / "events.jsonl").read_bytes().splitlines(keepends=True)
    lines = (signed / "events.jsonl").read_bytes().splitlines(keepends=True)
    (there / "events.jsonl").write_bytes(b"".join([*lines[:70], *other[70:]]))
    assert any("line 71: " in reason for reason in denied(there, requirements(signed)))
    spliced = proof_run.rechained([json.loads(line) for line in [*lines[:70], *other[70:]]])
    (there / "events.jsonl").write_bytes(b"".join(map(recorder.line_of, spliced)))
    assert any(reason.startswith("verdicts: the statement") for reason in denied(there, requirements(signed)))
    (there / "events.jsonl").write_bytes(b"".join(other))
    assert any(reason.startswith("verdicts: the statement") for reason in denied(there, requirements(signed)))


@pytest.mark.holds("EVIDENCE")
@settings(max_examples=150)
@given(data=st.data())
def test_any_flipped_bit_is_denied(signed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    blob = next((signed / "blobs").iterdir()).relative_to(signed)
    name = data.draw(st.sampled_from(["events.jsonl", "statement.json", str(blob)]))
    spoilt = bytearray((signed / name).read_bytes())
    spoilt[data.draw(st.integers(0, len(spoilt) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    there = tmp_path_factory.mktemp("flipped") / "r1"
    shutil.copytree(signed, there)
    (there / name).write_bytes(spoilt)
    denied(there, Requirements(None, lambda: LIVE))


def blob_of(there: Path) -> Path:
    return next((there / "blobs").iterdir())


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda there: blob_of(there).unlink(), " cannot be read: No such file"),
        (lambda there: blob_of(there).write_text("shorter"), "is not what was recorded"),
        (lambda there: _link(blob_of(there)), "cannot be read"),
        (lambda there: _pipe(blob_of(there)), "is no plain file"),
        (lambda there: (there / "blobs" / "f").touch(), "blobs/f: no event refers to it"),
        (lambda there: (there / "statement.sig").unlink(), "signature: the statement is not signed"),
        (lambda there: (there / "statement.sig").write_text(""), "signature: the statement is not signed"),
        (lambda there: (there / "statement.sig").write_text("none"), "signature: made by nobody whom"),
        (lambda there: (there / "statement.sig").write_bytes(b"-" * 100_000), "is no signature"),
        (lambda there: (there / "statement.json").unlink(), "signature: statement.json cannot be read"),
        (lambda there: _pipe(there / "statement.json"), "signature: statement.json is no plain file"),
        (lambda there: (there / "statement.json").write_text("[" * 100_000), "statement: it is no statement of proofs"),
        (lambda there: (there / "statement.json").write_text('["PASS"]'), "statement: it is no statement of proofs"),
        (lambda there: (there / "events.jsonl").unlink(), "recording: events.jsonl cannot be read"),
        (lambda there: (there / "events.jsonl").write_text("[" * 100_000 + "\n"), "recording: events.jsonl: line 1"),
        (lambda there: (there / "BUGLOG.md").write_text("all is well"), "buglog: BUGLOG.md is not what these events"),
    ],
)
def test_missing_or_changed_file_is_denied(
    there: Path, signed: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(there)
    assert any(reason in line for line in denied(there, requirements(signed)))


def test_edited_statement_is_denied_by_signature_and_events(there: Path, signed: Path) -> None:
    path = there / "statement.json"
    path.write_text(path.read_text().replace('"restored": true', '"restored": 1'))
    reasons = denied(there, requirements(signed))
    assert any(reason.startswith("signature: does not hold for these bytes") for reason in reasons)
    assert any("predicate.proofs[toy].restored: 1, but True" in reason for reason in reasons)


def test_statement_with_a_repeated_key_is_denied(there: Path, signed: Path) -> None:
    path = there / "statement.json"
    path.write_text(path.read_text().replace("{", '{"_type": "another", ', 1))
    sign(there, signed.parent / "operator")
    assert denied(there, requirements(signed)) == ["verdicts: the statement is not written as the proofs write one"]


def test_signature_of_an_unknown_key_is_denied(there: Path, signed: Path, tmp_path: Path) -> None:
    sign(there, proof_run.make_key(tmp_path / "unknown"))
    (reason,) = denied(there, requirements(signed))
    assert reason.startswith("signature: made by nobody whom")


def test_signature_for_another_namespace_is_denied(there: Path, signed: Path) -> None:
    (there / "statement.sig").unlink()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(signed.parent / "operator"), "-n", "git"]
    subprocess.run([*command, str(there / "statement.json")], check=True, capture_output=True)
    (there / "statement.json.sig").rename(there / "statement.sig")
    (reason,) = denied(there, requirements(signed))
    assert reason.startswith("signature: does not hold for these bytes and the namespace hybrid-engine-proofs")


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ('namespaces="hybrid-engine-proofs"', True),
        ('namespaces="git"', False),
        ('valid-before="20200101"', False),
        ('valid-after="20200101"', True),
    ],
)
def test_options_of_allowed_signers_apply(signed: Path, tmp_path: Path, options: str, allowed: bool) -> None:
    public = (signed.parent / "operator.pub").read_text()
    signers = tmp_path / "signers"
    signers.write_text(f"!eve@x,first@x,second@x {options} {public}")
    assert verify.verify(signed, Requirements(signers, lambda: LIVE)).allowed is allowed


@pytest.mark.parametrize(
    ("current", "what"),
    [
        (replace(LIVE, release_digest="f" * 64), "another release"),
        (replace(LIVE, config_digest="f" * 64), "another configuration"),
        (replace(LIVE, machine_id="f" * 32), "another host"),
        (replace(LIVE, unit_digest="f" * 64, unit_parts=()), "another unit"),
        (replace(LIVE, machine_id=""), "another host"),
    ],
)
def test_live_release_config_unit_and_host_have_to_be_the_proven(
    signed: Path, current: deployed.Live, what: str
) -> None:
    (reason,) = denied(signed, replace(requirements(signed), current=lambda: current))
    assert reason.startswith(f"live: the proof is of {what}")


def test_parts_of_another_unit_are_named(signed: Path) -> None:
    proxy = unit_parts.part(unit_parts.ENVIRONMENT, "HTTPS_PROXY", b"http://192.0.2.1")
    masked = [part for part in LIVE.unit_parts if not part.endswith("40-hardening.conf")]
    current = replace(LIVE, unit_parts=(*masked, proxy), unit_digest=unit_parts.digest([*masked, proxy]))
    reasons = denied(signed, replace(requirements(signed), current=lambda: current))
    assert reasons[0].startswith("live: the proof is of another unit")
    drop_in = "/etc/systemd/system/hybrid-engine.service.d/40-hardening.conf"
    assert reasons[1:] == ["live: environment HTTPS_PROXY is new", f"live: file {drop_in} is gone"]


def test_unreadable_live_host_is_denied_unless_skipped(signed: Path, tmp_path: Path) -> None:
    nowhere = replace(requirements(signed), current=lambda: deployed.read(tmp_path / "none"))
    (reason,) = denied(signed, nowhere)
    assert reason.startswith("live: what is live cannot be read: ")
    report = verify.verify(signed, replace(nowhere, current=None))
    assert report.allowed
    assert report.skipped["live"] == "not compared with any release, config, unit or host"


@pytest.mark.parametrize(("hours", "word"), [(169, "169.0 h old, and may be 168"), (-1, "from the future")])
def test_too_old_and_future_bundles_are_denied(signed: Path, hours: float, word: str) -> None:
    now = datetime.now(UTC).timestamp() + hours * 3600
    (reason,) = denied(signed, replace(requirements(signed), now=lambda: now))
    assert reason.startswith("freshness: ")
    assert word in reason


def test_missing_required_proof_is_denied(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REQUIRED, "lab", ("toy", "stall"))
    assert denied(signed, requirements(signed)) == ["required: stall was not run"]
    assert verify.verify(signed, replace(requirements(signed), required=["toy2"])).allowed
    monkeypatch.delitem(REQUIRED, "lab")
    (reason,) = denied(signed, requirements(signed))
    assert "no kind of host is called 'lab'" in reason


def test_unchecked_step_is_a_reason(there: Path, signed: Path) -> None:
    (there / "events.jsonl").unlink()
    assert {"required: not checked", "verdicts: not checked"} <= set(denied(there, requirements(signed)))


def test_every_reason_is_reported_at_once(there: Path, signed: Path, tmp_path: Path) -> None:
    sign(there, proof_run.make_key(tmp_path / "unknown"))
    blob_of(there).unlink()
    what = replace(
        requirements(signed), current=lambda: deployed.Live("", "", "", ""), now=lambda: 0.0, required=["stall"]
    )
    steps = {reason.partition(":")[0] for reason in denied(there, what)}
    assert steps == {"signature", "recording", "live", "freshness", "required", "verdicts"}
    unread = replace(what, despite_signature=False)
    assert {reason.partition(":")[0] for reason in denied(there, unread)} == {"signature"}


def test_missing_bundle_signers_or_tool_raises(signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VerificationError, match="no such directory"):
        verify.verify(tmp_path / "none", requirements(signed))
    with pytest.raises(VerificationError, match="No such file"):
        verify.verify(signed, Requirements(tmp_path / "none", None))
    monkeypatch.setattr(signature, "KEYGEN", tmp_path / "none")
    with pytest.raises(VerificationError, match="is not installed"):
        verify.verify(signed, requirements(signed))


def _linked(signers: Path) -> None:
    signers.rename(signers.with_name("other"))
    signers.symlink_to("other")


def _linked_folder(signers: Path) -> None:
    signers.parent.rename(signers.parent.with_name("elsewhere"))
    signers.parent.symlink_to("elsewhere")


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda signers: signers.chmod(0o666), "can be written by others"),
        (lambda signers: signers.chmod(0o664), "can be written by others"),
        (lambda signers: signers.parent.chmod(0o777), "can be written by others"),
        (lambda signers: signers.parent.parent.chmod(0o777), "can be written by others"),
        (_linked, "no plain file|Too many levels|cannot be read"),
        (_linked_folder, "is a link"),
    ],
)
def test_signers_that_others_choose_vouch_for_nobody(
    signed: Path, tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    signers = tmp_path / "above" / "folder" / "allowed_signers"
    signers.parent.mkdir(parents=True)
    shutil.copy(signed.parent / "allowed_signers", signers)
    what = replace(requirements(signed), signers=signers)
    assert verify.verify(signed, what).allowed
    spoil(signers)
    with pytest.raises(VerificationError, match=why):
        verify.verify(signed, what)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_signers_of_another_user_vouch_for_nobody(signed: Path, tmp_path: Path) -> None:
    signers = tmp_path / "allowed_signers"
    shutil.copy(signed.parent / "allowed_signers", signers)
    os.chown(signers, 4242, 4242)
    with pytest.raises(VerificationError, match="belongs to user 4242"):
        verify.verify(signed, replace(requirements(signed), signers=signers))


def test_keygen_of_the_path_is_not_asked(signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssh-keygen").write_text("#!/bin/sh\necho eve\n")
    (tmp_path / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert verify.verify(signed, requirements(signed)).signer == "operator"


def test_verify_changes_nothing(signed: Path) -> None:
    def snapshot() -> dict[str, tuple[int, bytes]]:
        files = (path for path in signed.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = snapshot()
    verify.verify(signed, requirements(signed))
    assert snapshot() == before
