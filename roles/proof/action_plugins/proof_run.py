"""Begin a run of the proofs and follow it: see the module of the same name."""

from __future__ import annotations

import json
import shlex
import signal
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# How often a connection that broke is tried again until the run is given up on; the run itself goes on regardless.
LOST_S = 60


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _said(answer: dict[str, Any]) -> str:
    """What a command told, whichever way ssh brought it, without ssh's own farewell."""
    lines = [line.strip() for line in (answer["stdout"] + answer["stderr"]).splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith("Shared connection to "))


class ActionModule(ActionBase):  # type: ignore[misc]
    """The proofs run apart from the connection; this only listens, so a hiccup of ssh breaks nothing."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        if self._task.check_mode:
            return result | {"skipped": True, "msg": "proofs break things on purpose: not in check mode"}
        program = args["program"]
        begin = [program, "run", "--no-wait", f"--unit={args.get('unit', 'hybrid-engine.service')}"]
        answer = self._ask([*begin, f"--git={args.get('git', '')}", *(args.get("names") or [])])
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
            self._ask(["systemctl", "stop", "--no-block", f"hybrid-proof-{run_id}.service"])
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return result | {"changed": True, "run": run_id}

    def _follow(self, program: str, run_id: str) -> None:
        display, offset, lost_at = Display(), 0, 0.0
        while True:
            answer = self._ask([program, "follow", run_id, f"--from={offset}", "--seconds=10"])
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
            if news["ended"] and not news["text"]:
                return

    def _ask(self, argv: list[str]) -> dict[str, Any]:
        answer: dict[str, Any] = self._low_level_execute_command(shlex.join(argv))
        return answer
