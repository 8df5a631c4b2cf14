"""Judge a unit before it replaces what runs: see DOCUMENTATION."""

from __future__ import annotations

import os
import re
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service_unit import run

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
    stem = options["unit"].removesuffix(".service")
    staged = f"{stem}-staged.service"
    os.umask(0o022)
    # Below /run, which no boot keeps; in check mode as well, for it is gone before the module answers.
    place = tempfile.mkdtemp(prefix="hybrid-stage-", dir="/run")
    try:
        path = os.path.join(place, staged)
        os.mkdir(f"{path}.d")
        texts = {path: options["content"]}
        for entry in options["dropins"]:
            if entry.get("state", "present") == "present":
                texts[f"{path}.d/{entry['name']}.conf"] = entry["content"]
        for name, text in texts.items():
            with open(name, "w", encoding="utf-8") as stream:
                stream.write(text)
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path)
        said = [
            line.replace(f"{place}/", "").replace(staged, options["unit"])
            for line in (done.stdout + done.stderr).splitlines()
            if line.strip()
        ]
        awaited = tuple(f"Command {name} is not executable: No such file or directory" for name in options["to_come"])
        bad = [line for line in said if not (awaited and line.endswith(awaited))]
        if bad or (done.returncode != 0 and not said):
            module.fail_json(msg=f"systemd-analyze verify refuses {options['unit']}, nothing was replaced: {bad}")
        done = run("systemd-analyze", "security", "--no-pager", "--offline=true", path)
        found = re.search(r"Overall exposure level[^:]*: ([0-9.]+)", done.stdout)
        if not found:
            module.fail_json(msg=f"systemd-analyze security gave no figure: {(done.stderr or done.stdout)[-300:]}")
        exposure = float(found.group(1) if found else 10)
        most = options["exposure"]
        if most is not None and exposure > most:
            weights = re.findall(r"^✗ (\S+).*?([0-9.]+)\s*$", done.stdout, re.M)
            worst = ", ".join(f"{name} {cost}" for name, cost in sorted(weights, key=lambda w: -float(w[1]))[:8])
            module.fail_json(
                msg=f"{options['unit']} scores {exposure} in systemd-analyze security where {most} is allowed, "
                f"nothing was replaced. What weighs most: {worst}"
            )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    module.exit_json(changed=False, exposure=exposure)


if __name__ == "__main__":
    main()
