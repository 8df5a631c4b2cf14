"""Ask a host what is live on it: see DOCUMENTATION. The action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: proof_live
short_description: Ask a host which release, configuration and machine are live on it
description:
  - Runs C(hybrid-proofs live) there and takes from its answer two digests and a machine id, and nothing else.
options:
  program: {type: path, required: true, description: The C(hybrid-proofs) command on the host.}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Ask the host what is live on it
  proof_live:
    program: /opt/hybrid-proofs/current/bin/hybrid-proofs
"""

RETURN = r"""
release_digest: {type: str, returned: success, description: "64 hexadecimal digits, or unknown"}
config_digest: {type: str, returned: success, description: "64 hexadecimal digits, or unknown"}
machine_id: {type: str, returned: success, description: "32 hexadecimal digits, or unknown"}
"""
