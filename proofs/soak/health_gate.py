"""The health gate: what the engine is configured for, and whether it calls itself healthy, before a soak begins."""

import json
import re

from proofs.experiment.case import NotSteady
from proofs.host import deployed
from proofs.host.shell import Host
from proofs.verdict import Json


def read_settings(host: Host) -> dict[str, Json]:
    """The unit's settings in force, by its files and its environment. Raises NotSteady: the engine refuses them."""
    variables = deployed.settings(host.look(*deployed.SHOW_ENVIRONMENT, quiet=True).stdout)
    words = [f"{name}={value}" for name, value in variables.items()]
    output = host.look("env", *words, str(deployed.ENGINE), "config", "check", quiet=True)
    if output.rc != 0:
        raise NotSteady((output.stderr or output.stdout).strip())
    return parse_settings(output.stdout)


def failing_checks(host: Host) -> str:
    """The health checks that fail, with their details; empty when the engine is healthy."""
    health = host.look(*deployed.HEALTH, quiet=True)
    if health.rc == 0:
        return ""
    try:
        checks = json.loads(health.stdout)["checks"]
        return "; ".join(f"{check['name']}: {check['detail']}" for check in checks if not check["ok"])
    except (ValueError, KeyError, TypeError):
        return health.stderr.strip() or f"exit {health.rc}"


def parse_settings(output: str) -> dict[str, Json]:
    """The settings in the output of `hybrid-engine config check`.

    >>> parse_settings('engine.seed                = 1                                # default')
    {'engine.seed': 1}
    """
    decoder = json.JSONDecoder()  # the value is followed by a comment on its origin
    return {name: decoder.raw_decode(rest)[0] for name, rest in re.findall(r"^(\S+) += (.*)$", output, re.M)}
