"""Find what others put where a service is to be: see DOCUMENTATION."""

from ansible.module_utils.adoption import look
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service_changes import Problem
from ansible.module_utils.service_unit import options_of

DOCUMENTATION = r"""
{"module": "service_foreign",
 "short_description": "Find what others put where a service is to be, and what a deployment would do with it",
 "description": "Only looks. Finds nothing where a deployment has recorded the service.",
 "options": {
  "unit": {"required": true, "description": "The unit, as hybrid-engine.service."},
  "user": {"required": true, "description": "The service's user."},
  "places": {"type": "list", "elements": "dict", "required": true,
   "description": "{path, kind, owner, group, mode} of each directory, file and link that a deployment makes."},
  "root": {"type": "path", "required": true, "description": "The directory of the releases."},
  "database": {"type": "path", "required": true, "description": "The database, in the service's own directory."},
  "application": {"type": "int", "required": true, "description": "The application id in that database's header."}
 }}
"""

RETURN = r"""
found: {type: list, elements: str, returned: always, description: "What is there, and what would become of it"}
blocking: {type: list, elements: str, returned: always, description: What its owner has to move away first}
"""


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    try:
        foreign = look(**module.params)
    except (OSError, Problem) as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(changed=False, **foreign._asdict())


if __name__ == "__main__":
    main()
