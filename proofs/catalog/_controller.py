"""What the proofs of deployments share: playbooks that they ask of their controller, and what came of them."""

import re
from collections.abc import Sequence
from dataclasses import replace

from proofs.experiment.case import NotSteady
from proofs.experiment.controller_requests import Answer, Unanswered
from proofs.experiment.in_place import InPlace
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Trace, Untraced
from proofs.verdict import Check


def in_place(subject: Subject) -> InPlace:
    """The subject, which a proof in place has. Raises TypeError for another one."""
    if not isinstance(subject, InPlace):
        raise TypeError(f"{subject.unit.name} is not the deployed unit in its place")
    return subject


def check_deployed(subject: Subject) -> None:
    """Raises NotSteady where verify is not clean or a deployment would change something, Unanswered."""
    look = in_place(subject).ask("verify", "deploy", check=True)
    if look.rc != 0:
        raise NotSteady(f"verify is not clean, or deploy --check fails: {_last_line(look)}")
    changes = sum(int(found) for found in re.findall(r"\bchanged=(\d+)", look.stdout))
    if changes or "changed=" not in look.stdout:
        raise NotSteady(f"a deployment from this checkout would change {changes} things here: deploy first")


def ask(subject: Subject, *plays: str, without: Sequence[str] = ()) -> Answer:
    """As InPlace.ask; without a controller, an answer without an exit status."""
    try:
        return in_place(subject).ask(*plays, without=without)
    except Unanswered as error:
        return Answer((), None, "", str(error))


def answers(trace: Trace, asked: int) -> list[Answer]:
    """The controller's answers to the last requests, as they were recorded; one without an exit status where it gave
    none. Raises Untraced: there were fewer requests.
    """
    requests = trace.intents("ask the controller")[-asked:]
    if len(requests) < asked:
        raise Untraced(f"it asked its controller {len(requests)} times where {asked} answers were read")
    recorded = {event["data"]["number"]: event for event in trace.events("answer")}
    found = [recorded.get(request["data"]["number"]) for request in requests]
    return [
        Answer(tuple(event["argv"]), event["rc"], trace.whole(event), event["stderr"])
        if event
        else Answer((), None, "", "")
        for event in found
    ]


def if_answered(rc: int | None, *checks: Check) -> Sequence[Check]:
    """These checks; without a controller's answer they compare nothing."""
    return [replace(check, ok=None) for check in checks] if rc is None else checks


def exit_text(rc: int | None) -> str:
    return "no controller answered" if rc is None else f"exit {rc}"


def _last_line(answer: Answer) -> str:
    lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines()]
    first = next((line[:300] for line in lines if "fatal:" in line or "ERROR" in line), "see its output")
    return f"exit {answer.rc}: {first}"
