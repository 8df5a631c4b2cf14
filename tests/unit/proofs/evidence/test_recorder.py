"""The flight recorder: what is written can be read, what was changed is noticed, and by which line."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.evidence import blobs
from proofs.evidence.recorder import ChainBroken, Recorder, canonical, checked, line_of, read
from proofs.evidence.redaction import Redactor

Lines = list[str]


def recorded(path: Path, count: int = 4) -> Path:
    recorder = Recorder(path)
    for number in range(count):
        recorder.write("command", argv=["true", str(number)], rc=0, stdout=f"out {number}\n")
    recorder.close()
    return path


def test_a_recording_reads_back(tmp_path: Path) -> None:
    events = read(recorded(tmp_path / "events.jsonl"))
    assert [event["seq"] for event in events] == [0, 1, 2, 3]
    assert [event["argv"][1] for event in events] == ["0", "1", "2", "3"]
    assert {"seq", "prev", "mono_ns", "utc", "kind", "argv", "rc", "stdout", "stderr", "sha256"} <= events[0].keys()


def _edit(lines: Lines) -> Lines:
    event = json.loads(lines[2])
    event["rc"] = 1
    return [*lines[:2], json.dumps(event), *lines[3:]]


def _rehash_nothing(lines: Lines) -> Lines:
    return [*lines[:2], lines[2].replace("out 2", "OUT 2"), *lines[3:]]


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (_edit, 3),
        (_rehash_nothing, 3),
        (lambda lines: [*lines[:1], *lines[2:]], 2),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], 2),
        (lambda lines: [*lines[:3], "not json"], 4),
        (lambda lines: [*lines[:3], '{"seq": 3}'], 4),
        (lambda lines: [*lines, lines[3]], 5),
    ],
    ids=["edited", "edited text", "removed", "reordered", "not json", "no event", "repeated"],
)
def test_changed_line_is_named(tmp_path: Path, spoil: Callable[[Lines], Lines], line: int) -> None:
    path = recorded(tmp_path / "events.jsonl")
    path.write_text("\n".join(spoil(path.read_text().splitlines())) + "\n")
    with pytest.raises(ChainBroken) as caught:
        read(path)
    assert caught.value.line == line


def test_torn_last_line_is_refused_then_cut_off(tmp_path: Path) -> None:
    path = recorded(tmp_path / "events.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ChainBroken):
        read(path)
    Recorder(path).write("undone")
    assert [event["kind"] for event in read(path)] == ["command", "command", "command", "undone"]


def test_recorders_and_threads_share_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    recorders = [Recorder(path), Recorder(path)]

    def work(recorder: Recorder) -> None:
        for _ in range(25):
            recorder.write("command", stdout="x" * 100)

    threads = [threading.Thread(target=work, args=(recorder,)) for recorder in recorders for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event["seq"] for event in read(path)] == list(range(100))


def test_big_output_is_a_blob_named_by_digest(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    text = "".join(f"line {number}\n" for number in range(5000))
    recorder = Recorder(path)
    recorder.write("command", stdout=text, stderr="short")
    recorder.write("command", stdout=text)
    first, second = read(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert first["blobs"] == second["blobs"] == {"stdout": {"sha256": digest, "bytes": len(text)}}
    assert [entry.name for entry in (tmp_path / "blobs").iterdir()] == [digest]
    assert (tmp_path / "blobs" / digest).read_text() == text
    assert first["stdout"].startswith("line 0\nline 1\n")
    assert first["stdout"].endswith(f"blobs/{digest}]")
    assert first["stderr"] == "short"
    assert blobs.problems(tmp_path / "blobs", [first, second]) == []


def test_changed_blob_is_named_with_its_line(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "events.jsonl")
    recorder.write("run")
    recorder.write("command", stdout="y" * 20_000)
    events = read(tmp_path / "events.jsonl")
    (blob,) = (tmp_path / "blobs").iterdir()
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1])
    assert blobs.problems(blob.parent, events) == [f"line 2: blobs/{blob.name} is not what was recorded"]
    blob.unlink()
    (problem,) = blobs.problems(blob.parent, events)
    assert problem.startswith(f"line 2: blobs/{blob.name} cannot be read")
    blob.symlink_to("/dev/zero")
    (problem,) = blobs.problems(blob.parent, events)
    assert "cannot be read" in problem
    blob.unlink()
    os.mkfifo(blob)
    assert blobs.problems(blob.parent, events) == [f"line 2: blobs/{blob.name} is no plain file"]
    blob.unlink()
    blob.write_bytes(whole)
    (blob.parent / "more").touch()
    assert blobs.problems(blob.parent, events) == ["blobs/more: no event refers to it"]


def test_every_byte_of_a_line_counts(tmp_path: Path) -> None:
    path = recorded(tmp_path / "events.jsonl")
    for old, new in ((b'{"seq": 1', b'{"seq":  1'), (b'"seq": 1', b'"seq": 1, "seq": 1'), (b"\n", b"\r\n")):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(old, new, 1))
        with pytest.raises(ChainBroken):
            read(path)
        path.write_bytes(whole)


def test_wrong_seq_is_refused_though_hashes_hold(tmp_path: Path) -> None:
    events = read(recorded(tmp_path / "events.jsonl"))
    for event in events:
        event["seq"] += 1
        event["prev"] = events[event["seq"] - 2]["sha256"] if event["seq"] > 1 else event["prev"]
        event["sha256"] = hashlib.sha256(canonical(event)).hexdigest()
    with pytest.raises(ChainBroken, match="line 1: seq 1 where 0 was due"):
        list(checked(b"".join(map(line_of, events))))


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"Environment=KRAKEN_API_KEY={SECRET}",
        f'Environment="A=b" "DB_PASSWORD={SECRET} and more {SECRET}"',
        f"SetCredential=exchange:{SECRET} \\\n  {SECRET}",
        f'api_secret = "{SECRET}"',
        json.dumps({"access_token": SECRET}),
        json.dumps({"line": json.dumps({"access_token": SECRET})}),
        f"Authorization: Bearer {SECRET}",
        f"wss://user:{SECRET}@exchange.example/ws",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----",
        f"whatever says {SECRET} plainly",
    ],
)
def test_no_credential_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    if "plainly" in text:  # only its value can tell
        monkeypatch.setenv("EXCHANGE_TOKEN", SECRET)
    recorder = Recorder(tmp_path / "events.jsonl")
    recorder.write("command", argv=["sh", "-c", text], stdout=text, stderr=text, data={"cat": [text]})
    recorder.write("command", stdout="x" * 20_000 + "\n" + text)
    recorder.write("command", argv=["login", "--password", SECRET], data={"password": SECRET, "n": 1})
    read(tmp_path / "events.jsonl")
    for path in (tmp_path / "events.jsonl", *(tmp_path / "blobs").iterdir()):
        assert SECRET not in path.read_text()
        assert "[redacted]" in path.read_text()


@given(
    st.lists(
        st.sampled_from(
            [
                "API_TOKEN",
                "=",
                ":",
                " ",
                '"',
                "'",
                "\\",
                "\n",
                "Bearer ",
                "SetCredential=x:",
                "wss://u:",
                "@",
                "abc123456",
            ]
        ),
        max_size=12,
    )
)
def test_redaction_is_idempotent(parts: list[str]) -> None:
    once = Redactor({}).text("".join(parts))
    assert Redactor({}).text(once) == once


def test_other_text_is_not_redacted() -> None:
    text = "LoadCredential=key:/etc/credstore/key\nKeyringMode=private\nUMask=0077\ntls_key=/a/b.pem\nn = 5"
    assert Redactor({"PATH": "/usr/bin", "A_TOKEN": "5"}).text(text) == text
