"""Have a host say what it is: see DOCUMENTATION. The action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_probe
short_description: Run a shell script that prints KEY=value lines, and check each of them
description:
  - Needs no Python on the host and changes nothing there. A value that its key cannot have makes all of it refused.
options:
  script: {type: str, required: true, description: The script.}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Look at the host
  preflight_probe:
    script: echo "kernel=$(uname -s)"
"""

RETURN = r"""
lines: {type: list, elements: str, returned: success, description: The lines}
summary: {type: str, returned: success, description: All that it printed, in one line}
refused: {type: str, returned: when the answer is refused, description: Why}
"""
