"""Start a service and wait until it is healthy: see DOCUMENTATION."""

import contextlib
import fcntl
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import open_regular, read_json
from ansible.module_utils.service_changes import forget_formers
from ansible.module_utils.service_unit import journal, options_of, run, show, transaction_file, wait_until_healthy

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
  "active": {"type": "bool", "default": true,
   "description": "With C(restored), whether the former service ran; else it is only stopped."},
  "enabled": {"type": "bool",
   "description": "With C(restored), whether the former service is started at boot; without it that stays."},
  "health": {"type": "list", "elements": "str", "default": [],
   "description": "A command that exits 0 when the service is healthy."},
  "deadline_s": {"type": "float", "default": 45, "description": "Seconds until it must be healthy."},
  "settle_s": {"type": "float", "default": 2, "description": "Seconds for which it must stay so."}
 }}
"""

RETURN = r"""
due: {type: list, elements: str, returned: state is started, description: What was to be done with the unit}
healthy: {type: bool, returned: state is restored, description: Whether the former service runs and is healthy}
was_there: {type: bool, returned: state is restored, description: Whether there was one}
why: {type: str, returned: state is restored, description: Why it is not healthy}
"""


def hold_change(unit: str) -> bool:
    """Hold the record of an unfinished change, by which other deployments see that it is being completed."""
    try:
        handle = open_regular(transaction_file(unit))
    except OSError:
        return False
    fcntl.flock(handle, fcntl.LOCK_EX)
    return True


def systemctl(module: AnsibleModule, *argv: str) -> None:
    process = run("systemctl", *argv)
    if process.returncode != 0:
        module.fail_json(msg=f"systemctl {' '.join(argv)}: {process.stderr.strip()}")


def restart(module: AnsibleModule, unit: str) -> dict[str, Any]:
    """Restart the unit and wait. The result is that of wait_until_healthy."""
    options = module.params
    run("systemctl", "reset-failed", unit)
    former, began = show(unit).get("InvocationID", ""), time.time()
    systemctl(module, "restart", "--no-block", unit)
    limits = (options["deadline_s"], options["settle_s"])
    state: dict[str, Any] = wait_until_healthy(unit, options["health"], *limits, former)
    return state | {"began": began}


def restore(module: AnsibleModule, unit: str) -> None:
    """After a reverted change: start the former service, or stop and disable the unit where there was none."""
    if module.check_mode:
        module.exit_json(changed=True)
    systemctl(module, "daemon-reload")
    if show(unit).get("LoadState") != "loaded":
        for verb in ("reset-failed", "stop", "disable"):
            run("systemctl", verb, unit)
        module.exit_json(changed=True, healthy=False, was_there=False)
    if (enabled := module.params["enabled"]) is not None:
        run("systemctl", "disable", unit)  # its links are those of another unit's [Install]
        if enabled:
            systemctl(module, "enable", unit)
    if not module.params["active"]:
        run("systemctl", "stop", unit)
        module.exit_json(changed=True, healthy=True, was_there=True, why="it did not run before")
    state = restart(module, unit)
    module.exit_json(changed=True, healthy=state["healthy"], was_there=True, why=state["why"])


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options, unit = module.params, module.params["unit"]
    if options["state"] == "restored":
        restore(module, unit)
    held = hold_change(unit)  # until this process ends
    before = show(unit)
    pending = read_json(transaction_file(unit)) if held else {}
    due = []
    if before.get("UnitFileState") != "enabled":
        due.append("enable")
    if before.get("NeedDaemonReload") == "yes" and not options["restart"]:
        due.append("reload systemd")
    if before.get("ActiveState") != "active":
        due.append("start")
    elif options["restart"] or pending.get("restart"):
        due.append("restart")
    if due and not module.check_mode:
        systemctl(module, "daemon-reload")
        if "start" in due or "restart" in due:
            state = restart(module, unit)
            if not state["healthy"]:
                lines = "\n".join(journal(unit, state.get("InvocationID", ""), 15, state["began"]))
                module.fail_json(msg=f"{unit} did not get healthy: {state['why']}. Its last lines:\n{lines}")
        if "enable" in due:
            systemctl(module, "enable", unit)
    if pending and not module.check_mode:
        forget_formers(pending.get("before", {}))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(transaction_file(unit))
    module.exit_json(
        changed=bool(due),
        due=due,
        diff={
            "before": "".join(f"{key}={before.get(key)}\n" for key in ("ActiveState", "UnitFileState")),
            "after": "ActiveState=active\nUnitFileState=enabled\n" + (f"due: {', '.join(due)}\n" if due else ""),
            **dict.fromkeys(("before_header", "after_header"), unit),
        },
    )


if __name__ == "__main__":
    main()
