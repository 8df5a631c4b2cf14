"""Requests of a proof to its controller: to run a playbook against this host, as the operator would.

Deploying and verifying are the controller's work, so a proof of them cannot do it on the host. It leaves a request in
the run's directory. `hybrid-proofs follow --answers`, by which the controller follows the run, shows the request, and
`hybrid-proofs answer` stores the result. A run that nobody follows this way gets no answer, and is INCONCLUSIVE.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proofs.evidence.atomic_file import write_atomically
from proofs.host.shell import Host, WaitTimeout
from proofs.restore import lease
from proofs.verdict import Json

PLAYS = ("deploy", "verify", "adopt", "return")  # adopt and return: what somebody else's service becomes
_SEEN_S = 20.0  # a follower asks every few seconds, and its connection may be a bad one
_ANSWER_S = 240.0


class Unanswered(WaitTimeout):
    """No controller took the request, or none returned its result."""


@dataclass(frozen=True)
class Answer:
    """The result of playbooks. argv: the command; rc: None when there was no result."""

    argv: tuple[str, ...]
    rc: int | None
    stdout: str
    stderr: str


def ask(host: Host, run: str, plays: Sequence[str], *, check: bool = False, without: Sequence[str] = ()) -> Answer:
    """Have these playbooks run, one after the other, and record the result.

    Args:
        plays: of PLAYS. check: only look what would be changed. without: assertions of verify that are left out.

    Raises:
        Unanswered: nobody follows the run that could, or no answer came in time.
        Interrupted: the run is being stopped.
    """
    folder = _folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + sum(1 for _ in folder.glob("*.json"))
    request = {"number": number, "plays": list(plays), "check": check, "without": list(without)}
    host.recorder.intent("ask the controller", scope=host.scope, data=request)
    _put(folder / f"{number}.json", request)
    if not host.poll("a controller that takes the ask", _SEEN_S, (folder / f"{number}.seen").exists, every=0.1):
        raise Unanswered(f"no controller answered in {_SEEN_S:g} s: begin this with playbooks/prove.yml")
    if not host.poll("the controller's answer", _ANSWER_S, (folder / f"{number}.answer").exists, every=0.1):
        raise Unanswered(f"the controller did not tell in {_ANSWER_S:g} s what came of {', '.join(plays)}")
    fields = json.loads((folder / f"{number}.answer").read_text())
    host.recorder.write("answer", scope=host.scope, data={"number": number}, **fields)
    return Answer(tuple(fields["argv"]), fields["rc"], fields["stdout"], fields["stderr"])


def open_ask(run: str) -> Json:
    """The request of this run that has no answer yet, None when there is none. It is marked as taken."""
    folder = _folder(run)
    for path in sorted(folder.glob("*.json"), key=lambda path: int(path.stem)):
        if not path.with_suffix(".answer").exists():
            path.with_suffix(".seen").touch()
            return json.loads(path.read_text())
    return None


def answer(run: str, number: int, text: str) -> None:
    """Store the result of a request: {argv, rc, stdout, stderr} as JSON.

    Raises:
        ValueError: there is no such request, it has its answer, or the text is no answer.
    """
    folder = _folder(run)
    path = folder / f"{number}.answer"
    if path.exists() or not (folder / f"{number}.json").exists():
        raise ValueError(f"run {run} does not wait for an answer to ask {number}")
    fields = json.loads(text)
    shape = {"argv": list, "rc": int, "stdout": str, "stderr": str}
    if not isinstance(fields, dict) or fields.keys() != shape.keys():
        raise ValueError("an answer has argv, rc, stdout and stderr")
    if any(not isinstance(fields[key], kind) for key, kind in shape.items()):
        raise ValueError("an answer's argv is a list, its rc a number, and the rest is text")
    _put(path, fields)


def _folder(run: str) -> Path:
    return lease.RUN_ROOT / run / "asks"


def _put(path: Path, value: Json) -> None:
    write_atomically(path, json.dumps(value).encode())
