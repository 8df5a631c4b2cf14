"""Run proofs on the host and follow them: see DOCUMENTATION. The action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: proof_run
short_description: Run proofs on the host, and tell how they go
description:
  - Begins C(hybrid-proofs run) as a transient unit of its own, which ends and puts the host back whatever becomes of
    the connection, and prints its progress while it lasts. Does not judge; the statement does.
options:
  program: {type: path, required: true, description: The C(hybrid-proofs) command on the host.}
  names: {type: list, elements: str, default: [], description: "Proofs; none means the host's required set."}
  unit: {type: str, default: hybrid-engine.service, description: The unit under test.}
  git: {type: str, default: "", description: "Revision of the checkout, for the record."}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Run the proofs
  proof_run:
    program: /opt/hybrid-proofs/current/bin/hybrid-proofs
    names: [exit12, stall]
"""

RETURN = r"""
run: {type: str, returned: success, description: "The run's id, and the name of its directory of evidence"}
"""
