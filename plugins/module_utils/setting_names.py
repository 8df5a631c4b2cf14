"""Compare the names of a host's variables with the settings that the roles have, on the controller.

One that is nearly a setting was mistyped, and Ansible would ignore it. Others may belong to somebody else's roles.
"""

import difflib
import re
from pathlib import Path

import yaml

ROLES = Path(__file__).parents[2] / "roles"
# Of playbooks, beside the roles' own.
PLAYS = ("prove_signing_key", "prove_signing_key_make")
# What could be said once and was honoured in part: units, proofs and checks have these as constants.
CONSTANTS = {
    "engine_root": "/opt/hybrid-engine",
    "engine_history": "/var/lib/hybrid-deploy/releases.json",
    "engine_user": "hybrid-engine",
    "engine_group": "hybrid-engine",
}
NEARLY = 0.85  # difflib's ratio


def read_settings(roles: Path = ROLES) -> set[str]:
    """All names of settings, from the argument specifications of the roles."""
    names = set(PLAYS)
    for path in roles.glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            names |= set(entry.get("options", {}))
    return names


def read_own_names(roles: Path = ROLES) -> set[str]:
    """All words of the roles' tasks and variables: what they register is a variable of the host in a later play."""
    paths = [path for folder in ("tasks", "vars") for path in roles.glob(f"*/{folder}/*.yml")]
    return {word for path in paths for word in re.findall(r"[a-z_][a-z_0-9]*", path.read_text())}


def unknown_names(names: set[str], known: set[str]) -> list[str]:
    """A sentence for each name that is nearly one of known (read_settings) and none, with the one that was meant."""
    sentences = []
    for name in sorted(names - known):
        if name in CONSTANTS:
            sentences.append(f"Its variable {name} is none any more: it is always {CONSTANTS[name]}. Take it out.")
        elif near := difflib.get_close_matches(name, known, n=1, cutoff=NEARLY):
            sentences.append(f"Its variable {name} is no setting and would have no effect: did you mean {near[0]}?")
    return sentences
