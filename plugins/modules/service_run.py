"""Start a service and wait until it is healthy: see DOCUMENTATION."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service_unit import (
    journal,
    load_json,
    options_of,
    run,
    show,
    transaction_file,
    wait_until_healthy,
)

DOCUMENTATION = r"""
{"module": "service_run",
 "short_description": "Enable and start a service, restart it where asked, and wait until it is healthy",
 "description": "Reloads systemd once where needed. Changes nothing where the service runs already and no restart is
  due. The service is healthy once it is active, C(health) has exited 0, and the same process has stayed for
  C(settle_s). An unfinished change (see M(service_files)) means a restart too, and is complete once the service is
  healthy.",
 "options": {
  "unit": {"required": true, "description": "The unit, as hybrid-engine.service."},
  "restart": {"type": "bool", "default": false, "description": "The running process does not know what is installed."},
  "state": {"choices": ["started", "restored"], "default": "started",
   "description": "C(restored) follows a reverted change. It starts the former service, if there was one."},
  "health": {"type": "list", "elements": "str", "default": [],
   "description": "A command that exits 0 when the service is healthy."},
  "deadline_s": {"type": "float", "default": 45, "description": "Seconds until it must be healthy."},
  "settle_s": {"type": "float", "default": 2, "description": "Seconds for which it must stay so."}
 }}
"""

RETURN = r"""
pid: {type: int, returned: always, description: The main process}
invocation: {type: str, returned: always, description: This start's id in the journal}
journal: {type: list, elements: str, returned: failure, description: Its last lines}
"""


def failure_message(unit: str, state: dict[str, Any]) -> str:
    """Why it failed, and its last lines."""
    lines = journal(unit, state.get("InvocationID", ""), 15)
    return f"{unit} did not get healthy: {state['why']}. Its last lines:\n" + "\n".join(lines)


def systemctl(module: AnsibleModule, *argv: str) -> None:
    done = run("systemctl", *argv)
    if done.returncode != 0:
        module.fail_json(msg=f"systemctl {' '.join(argv)}: {done.stderr.strip()}")


def restore(module: AnsibleModule, unit: str, options: dict[str, Any]) -> None:
    """After a reverted change: start the former service, or stop and disable the unit where there was none."""
    if not module.check_mode:
        systemctl(module, "daemon-reload")
        run("systemctl", "reset-failed", unit)
        state = show(unit)
        if state.get("LoadState") != "loaded":
            run("systemctl", "stop", unit)
            run("systemctl", "disable", unit)
            module.exit_json(changed=True, healthy=False, was_there=False, pid=0, invocation="")
        systemctl(module, "restart", "--no-block", unit)
        state = wait_until_healthy(unit, options["health"], options["deadline_s"], options["settle_s"])
        lines = [] if state["healthy"] else journal(unit, state.get("InvocationID", ""), 15)
        module.exit_json(
            changed=True,
            healthy=state["healthy"],
            was_there=True,
            why=state["why"],
            pid=int(state.get("MainPID", 0)),
            invocation=state.get("InvocationID", ""),
            journal=lines,
        )
    module.exit_json(changed=True)


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options, unit = module.params, module.params["unit"]
    if options["state"] == "restored":
        restore(module, unit, options)
    before = show(unit)
    pending = load_json(transaction_file(unit))
    due = []
    if before.get("UnitFileState") != "enabled":
        due.append("enable")
    if before.get("NeedDaemonReload") == "yes" and not options["restart"]:
        due.append("reload systemd")
    if before.get("ActiveState") != "active":
        due.append("start")
    elif options["restart"] or (pending and pending["restart"]):
        due.append("restart")
    after = before
    if due and not module.check_mode:
        systemctl(module, "daemon-reload")
        if due != ["reload systemd"]:
            if "start" in due or "restart" in due:
                run("systemctl", "reset-failed", unit)
                systemctl(module, "restart", "--no-block", unit)
                after = wait_until_healthy(unit, options["health"], options["deadline_s"], options["settle_s"])
                if not after["healthy"]:
                    module.fail_json(msg=failure_message(unit, after))
            if "enable" in due:
                systemctl(module, "enable", unit)
    if pending and not module.check_mode:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(transaction_file(unit))
    module.exit_json(
        changed=bool(due),
        due=due,
        pid=int(after.get("MainPID", 0)),
        invocation=after.get("InvocationID", ""),
        diff={
            "before": "".join(f"{key}={before.get(key)}\n" for key in ("ActiveState", "UnitFileState")),
            "after": "ActiveState=active\nUnitFileState=enabled\n" + (f"due: {', '.join(due)}\n" if due else ""),
            "before_header": unit,
            "after_header": unit,
        },
    )


if __name__ == "__main__":
    main()
