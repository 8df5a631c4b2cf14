"""The names of the proofs, in the order in which they run. Each is also the name of its file in this folder.

Playbooks (`prove_NAME.yml`) and the role's choices are compared with this list by a test.
"""

NAMES = (
    "exit12",
    "stall",
    "sampling",
    "failover",
    "crash",
    "overload",
    "network",
    "parse",
    "storage",
    "stop",
    "shadow",
    "gate",
    "rollback",
    "hardening",
    "drift",
    "adoption",
    "pressure",
)
# What is run without a name, and has to PASS, on each kind of host. What edits the deployed files is for a lab alone;
# what other programs do to the host's CPUs can make pressure INCONCLUSIVE, so it is run by its name.
ANYWHERE = tuple(name for name in NAMES if name not in ("drift", "adoption", "pressure"))
