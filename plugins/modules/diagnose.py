"""Look at everything on a host: see DOCUMENTATION. The action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: diagnose
short_description: Fetch everything about a host that is looked at when something is wrong, as one file
description:
  - Runs shell commands there and changes nothing, so that it needs neither Python nor anything deployed on the host.
  - Tells each part when it begins. What is missing is named and fails nothing; credentials are left out.
options:
  dest: {type: path, required: true, description: The file to write on the controller.}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Look at everything
  diagnose:
    dest: evidence/nuc1/diagnosis.txt
"""

RETURN = r"""
dest: {type: path, returned: success, description: Where it was written}
missing: {type: list, elements: str, returned: success, description: What the host did not show}
"""
