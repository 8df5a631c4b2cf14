"""One event as text: what its heading says, that its whole content is there, and what its brief form leaves out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proofs.report import event_text

Event = dict[str, Any]


def event(kind: str, **fields: Any) -> Event:
    empty = {"seq": 6, "scope": "toy", "argv": [], "rc": None, "stdout": "", "stderr": "", "data": None, "blobs": {}}
    return {**empty, "kind": kind, **fields}


def brief(one: Event) -> list[str]:
    return event_text.brief(one, one["stdout"])


WAIT = {"for": "a new tick", "seconds": 0.5, "tries": 1}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (event("command", rc=1), "command, exit 1"),
        (event("intent", stdout="write /x"), "intent: write /x"),
        (event("intent", argv=["mount"]), "intent"),
        (event("waited", data={**WAIT, "came": True}), "waited 0.5 s (1 try) for a new tick: it came"),
        (
            event("waited", data={**WAIT, "tries": 2, "came": False, "verb": "poll"}),
            "waited 0.5 s (2 tries) for a new tick: it did not come",
        ),
        (
            event("waited", data={**WAIT, "came": False, "verb": "assert_never"}),
            "watched 0.5 s (1 try) that a new tick does not happen: it did not",
        ),
        (event("witness", data={}), "witness"),
    ],
)
def test_heading(one: Event, expected: str) -> None:
    assert event_text.heading(one) == expected


def test_blocks_hold_the_whole_event() -> None:
    one = event(
        "command",
        argv=["echo", "a b"],
        stdout="out\n",
        stderr="err\n",
        data={"n": 1, "text": "x\ny", "more": ["z" * 200]},
    )
    assert dict(event_text.blocks(one)) == {
        "": "$ echo 'a b'\nout\n",
        "stderr": "err\n",
        "data": 'n: 1\nmore: [\n "' + "z" * 200 + '"\n]',
        "text": "x\ny",
    }
    assert list(event_text.blocks(event("seed", data=[1]))) == [("data", "[1]")]


def test_brief_output_is_how_it_begins_and_ends() -> None:
    one = event("command", argv=["cat"], rc=0, stdout="".join(f"{n}\n" for n in range(9)) + "x" * 500)
    lines = brief(one)
    assert lines[:-1] == ["line 7: command, exit 0", "  $ cat", "  0", "  1", "  [5 lines]", "  7", "  8"]
    assert lines[-1].endswith("x...")
    assert max(map(len, lines)) <= 122


def test_brief_journal_is_its_messages() -> None:
    entries = [{"MESSAGE": "Started it", "_PID": "1"}, {"MESSAGE": "two\nlines"}, {"MESSAGE": [1, 2]}]
    text = "".join(json.dumps(entry) + "\n" for entry in entries) + "not JSON"
    lines = brief(event("command", argv=["journalctl", "-u", "x"], rc=0, stdout=text))
    assert lines[2:] == ["  Started it", "  two", "  lines", "  [1, 2]", "  not JSON"]


def test_brief_properties_share_lines() -> None:
    one = event("command", argv=["systemctl", "show", "x"], rc=0, stdout="ActiveState=failed\nJob=\nNRestarts=2\n")
    assert brief(one)[2:] == ["  ActiveState=failed  Job=  NRestarts=2"]


def test_brief_data_is_its_plain_values() -> None:
    one = event("exchange stats", data={"sent": 3, "connections": [{}], "text": "a\nb"})
    assert brief(one) == ["line 7: exchange stats", "  sent=3  connections=...", "  a", "  b"]
