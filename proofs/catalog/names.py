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
    "pressure",
)
