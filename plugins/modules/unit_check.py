"""Judge a unit before it replaces what runs: see DOCUMENTATION."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.unit_judge import Refused, judge

DOCUMENTATION = r"""
module: unit_check
short_description: Put a rendered unit with its drop-ins through systemd's own checks, without installing it
description:
  - The unit is staged under another name, since one of the real name would inherit the drop-ins that are installed.
  - "C(systemd-analyze verify) exits 0 on unknown keys and only prints, so anything it prints fails the check."
  - C(systemd-analyze security) is asked offline, with all drop-ins, those rolled back included. The threshold binds
    what is deployed; a rollback is somebody's decision on this host.
options:
  unit: {type: str, required: true, description: "The unit, as hybrid-engine.service."}
  content: {type: str, required: true, description: The unit file's text.}
  dropins: {type: list, elements: dict, default: [], description: "{name, content, state} each"}
  exposure: {type: float, description: "Highest exposure allowed, from 0.0 to 10.0. Without it it is only measured."}
  to_come:
    type: list
    elements: str
    default: []
    description: Programs that this deployment is about to install, so that they may be missing now.
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Check the unit
  unit_check:
    unit: example.service
    content: "{{ lookup('ansible.builtin.template', 'example.service.j2') }}"
    exposure: 1.1
"""

RETURN = r"""
exposure: {type: float, returned: always, description: What systemd-analyze security says}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "content": {"type": "str", "required": True},
            "dropins": {"type": "list", "elements": "dict", "default": []},
            "exposure": {"type": "float"},
            "to_come": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    options = module.params
    os.umask(0o022)
    kept = [entry for entry in options["dropins"] if entry.get("state", "present") == "present"]
    dropins = {entry["name"]: entry["content"] for entry in kept}
    try:
        exposure = judge(options["unit"], options["content"], dropins, options["exposure"], options["to_come"])
    except Refused as refused:
        module.fail_json(msg=str(refused))
    module.exit_json(changed=False, exposure=exposure)


if __name__ == "__main__":
    main()
