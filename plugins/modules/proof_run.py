"""Run proofs on the host and follow them: see DOCUMENTATION. The action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: proof_run
short_description: Run proofs on the host, and tell how they go
description:
  - Begins C(hybrid-proofs run), or a soak, as a unit of its own, which ends and puts the host back whatever becomes of
    the connection, and prints its progress while it lasts. Does not judge; the statement does.
options:
  program: {type: path, required: true, description: The C(hybrid-proofs) command on the host.}
  begin: {type: list, elements: str, required: true, description: "Its words that begin a run and print the run's id."}
  runs_in: {type: str, required: true, description: "The unit that the run is in; RUN in it is the run's id."}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Run the proofs
  proof_run:
    program: /opt/hybrid-proofs/current/bin/hybrid-proofs
    begin: [run, --no-wait, exit12, stall]
    runs_in: hybrid-proof-RUN.service
"""

RETURN = r"""
run: {type: str, returned: success, description: "The run's id, and the name of its directory of evidence"}
"""
