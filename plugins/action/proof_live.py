"""Ask a host which release, configuration, unit and machine are live on it.

program: the command hybrid-proofs on the host.
Returns release_digest, config_digest, unit_digest (64 hexadecimal digits each), machine_id (32), or "unknown".
"""

import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))

from plugins.module_utils.host_action import HostAction
from proofs.evidence import host_input


class ActionModule(HostAction):
    """A host that cannot tell is no failure here: the signing compares with nothing then, and says so."""

    consequence = "nothing was signed"
    _VALID_ARGS = frozenset({"program"})

    def act(self) -> dict[str, Any]:
        answer = self.ask(shlex.join([self.args["program"], "live"]))
        if answer.rc != 0:
            return dict.fromkeys(("release_digest", "config_digest", "machine_id", "unit_digest"), "unknown")
        lines = answer.stdout.strip().splitlines()
        return dict(host_input.parse_live(lines[-1] if lines else ""))
