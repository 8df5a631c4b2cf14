"""Take a drop-in out by name, or bring it back: see DOCUMENTATION."""

from __future__ import annotations

import base64
import datetime
import json
import os
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service_unit import UNITS, load_json, rolled_back_folder, transaction_file, write

DOCUMENTATION = r"""
module: dropin_rollback
short_description: Roll back a drop-in and remember it, or restore it byte for byte
description:
  - The marker below /var/lib/hybrid-deploy/rolled-back is what deployments honour. It holds what was taken out.
  - Restarting the service is the next task's business, which O(restart) of the result is for.
options:
  unit: {type: str, required: true, description: "The unit, as hybrid-engine.service."}
  name: {type: str, required: true, description: "The drop-in, as 40-hardening, with or without .conf."}
  state: {type: str, choices: [rolled_back, restored], required: true, description: Out, or back.}
  who: {type: str, default: "", description: Who asked for it.}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Run without the hardening for now
  dropin_rollback:
    unit: hybrid-engine.service
    name: 40-hardening
    state: rolled_back
"""

RETURN = r"""
restart: {type: bool, returned: always, description: Whether the running process has to be restarted}
rolled_back: {type: list, elements: str, returned: always, description: All drop-ins that are out after this}
"""


def owe_restart(unit: str) -> None:
    """Noted before anything is touched, so that a rollback that is cut off is finished by the next run."""
    path = transaction_file(unit)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    record = load_json(path) or {"before": {}}
    write(path, json.dumps({**record, "restart": True}).encode(), 0o600)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["rolled_back", "restored"], "required": True},
            "who": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    options = module.params
    unit, name = options["unit"], options["name"].removesuffix(".conf")
    path = f"{UNITS}/{unit}.d/{name}.conf"
    marker = f"{rolled_back_folder(unit)}/{name}.conf"
    os.umask(0o022)

    def listed(folder: str) -> list[str]:
        return (
            sorted(f[: -len(".conf")] for f in os.listdir(folder) if f.endswith(".conf"))
            if os.path.isdir(folder)
            else []
        )

    present, out = listed(f"{UNITS}/{unit}.d"), listed(rolled_back_folder(unit))
    away = options["state"] == "rolled_back"
    if "/" in name or name not in {*present, *out}:
        there = f"in force: {', '.join(present) or 'none'}; rolled back: {', '.join(out) or 'none'}"
        module.fail_json(msg=f"{unit} has no drop-in {name!r} ({there})")
    before = after = ""
    due = (name in present or name not in out) if away else name in out
    try:
        if away and due:
            record: dict[str, object] = {"since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
            record["by"] = options["who"]
            with open(path, "rb") as stream:
                data = stream.read()
            status = os.lstat(path)
            record["data"] = base64.b64encode(data).decode()
            record["mode"] = stat.S_IMODE(status.st_mode)
            before = data.decode(errors="replace")
            if not module.check_mode:
                owe_restart(unit)
                os.makedirs(os.path.dirname(marker), mode=0o755, exist_ok=True)
                write(marker, json.dumps(record, indent=1).encode(), 0o644)
                os.unlink(path)
        elif due:
            record = load_json(marker) or {}
            if "data" not in record and name not in present:
                module.fail_json(msg=f"{marker} does not hold what was taken out: remove it, and deploy")
            data = base64.b64decode(str(record.get("data", "")))
            after = data.decode(errors="replace")
            if not module.check_mode:
                owe_restart(unit)
                if name not in present:
                    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                    write(path, data, int(str(record.get("mode", 0o644))))
                os.unlink(marker)
    except (OSError, ValueError) as problem:
        module.fail_json(msg=f"{unit}, drop-in {name}: {problem}")
    left = sorted({*out, name}) if away else [entry for entry in out if entry != name]
    module.exit_json(
        changed=due,
        restart=due,
        rolled_back=left,
        diff={"before": before, "after": after, "before_header": path, "after_header": path},
    )


if __name__ == "__main__":
    main()
