"""What a proof asks of its controller: to play a playbook against this host, as its operator would, and to tell how
it went.

Deploying and verifying are the controller's work, so a proof of them cannot do it from here. It leaves an ask in the
run's directory; `hybrid-proofs follow --answers`, by which the controller that began the run follows it, shows the ask,
and `hybrid-proofs answer` takes what came of it. A run that nobody follows this way gets no answer, and shows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proofs.evidence.atomic_file import write_atomically
from proofs.host.shell import Host, WaitTimeout
from proofs.restore import lease
from proofs.verdict import Json

PLAYS = ("deploy", "verify")
_SEEN_S = 20.0  # a follower asks every few seconds, and its connection may be a bad one
_ANSWER_S = 240.0


class Unanswered(WaitTimeout):
    """No controller took the ask, or none told what came of it."""


@dataclass(frozen=True)
class Answer:
    """How a playbook went. argv: what was played; rc: None when nobody told."""

    argv: tuple[str, ...]
    rc: int | None
    stdout: str
    stderr: str


def ask(host: Host, run: str, plays: Sequence[str], *, check: bool = False, without: Sequence[str] = ()) -> Answer:
    """Have these playbooks played, one after the other, and record how that went.

    Args:
        plays: of PLAYS. check: only look what would be changed. without: assertions of verify that are left out.

    Raises:
        Unanswered: nobody follows the run that could, or no answer came in time.
        Interrupted: the run is being stopped.
    """
    folder = _folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + sum(1 for _ in folder.glob("*.json"))
    asked = {"number": number, "plays": list(plays), "check": check, "without": list(without)}
    host.recorder.intent("ask the controller", scope=host.scope, data=asked)
    _put(folder / f"{number}.json", asked)
    try:
        host.wait_for("a controller that takes the ask", _SEEN_S, (folder / f"{number}.seen").exists)
    except WaitTimeout:
        raise Unanswered(f"no controller answered in {_SEEN_S:g} s: begin this with playbooks/prove.yml") from None
    try:
        host.wait_for("the controller's answer", _ANSWER_S, (folder / f"{number}.answer").exists)
    except WaitTimeout:
        raise Unanswered(f"the controller did not tell in {_ANSWER_S:g} s what came of {', '.join(plays)}") from None
    told = json.loads((folder / f"{number}.answer").read_text())
    answer = Answer(tuple(told["argv"]), told["rc"], told["stdout"], told["stderr"])
    host.recorder.write(
        "answer", scope=host.scope, argv=answer.argv, rc=answer.rc, stdout=answer.stdout, stderr=answer.stderr,
        data={"number": number},
    )  # fmt: skip
    return answer


def open_ask(run: str) -> Json:
    """The ask of this run that has no answer yet, None when there is none; who is told of it will see to it."""
    folder = _folder(run)
    for path in sorted(folder.glob("*.json"), key=lambda path: int(path.stem)):
        if not path.with_suffix(".answer").exists():
            path.with_suffix(".seen").touch()
            return json.loads(path.read_text())
    return None


def answer(run: str, number: int, text: str) -> None:
    """Take what came of an ask: {argv, rc, stdout, stderr} as JSON.

    Raises:
        ValueError: there is no such ask, it has its answer, or this is none.
    """
    folder = _folder(run)
    path = folder / f"{number}.answer"
    if path.exists() or not (folder / f"{number}.json").exists():
        raise ValueError(f"run {run} does not wait for an answer to ask {number}")
    told = json.loads(text)
    shape = {"argv": list, "rc": int, "stdout": str, "stderr": str}
    if not isinstance(told, dict) or told.keys() != shape.keys():
        raise ValueError("an answer has argv, rc, stdout and stderr")
    if any(not isinstance(told[key], kind) for key, kind in shape.items()):
        raise ValueError("an answer's argv is a list, its rc a number, and the rest is text")
    _put(path, told)


def _folder(run: str) -> Path:
    return lease.RUN_ROOT / run / "asks"


def _put(path: Path, value: Json) -> None:
    write_atomically(path, json.dumps(value).encode())
