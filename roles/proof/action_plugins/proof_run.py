"""Begin a run of the proofs and follow it: see the module of the same name."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# How often a connection that broke is tried again until the run is given up on; the run itself goes on regardless.
LOST_S = 60
# What a proof may have played, against its own host and no other, and how often a run.
PLAYS = ("deploy", "verify")
ASSERTION = re.compile(r"tests/verify/test_\w+\.py::test_\w+")
MOST_ASKS = 20
PLAY_S = 220


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _said(answer: dict[str, Any]) -> str:
    """What a command told, whichever way ssh brought it, without ssh's own farewell."""
    lines = [line.strip() for line in (answer["stdout"] + answer["stderr"]).splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith("Shared connection to "))


def allowed(ask: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The playbooks and flags that an ask comes to, and the assertions to leave out.

    Raises AnsibleActionFail for anything but what a proof may ask: it comes from the host that is being tested.
    """
    plays, without = list(ask["plays"]), list(ask["without"])
    if not plays or any(play not in PLAYS for play in plays):
        raise AnsibleActionFail(f"a proof asked for {plays}, and may ask for {', '.join(PLAYS)}")
    if any(not ASSERTION.fullmatch(name) for name in without):
        raise AnsibleActionFail(f"a proof asked to leave out {without}, which are no assertions of verify")
    return ["--check"] * bool(ask["check"]) + [f"{play}.yml" for play in plays], without


class ActionModule(ActionBase):  # type: ignore[misc]
    """The proofs run apart from the connection; this only listens, so a hiccup of ssh breaks nothing.

    What a proof asks of its controller is played here: the same playbooks, inventory and variables as by hand.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        args = self._task.args
        if self._task.check_mode:
            return result | {"skipped": True, "msg": "proofs break things on purpose: not in check mode"}
        program = args["program"]
        answer = self._ask([program, *args["begin"]])
        if answer["rc"] != 0:
            raise AnsibleActionFail(_said(answer))
        run_id = answer["stdout"].strip().splitlines()[-1]
        # Ctrl-C reaches this worker as a signal, which would end it at once: there is one thing more to tell the host.
        before = {number: signal.signal(number, _interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._follow(program, run_id)
        except BaseException:
            for number in before:
                signal.signal(number, signal.SIG_IGN)
            self._ask(["systemctl", "stop", "--no-block", args["runs_in"].replace("RUN", run_id)])
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return result | {"changed": True, "run": run_id}

    def _follow(self, program: str, run_id: str) -> None:
        display, offset, lost_at, answers = Display(), 0, 0.0, dict[int, bytes]()
        while True:
            answer = self._ask([program, "follow", run_id, f"--from={offset}", "--seconds=10", "--answers"])
            try:
                news = json.loads(answer["stdout"])
            except ValueError:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > LOST_S:
                    text = _said(answer)
                    raise AnsibleActionFail(f"lost sight of run {run_id}, which ends by itself: {text}") from None
                time.sleep(1)
                continue
            offset, lost_at = news["next"], 0.0
            for line in news["text"].splitlines():
                if line.startswith("["):  # the table at the end is told from the statement, later
                    display.display(f"  {line}")
            if ask := news.get("ask"):
                number = int(ask["number"])
                if number not in answers:  # else it got lost on its way
                    if len(answers) >= MOST_ASKS:
                        raise AnsibleActionFail(f"run {run_id} asks more than {MOST_ASKS} times")
                    answers[number] = self._play(ask, run_id)
                self._ask([program, "answer", run_id, str(number)], answers[number])
            if news["ended"] and not news["text"]:
                return

    def _play(self, ask: dict[str, Any], run_id: str) -> bytes:
        """Play what a proof asks for; how it went, as `hybrid-proofs answer` takes it."""
        words, without = allowed(ask)
        shown = ["ansible-playbook", f"--limit={self._vars['inventory_hostname']}", *words]
        shown += [f"--deselect={name}" for name in without]
        Display().display(f"  asked by the proof: {shlex.join(shown)}")
        playbooks = Path(self._vars["playbook_dir"])
        argv = [sys.executable, "-m", "ansible", "playbook", shown[1]]
        argv += [word for source in self._vars["ansible_inventory_sources"] for word in ("-i", str(source))]
        argv += [word for extra in context.CLIARGS["extra_vars"] for word in ("-e", extra)]
        argv += ["-e", f"preflight_proof={run_id}"]
        argv += [word if word.startswith("-") else str(playbooks / word) for word in words]
        # Lines as they are, for they are read again; and what verify leaves out, which is for a mutant alone.
        env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        env["PYTEST_ADDOPTS"] = shlex.join(f"--deselect={name}" for name in without)
        stdout, stderr, rc = _finished(argv, env, patient="deploy" in ask["plays"] and not ask["check"])
        return json.dumps({"argv": shown, "rc": rc, "stdout": stdout, "stderr": stderr}).encode()

    def _ask(self, argv: list[str], stdin: bytes | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = self._low_level_execute_command(shlex.join(argv), in_data=stdin)
        return answer


def _finished(argv: Sequence[str], env: dict[str, str], patient: bool) -> tuple[str, str, int]:
    """Run a playbook to its end: (stdout, stderr, exit status).

    patient: when this is interrupted it is let finish, for a deployment that is cut off leaves half of one.
    """
    process = subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us
    )
    try:
        stdout, stderr = process.communicate(timeout=PLAY_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        stdout, stderr = process.communicate()
    except BaseException:
        if patient:
            Display().display("  letting the deployment that the proof asked for finish")
            process.communicate(timeout=PLAY_S)
        else:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
        raise
    return stdout, stderr, process.returncode
