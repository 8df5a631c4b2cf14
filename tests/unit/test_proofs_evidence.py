"""The flight recorder: what is written can be read, what was changed is noticed, and by which line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proofs.evidence import ChainBroken, Recorder, read

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
def test_what_was_changed_is_refused_by_its_line(tmp_path: Path, spoil: Callable[[Lines], Lines], line: int) -> None:
    path = recorded(tmp_path / "events.jsonl")
    path.write_text("\n".join(spoil(path.read_text().splitlines())) + "\n")
    with pytest.raises(ChainBroken) as caught:
        read(path)
    assert caught.value.line == line


def test_a_torn_last_line_is_refused_and_a_later_writer_cuts_it_off(tmp_path: Path) -> None:
    path = recorded(tmp_path / "events.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ChainBroken):
        read(path)
    Recorder(path).write("undone")
    assert [event["kind"] for event in read(path)] == ["command", "command", "command", "undone"]


def test_two_recorders_and_several_threads_share_one_chain(tmp_path: Path) -> None:
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


def test_a_huge_output_is_kept_by_its_beginning_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Recorder(path).write("command", stdout="y" * 1_000_000)
    (event,) = read(path)
    assert len(event["stdout"]) < 201_000
    assert "1000000 characters in all, sha256 " in event["stdout"]
