"""What a host may answer: anything else is one typed error with a printable line, whatever the bytes."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proofs.evidence import host_input, unit_parts
from proofs.evidence.host_input import EvidenceFile, HostInputError
from proofs.experiment import controller_requests
from proofs.host import deployed
from proofs.runner import run as runner

RUN = "20260102T030405Z-0a1b"
DONE: dict[str, Any] = {"text": "", "next": 0, "ended": True}
ASK: dict[str, Any] = {"number": 1, "plays": ["verify"], "check": False, "without": []}
LINE: dict[str, Any] = {
    "when": "2026-01-02T03:04:05.000Z",
    "what": "deploy",
    "changed": ["/etc/x (content)"],
    "of": None,
}
TWO = "f 10 events.jsonl\nf 10 statement.json\n"
BLOB = f"blobs/{'0' * 64}"

PARSERS: list[Callable[[str], object]] = [
    host_input.check_run,
    host_input.check_host,
    host_input.parse_live,
    host_input.parse_listing,
    host_input.parse_probe,
    host_input.unmark,
    host_input.decode_base64,
    lambda text: host_input.parse_json(text, "it"),
    lambda text: host_input.parse_progress(text, 0),
    lambda text: host_input.parse_history(text.encode(errors="surrogatepass")),
    lambda text: host_input.check_evidence_json("events.jsonl", text.encode(errors="surrogatepass")),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
objects = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("text", "next", "ended", "ask", "when", "changed", "release_digest"), json_values)
)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text() | objects.map(json.dumps) | st.builds(lambda ask: json.dumps(DONE | {"ask": ask}), json_values))
@settings(max_examples=30)
@example(text="[" * 100_000)
@example(text="9" * 5000)
@example(text='{"a": "\\ud800"}')
@example(text="1e999")
def test_any_text_passes_or_is_one_printable_error(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
        said = "passed"
    except HostInputError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 2 * host_input.LINE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[NaN]", "not finite"),
        ("[-Infinity]", "not finite"),
        ("[1e999]", "not finite"),
        ("[18446744073709551616]", "beyond 64 bits"),
        ("[" * 66 + "]" * 66, "nested deeper than 64"),
        ("[" * 100_000, "recursion"),
        ('["\\ud800"]', "surrogates not allowed"),
        ('{"\\ud800": 1}', "surrogates not allowed"),
        (" " * 101, "101 bytes where 100 are the most"),
        (b'"\xff"', "can't decode"),
    ],
)
def test_foreign_json_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(HostInputError, match=reason):
        host_input.parse_json(text, "it", largest=100 if reason.startswith("101") else 1 << 20)
    assert host_input.parse_json("[18446744073709551615, 1.5]", "it") == [(1 << 64) - 1, 1.5]


def test_events_are_objects_and_not_cut_off() -> None:
    host_input.check_evidence_json("events.jsonl", b'{"a": 1}\n{}\n')
    for content, reason in ((b'{"a": 1}', "is cut off"), (b"{}\n[]\n", "line 2 is no object"), (b"\n", "no JSON")):
        with pytest.raises(HostInputError, match=reason):
            host_input.check_evidence_json("events.jsonl", content)
    with pytest.raises(HostInputError, match=r"statement\.json is no object"):
        host_input.check_evidence_json("statement.json", b"[]")


def test_run_ids_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host_input.check_run(runner.new_run_id())
    assert host_input.check_run(f"soak-{secrets.token_hex(16)}")


@pytest.mark.parametrize(
    "run",
    [
        "../../proofs",
        "/etc",
        ".",
        "..",
        "-rf",
        f"{RUN}\n",
        f" {RUN}",
        f"{RUN} -e a=b",
        f"{RUN}/..",
        "",
        f"soak-{RUN}",
        RUN.replace("0a1b", "0A1B"),
        RUN.replace("2026", "\uff12026"),
        "x" * 9999,
        f"{RUN}\x1b[2J",
    ],
)
def test_other_run_id_is_refused(run: str) -> None:
    with pytest.raises(HostInputError, match="is none of ours"):
        host_input.check_run(run)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "-x", ".git", "a\nb", "a\0", "x" * 300])
def test_inventory_name_with_a_path_is_refused(name: str) -> None:
    with pytest.raises(HostInputError, match="cannot be a directory's"):
        host_input.check_host(name)
    assert host_input.check_host("nuc-1.example.org:22")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"next": True}, "next is True"),
        ({"next": -1}, "next is -1"),
        ({"next": host_input.PROGRESS_BYTES + 1, "text": "x"}, "next is 67108865"),
        ({"next": 1}, "goes on at 1"),
        ({"next": 1, "text": "xx"}, "goes on at 1"),
        ({"text": ["x"]}, "text is \\['x'\\]"),
        ({"ended": 0}, "ended is 0"),
        ({"more": 1}, "unknown more"),
        ({"ask": {**ASK, "plays": []}}, "a proof asked: plays is"),
        ({"ask": {**ASK, "plays": "deploy"}}, "a proof asked: plays is"),
        ({"ask": {**ASK, "plays": [{"a": 1}]}}, "a proof asked: plays is"),
        ({"ask": {**ASK, "plays": ["verify"] * 3}}, "a proof asked: plays is"),
        ({"ask": {**ASK, "number": 0}}, "number is 0"),
        ({"ask": {**ASK, "number": 1 << 63}}, "number is 9223372036854775808"),
        ({"ask": {**ASK, "number": True}}, "number is True"),
        ({"ask": {**ASK, "check": "x"}}, "check is 'x'"),
        ({"ask": {**ASK, "without": ["tests/verify/test_a.py::test_b -x"]}}, "a proof asked: without is"),
        ({"ask": {**ASK, "without": ["tests/verify/test_a.py::test_b"] * 21}}, "a proof asked: without is"),
        ({"ask": {**ASK, "without": [5]}}, "a proof asked: without is"),
        ({"ask": {"number": 1}}, "has no plays"),
        ({"ask": []}, "is no object"),
        ({"ask": 0}, "is no object"),
    ],
)
def test_progress_of_another_shape_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(HostInputError, match=reason):
        host_input.parse_progress(json.dumps(DONE | wrong), 0)


def test_progress_continues_and_is_shown_without_escapes() -> None:
    text = "[1 s] \x1b]0;owned\x07\n[2 s] ok\u202e\n"
    progress = host_input.parse_progress(json.dumps({"text": text, "next": 50, "ended": False}), 10)
    assert progress.lines == ("[1 s] \\x1b]0;owned\\x07", "[2 s] ok\\u202e")
    with pytest.raises(HostInputError, match="goes on at 50 after 51"):
        host_input.parse_progress(json.dumps({"text": text, "next": 50, "ended": False}), 51)
    assert host_input.parse_progress(json.dumps(DONE | {"ask": ASK}), 0).ask is not None
    assert host_input.ASK_PLAYS == controller_requests.PLAYS


def test_run_without_news_is_given_up_on() -> None:
    empty = host_input.parse_progress(json.dumps(DONE | {"ended": False}), 0)
    budget = host_input.ProgressBudget()
    for _ in range(host_input.EMPTY_ANSWERS * 2):
        budget.count(empty, took_s=10)
    for _ in range(host_input.EMPTY_ANSWERS):
        budget.count(empty, took_s=0.1)
    with pytest.raises(HostInputError, match="without news"):
        budget.count(empty, took_s=0.1)


def test_endless_run_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_input, "PROGRESS_ANSWERS", 3)
    news = host_input.parse_progress(json.dumps({"text": "x", "next": 1, "ended": False}), 0)
    budget = host_input.ProgressBudget()
    for _ in range(3):
        budget.count(news, took_s=0.1)
    with pytest.raises(HostInputError, match="did not end"):
        budget.count(news, took_s=0.1)


def test_live_is_digests_a_machine_and_parts() -> None:
    parts = (unit_parts.part("file", "/etc/systemd/system/x.service", b""), unit_parts.part("environment", "A", b"b"))
    honest = json.loads(json.dumps(deployed.Live("a" * 64, "b" * 64, "c" * 32, "d" * 64, parts).as_json()))
    assert host_input.parse_live(json.dumps(honest)) == honest
    wrongs: list[dict[str, Any]] = [{"machine_id": "-c"}, {"release_digest": "A" * 64}, {"x": "y"}]
    wrongs += [{"config_digest": "a" * 64 + "\n"}, {"unit_digest": ""}, {"unit_parts": ["x"]}, {"unit_parts": "x"}]
    for wrong in wrongs:
        with pytest.raises(HostInputError, match="what is live"):
            host_input.parse_live(json.dumps(honest | wrong))


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        ("", "left no events.jsonl"),
        ("f 1 events.jsonl\n", "left no statement.json: it was ended"),
        (f"{TWO}f 1 blobs/__init__.py\n", "has 'blobs/__init__.py'"),
        (f"{TWO}f 1 __init__.py\n", "has '__init__.py'"),
        (f"{TWO}f 1 blobs/../{'0' * 64}\n", "may have events.jsonl"),
        (f"{TWO}f 1 {BLOB}x\n", "may have events.jsonl"),
        (f"{TWO}l 1 {BLOB}\n", "no plain file .kind l"),
        (f"{TWO}d 1 {BLOB}\n", "no plain file .kind d"),
        (f"{TWO}l 1 blobs\n", "no plain file .kind l"),
        (f"{TWO}d 1 blobs\nd 1 blobs\n", "lists 'blobs' twice"),
        (f"{TWO}{TWO}", "lists 'events.jsonl' twice"),
        (f"{TWO}f {host_input.BLOB_BYTES + 1} {BLOB}\n", "bytes"),
        (f"f {host_input.STATEMENT_BYTES + 1} statement.json\n{TWO}", "bytes"),
        (f"f {host_input.EVENTS_BYTES + 1} events.jsonl\n{TWO}", "bytes"),
        (f"{TWO}f -1 {BLOB}\n", "is listed as"),
        (f"{TWO}f 1  {BLOB}\n", "may have events.jsonl"),
        (TWO.replace(".", "x"), "may have events.jsonl"),
        (TWO + "".join(f"f 0 blobs/{n:064x}\n" for n in range(host_input.MOST_BLOBS + 1)), "files, and may have"),
        (TWO + "".join(f"f {host_input.BLOB_BYTES} blobs/{n:064x}\n" for n in range(5)), "bytes, and may have"),
    ],
)
def test_listing_of_another_shape_is_refused(listing: str, reason: str) -> None:
    with pytest.raises(HostInputError, match=reason):
        host_input.parse_listing(listing)


sizes = st.lists(st.integers(0, 3 * host_input.CHUNK_BYTES), min_size=1, max_size=6)


@given(sizes=sizes | st.just([1] * (2 * host_input.CHUNK_FILES + 3)))
def test_chunks_cover_every_byte_once(sizes: list[int]) -> None:
    files = [EvidenceFile(f"f{number:05}", size) for number, size in enumerate(sizes)]
    chunks = host_input.plan_chunks(files)
    assert all(sum(s.size for s in chunk) <= host_input.CHUNK_BYTES for chunk in chunks)
    assert all(len(chunk) <= host_input.CHUNK_FILES for chunk in chunks)
    at = {file.name: 0 for file in files}
    order = [segment.name for chunk in chunks for segment in chunk]
    assert order == sorted(order)
    for chunk in chunks:
        for segment in chunk:
            assert segment.offset == at[segment.name]
            at[segment.name] += segment.size
    assert list(at.values()) == sizes


def test_answer_stands_between_marks() -> None:
    assert host_input.unmark("lecture\nbegin-of-answer\nx\n\nend-of-answer\n") == "x\n\n"
    for text in ("", "x", "begin-of-answer\nx", "begin-of-answer x\nend-of-answer"):
        with pytest.raises(HostInputError, match="does not answer"):
            host_input.unmark(text)


def test_base64_has_the_expected_size() -> None:
    text = base64.encodebytes(b"x" * 100).decode()
    assert host_input.decode_base64(text, 100) == b"x" * 100
    with pytest.raises(HostInputError, match="100 bytes where 99 were asked for"):
        host_input.decode_base64(text, 99)
    with pytest.raises(HostInputError, match="no base64"):
        host_input.decode_base64("$$$$", 3)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"when": 5}, "when is 5"),
        ({"when": None}, "when is None"),
        ({"changed": [{"a": 1}]}, "changed is"),
        ({"changed": ["x"] * 101}, "changed is"),
        ({"changed": None}, "changed is"),
        ({"why": "x" * 4097}, "why is"),
        ({"changed": "x"}, "changed is"),
        ({"line": 7}, "unknown line"),
        ({"line": None}, "unknown line"),
        ({"ansible_facts": {}}, "unknown ansible_facts"),
        ({"by": "\ud800"}, "surrogates"),
    ],
)
def test_history_of_another_shape_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(HostInputError, match=reason):
        host_input.parse_history(json.dumps(LINE | wrong).encode())


def test_history_is_read_past_a_torn_line() -> None:
    honest = json.dumps(LINE)
    entries, torn = host_input.parse_history(f"{honest}\n{honest[:20]}\n\n{honest}\n".encode())
    assert ([entry["line"] for entry in entries], torn) == ([1, 4], [2])


def test_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostInputError, match="lines"):
        host_input.parse_history(b"\n" * (host_input.HISTORY_LINES + 1))
    with pytest.raises(HostInputError, match="bytes"):
        host_input.parse_history(b"x" * (host_input.HISTORY_BYTES + 1))


@pytest.mark.parametrize(
    "line",
    [
        "python=../../x",
        "python=3.11",
        "uid=0 x",
        "machine=x y",
        "clock=1e9",
        "os=\x1b[2J",
        "os=" + "x" * 301,
        "read_only=x",
        "uid=\u0663",
    ],
)
def test_probe_value_of_another_shape_is_refused(line: str) -> None:
    with pytest.raises(HostInputError, match="which no host of ours says"):
        host_input.parse_probe(f"uid=0\n{line}\n")
    honest = "Welcome!\nuid=0\npython=3.11.2\nsqlite=\nos=Debian GNU/Linux 12 (bookworm)\nmissing_tool=setpriv\n"
    assert len(host_input.parse_probe(honest)) == 5


def test_probe_is_bounded() -> None:
    with pytest.raises(HostInputError, match="it says 101 things"):
        host_input.parse_probe("uid=0\n" * 101)


def test_answer_is_bounded_in_time_and_size() -> None:
    def endless() -> dict[str, Any]:
        threading.Event().wait(30)  # which nobody sets; the alarm ends it
        return {}

    with pytest.raises(HostInputError, match="does not end within"):
        host_input.ask(endless, seconds=0.05)
    with pytest.raises(HostInputError, match="answers 11 characters where 10"):
        host_input.ask(lambda: {"rc": 0, "stdout": "x" * 11, "stderr": ""}, largest=10)
    with pytest.raises(HostInputError, match="answers 11 characters where 10"):
        host_input.ask(lambda: {"rc": 0, "stdout": "", "stderr": "x" * 11}, largest=10)
    answer = host_input.ask(lambda: {"rc": 1, "stdout": "a\r\n\x1b[2J\r\n", "stderr": "Shared connection to x closed."})
    assert (answer.rc, answer.summary) == (1, "a; \\x1b[2J")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much memory there is, only Linux tells")
def test_answer_is_bounded_in_memory() -> None:
    with pytest.raises(HostInputError, match="takes more than 64 MB"), host_input.receiving(30, memory=1 << 26):
        bytearray(1 << 28)
    assert len(bytearray(1 << 28)) == 1 << 28, "afterwards it is as before"


@pytest.mark.parametrize(
    ("first", "accepted"),
    [({"nonce": "ab"}, True), ({"nonce": "abc"}, False), ({}, False), (None, False), (["ab"], False), ("ab", False)],
)
def test_run_has_the_nonce_that_was_drawn_for_it(first: object, accepted: bool) -> None:
    with nullcontext() if accepted else pytest.raises(HostInputError, match="its first event lacks the nonce"):
        host_input.check_nonce(first, "ab")
    host_input.check_nonce(first, "")
