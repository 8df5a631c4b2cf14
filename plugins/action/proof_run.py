"""Begin a run of the proofs, or a soak, and show its progress; or show that of a run that was begun before.

The run is a unit of its own, which ends and restores the host whatever becomes of the connection. Only Ctrl-C asks it
to stop. Does not judge; the statement does.
program: the command hybrid-proofs on the host; begin: its words that begin a run and print the run's id; nonce: add one
to these words; runs_in: the unit that the run is in, where RUN stands for the id; run: the id of a run to follow
instead; lost_s: for how long a connection that broke is tried again. Returns run, the id, and the nonce.
"""

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).parents[2]))

from plugins.module_utils.host_action import HostAction, HostLost
from proofs.evidence import host_input
from proofs.evidence.host_input import Answer, HostInputError

PLAY_S = 220
ANSWER_S = 120.0
FOLLOW_S = 10  # how long the host waits for progress, and how much longer an answer may be on its way
LATE_S = 30.0


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


# What a play of an ask comes to, where it is more than a playbook of that name.
PLAYBOOKS = {"adopt": ["-eengine_adopt=true", "deploy.yml"], "return": ["-erelease=adopted", "rollback.yml"]}


def playbook_words(ask: host_input.Ask) -> list[str]:
    """The playbooks and flags that an ask comes to."""
    plays = [word for play in ask.plays for word in PLAYBOOKS.get(play, [f"{play}.yml"])]
    return ["--check"] * ask.check + plays


class ActionModule(HostAction):
    """The proofs run apart from the connection; this only listens, so a hiccup of ssh breaks nothing.

    What a proof asks of its controller is played here: the same playbooks, inventory and variables as by hand.
    """

    consequence = "the run is not followed any further"
    _VALID_ARGS = frozenset({"program", "begin", "run", "nonce", "runs_in", "lost_s"})

    def act(self) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "msg": "proofs break things on purpose: not in check mode"}
        self.lost_s = float(self.args["lost_s"])
        if run := str(self.args.get("run") or ""):
            self._follow(host_input.check_run(run))
            return {"changed": True, "run": run, "nonce": ""}
        nonce = secrets.token_hex(16) if boolean(self.args.get("nonce", False)) else ""
        try:
            answer = self._proofs(*self.args["begin"], *([f"--nonce={nonce}"] if nonce else []))
        except AnsibleConnectionFailure as error:
            hint = f"a run may have begun all the same: {self._fetch_command('')} lists them"
            raise AnsibleActionFail(f"{self.host}: connection lost: {error}; {hint}") from error
        if answer.rc != 0:
            raise AnsibleActionFail(f"{self.host}: {answer.summary}")
        lines = answer.stdout.strip().splitlines()
        run_id = host_input.check_run(lines[-1] if lines else "")
        # Ctrl-C reaches this worker as a signal, which would end it at once: there is one thing more to tell the host.
        before = {number: signal.signal(number, _interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._follow(run_id)
        except KeyboardInterrupt:
            for number in before:
                signal.signal(number, signal.SIG_IGN)
            unit = self.args["runs_in"].replace("RUN", run_id)
            self.ask(shlex.join(["systemctl", "stop", "--no-block", unit]), ANSWER_S)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return {"changed": True, "run": run_id, "nonce": nonce}

    def _proofs(self, *words: str) -> Answer:
        return self.ask(shlex.join([self.args["program"], *words]), ANSWER_S)

    def _follow(self, run_id: str) -> None:
        """Show the progress of a run up to its end. Raises AnsibleActionFail where it goes on unseen."""
        display, offset, answers, failed_at, cut_off = Display(), 0, dict[int, bytes](), 0.0, False
        budget = host_input.ProgressBudget()
        later = f"it goes on and ends by itself, and can be brought home then: {self._fetch_command(run_id)}"
        while True:
            began = time.monotonic()
            try:
                answer = self._ask_progress(run_id, offset)
            except HostLost as error:
                raise AnsibleActionFail(f"lost sight of run {run_id}: {error}; {later}") from error
            if answer.rc != 0:
                failed_at = failed_at or time.monotonic()
                if time.monotonic() - failed_at > self.lost_s:
                    raise AnsibleActionFail(f"{self.host} says nothing of run {run_id}: {answer.summary}; {later}")
                time.sleep(1)
                continue
            try:
                progress = host_input.parse_progress(answer.stdout, offset)
            except HostInputError:
                if cut_off:
                    raise
                cut_off = True  # as by a host that is going down; twice in a row is another matter
                time.sleep(1)
                continue
            cut_off = False
            budget.count(progress, time.monotonic() - began)
            offset, failed_at = progress.next, 0.0
            for line in progress.lines:
                if line.startswith("["):  # the table at the end is told from the statement, later
                    display.display(f"  {self.host} {line}")
            if ask := progress.ask:
                if ask.number not in answers:  # else it got lost on its way
                    if len(answers) >= host_input.MOST_ASKS:
                        raise HostInputError(f"run {run_id} asks more than {host_input.MOST_ASKS} times")
                    answers[ask.number] = self._play(ask, run_id)
                words = (self.args["program"], "answer", run_id, str(ask.number))
                self.ask_again(
                    shlex.join(words), ANSWER_S, host_input.ANSWER_BYTES, self.lost_s, stdin=answers[ask.number]
                )
            if progress.ended and progress.empty:
                return

    def _ask_progress(self, run_id: str, offset: int) -> Answer:
        words = (self.args["program"], "follow", run_id, f"--from={offset}", f"--seconds={FOLLOW_S}", "--answers")
        return self.ask_again(shlex.join(words), FOLLOW_S + LATE_S, host_input.ANSWER_BYTES, self.lost_s)

    def _fetch_command(self, run_id: str) -> str:
        return shlex.join(["make", "fetch", *self.make_words(), *([f"RUN={run_id}"] if run_id else [])])

    def _play(self, ask: host_input.Ask, run_id: str) -> bytes:
        """Play what a proof asks for; how it went, as `hybrid-proofs answer` takes it."""
        words = playbook_words(ask)
        shown = ["ansible-playbook", f"--limit={self.host}", *words]
        shown += [f"--deselect={name}" for name in ask.without]
        Display().display(f"  asked by the proof: {shlex.join(shown)}")
        playbooks = Path(self.task_vars["playbook_dir"])
        argv = [sys.executable, "-m", "ansible", "playbook", shown[1]]
        argv += [word for source in self.task_vars["ansible_inventory_sources"] for word in ("-i", str(source))]
        argv += [word for extra in context.CLIARGS["extra_vars"] for word in ("-e", extra)]
        argv += ["-e", json.dumps({"preflight_proof": run_id})]
        argv += [word if word.startswith("-") else str(playbooks / word) for word in words]
        # Lines as they are, for they are read again; and what verify leaves out, which is for a mutant alone.
        env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        env["PYTEST_ADDOPTS"] = shlex.join(f"--deselect={name}" for name in ask.without)
        stdout, stderr, rc = _finished(argv, env, patient={*ask.plays} != {"verify"} and not ask.check)
        return json.dumps({"argv": shown, "rc": rc, "stdout": stdout, "stderr": stderr}).encode()


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
