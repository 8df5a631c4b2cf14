"""ansible-playbook, with what it builds of a module kept for all playbooks that a test run starts.

Ansible builds the payload of each module anew in every run, from the module and all that it imports; that is a third of
what a deployment computes. The payload depends on the sources alone, which do not change while tests run.
"""

import os
import sys
from pathlib import Path

from ansible import constants
from ansible.cli.playbook import main

if __name__ == "__main__":
    # Ansible removes its own directory at the end, and with it this link.
    Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(os.environ["LAB_PAYLOADS"])
    sys.argv[0] = "ansible-playbook"
    sys.exit(main())
