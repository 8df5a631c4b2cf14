"""The options of a soak, their limits, and what follows from them."""

import argparse
import json
import re
from dataclasses import asdict, dataclass

from proofs.verdict import Json

AS_CONFIGURED = "as-configured"
MODES = ("SYNTHETIC", "MOCK_WS", "REAL_WS")
PSI_ACTIONS = ("on", "logonly", "off")
SHORTEST_S, LONGEST_S = 10.0, 2 * 86_400.0  # at the end the journal of the whole soak is recorded
_LOOK_S = (0.25, 5.0)
_LOOKS_A_STALL = 9  # looks within the time that the data may stand still
HEARTBEATS = 2  # that have to fit into that time: in a quiet market nothing else is written
_SETTING = re.compile(r"^(\S+) += (.*)$", re.M)


@dataclass(frozen=True)
class Options:
    """seconds: how long to watch. stall_s: how long the data may stand still. psi_actions, mode: "as-configured", or
    the value to put in force for the soak. Recorded under these names.
    """

    seconds: float = 7200.0
    stall_s: float = 45.0
    psi_actions: str = AS_CONFIGURED
    mode: str = AS_CONFIGURED

    @property
    def look_s(self) -> float:
        """Seconds between two looks; a short threshold makes them frequent, so that a trial takes seconds."""
        least, most = _LOOK_S
        return min(most, max(least, self.stall_s / _LOOKS_A_STALL))

    def words(self) -> list[str]:
        """As on the command line."""
        return [
            f"--seconds={self.seconds:g}",
            f"--stall-threshold-sec={self.stall_s:g}",
            f"--psi-actions={self.psi_actions}",
            f"--mode={self.mode}",
        ]

    def as_json(self) -> dict[str, Json]:
        return asdict(self)


def seconds_of(text: str) -> float:
    return _between(text, SHORTEST_S, LONGEST_S)


def stall_of(text: str) -> float:
    return _between(text, 1.0, 3600.0)


def _between(text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text}: seconds, from {least:.0f} to {most:.0f}")
    return value


def mode_of(text: str) -> str:
    """A mode, in upper or lower case."""
    word = text.upper()
    if word in MODES or text == AS_CONFIGURED:
        return text if text == AS_CONFIGURED else word
    raise argparse.ArgumentTypeError(f"{text}: {AS_CONFIGURED} or {', '.join(MODES)}")


def parse_settings(output: str) -> dict[str, Json]:
    """The settings in the output of `hybrid-engine config check`.

    >>> parse_settings('engine.seed                = 1                                # default')
    {'engine.seed': 1}
    """
    decoder = json.JSONDecoder()  # the value is followed by a comment on its origin
    return {name: decoder.raw_decode(rest)[0] for name, rest in _SETTING.findall(output)}
