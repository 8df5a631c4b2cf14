"""Write the locks of the wheels that releases bring to hosts: see DOCUMENTATION."""

import tempfile
import tomllib
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.release_wheels import WheelError, lock_file, make_lock
from ansible.module_utils.service_unit import options_of

DOCUMENTATION = r"""
{"module": "release_lock",
 "short_description": "Write the locks of the wheels that releases bring to hosts",
 "description": "Fetches the wheels of each list of requirements for every supported Python and machine from the package
  index, and writes their hashes into requirements/LIST.lock of the checkout. Runs on the controller.",
 "options": {
  "checkout": {"type": "path", "required": true, "description": "Directory that holds pyproject.toml."},
  "requirements": {"type": "list", "elements": "str", "required": true,
   "description": "Names of pyproject's lists of requirements, C(dependencies) or an extra."}
 }}
"""

RETURN = r"""
paths: {type: list, elements: str, returned: always, description: The locks that differed}
"""


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    checkout, changes = Path(module.params["checkout"]), []
    try:
        project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
        lists = {**project.get("optional-dependencies", {}), "dependencies": project.get("dependencies", [])}
        for group in module.params["requirements"]:
            path = lock_file(checkout, group)
            before = path.read_text() if path.exists() else ""
            with tempfile.TemporaryDirectory() as scratch:
                after = make_lock(lists[group], Path(scratch))
            if after != before:
                changes.append({"before": before, "after": after, **dict.fromkeys(HEADERS, str(path))})
            if after != before and not module.check_mode:
                path.parent.mkdir(exist_ok=True)
                path.write_text(after)
    except (OSError, KeyError, ValueError, WheelError) as problem:
        module.fail_json(msg=f"The locks cannot be written: {problem}")
    module.exit_json(changed=bool(changes), paths=[each["after_header"] for each in changes], diff=changes)


HEADERS = ("before_header", "after_header")

if __name__ == "__main__":
    main()
