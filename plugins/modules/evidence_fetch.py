"""Bring a run's evidence home: see DOCUMENTATION. The action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_fetch
short_description: Fetch the evidence of a run into a fresh directory on the controller
description:
  - Fetches C(events.jsonl), C(statement.json) and C(blobs/SHA256) of one run, and nothing else. Names, kinds, sizes,
    counts, the chain of the events and the digests of the blobs are checked first; then all of it is written at once.
  - What exists is never overwritten, and no link is followed.
options:
  run: {type: str, required: true, description: "The run's id."}
  host_evidence: {type: path, required: true, description: Directory on the host that holds the runs.}
  evidence: {type: path, required: true, description: "Directory on the controller that gets it, as HOST/RUN."}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Bring the evidence home
  evidence_fetch:
    run: 20260102T030405Z-0a1b
    host_evidence: /var/lib/hybrid-proofs
    evidence: evidence
"""

RETURN = r"""
dest: {type: str, returned: success, description: The directory that was made}
"""
