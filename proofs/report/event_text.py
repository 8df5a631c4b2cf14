"""One event of a recording as text for people: a heading, its whole content, and a brief form of a few lines."""

import json
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain

from proofs.evidence.recorder import Event, line_number
from proofs.report.page import cut, one_line
from proofs.verdict import Json

_WIDE = 120  # characters of a value, or of a line in the brief form
_FIRST, _LAST = 2, 3  # lines of an output that the brief form shows
_PROPERTY = re.compile(r"\w+=.*")


def heading(event: Event) -> str:
    """What kind of event it is, in one line."""
    kind, data = event["kind"], event["data"]
    if kind == "command":
        return f"command, exit {event['rc']}"
    if kind == "intent":
        return f"intent: {event['stdout']}" if event["stdout"] else "intent"
    if kind == "waited":
        tries = f"{data['tries']} tr{'y' if data['tries'] == 1 else 'ies'}"
        took = f"{data['seconds']} s ({tries})"
        if data.get("verb") == "assert_never":
            return f"watched {took} that {data['for']} does not happen: it did{'' if data['came'] else ' not'}"
        return f"waited {took} for {data['for']}: it {'came' if data['came'] else 'did not come'}"
    return str(kind)


def blocks(event: Event) -> Iterator[tuple[str, str]]:
    """The event's whole content as blocks of text, each with a label ("" for the output itself)."""
    output = "" if event["kind"] == "intent" else event["stdout"]  # an intent's text is its heading
    command = f"$ {shlex.join(event['argv'])}\n" if event["argv"] else ""
    if command or output:
        yield "", command + output
    if event["stderr"]:
        yield "stderr", event["stderr"]
    if event["data"] is not None and event["kind"] != "waited":  # that of a wait is its heading
        yield from _data_blocks(event["data"])


def _data_blocks(data: Json) -> Iterator[tuple[str, str]]:
    if not isinstance(data, dict):
        yield "data", _value(data)
        return
    texts = {key: value for key, value in data.items() if isinstance(value, str) and "\n" in value}
    if lines := [f"{key}: {_value(value)}" for key, value in data.items() if key not in texts]:
        yield "data", "\n".join(lines)
    yield from texts.items()


def _value(value: Json) -> str:
    text = compact(value)
    return text if len(text) <= _WIDE else json.dumps(value, indent=1, ensure_ascii=False)


def compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def brief(event: Event, output: str) -> list[str]:
    """The event in a few lines: its heading, then its command and how its output begins and ends.

    output: the whole of its stdout, also where that is a blob.
    """
    body: list[str] = []
    if event["argv"]:
        body.append(f"$ {shlex.join(event['argv'])}")
    if event["kind"] != "intent":
        body += _few(_readable(event["argv"], output + event["stderr"]))
    if event["data"] and event["kind"] != "waited":
        body += _brief_data(event["data"])
    first = cut(one_line(f"line {line_number(event)}: {heading(event)}"), _WIDE)
    return [first, *(f"  {cut(one_line(text), _WIDE)}" for text in body)]


def _brief_data(data: Json) -> list[str]:
    """Texts by their first and last lines; of other values the plain ones, several a line."""
    if not isinstance(data, dict):
        return [compact(data)]
    texts = [value for value in data.values() if isinstance(value, str) and "\n" in value]
    plain = {key: value for key, value in data.items() if value not in texts}
    words = [f"{key}={'...' if isinstance(value, dict | list) else compact(value)}" for key, value in plain.items()]
    return [*_wrapped(words), *(text for value in texts for text in _few(value.splitlines()))]


def _wrapped(words: list[str]) -> list[str]:
    return textwrap.wrap("  ".join(words), _WIDE - 2, break_long_words=False, break_on_hyphens=False)


def _few(lines: list[str]) -> list[str]:
    left_out = len(lines) - _FIRST - _LAST
    return lines if left_out <= 1 else [*lines[:_FIRST], f"[{left_out} lines]", *lines[-_LAST:]]


def _readable(argv: Sequence[str], output: str) -> list[str]:
    """The lines of an output: of a journal its messages, of `systemctl show` several properties a line."""
    lines = [text for text in output.splitlines() if text.strip()]
    if argv[:1] == ["journalctl"]:
        return list(chain.from_iterable(_message(text) for text in lines))
    if argv[:2] == ["systemctl", "show"] and all(_PROPERTY.fullmatch(text) for text in lines):
        return _wrapped(lines)
    return lines


def _message(text: str) -> list[str]:
    """The message of a journal entry in JSON; the line itself where it is none."""
    try:
        return str(json.loads(text)["MESSAGE"]).splitlines()
    except (ValueError, KeyError, TypeError, RecursionError):
        return [text]
