"""The options of a soak, their limits, and what follows from them."""

import argparse
from dataclasses import dataclass
from functools import partial

AS_CONFIGURED = "as-configured"
MODES = ("SYNTHETIC", "MOCK_WS", "REAL_WS")
PSI_ACTIONS = (AS_CONFIGURED, "on", "logonly", "off")
_LOOK_S = (0.25, 5.0)
_LOOKS_A_STALL = 9  # looks within the time that the data may stand still
HEARTBEATS = 2  # that have to fit into that time: in a quiet market nothing else is written


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
        times = [f"--seconds={self.seconds:g}", f"--stall-threshold-sec={self.stall_s:g}"]
        return [*times, f"--psi-actions={self.psi_actions}", f"--mode={self.mode}"]


def _between(text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text}: seconds, from {least:.0f} to {most:.0f}")
    return value


seconds_of = partial(_between, least=10.0, most=2 * 86_400.0)  # at the end the journal of the whole soak is recorded
stall_of = partial(_between, least=1.0, most=3600.0)


def mode_of(text: str) -> str:
    """A mode, in upper or lower case."""
    mode = text if text == AS_CONFIGURED else text.upper()
    if mode in (AS_CONFIGURED, *MODES):
        return mode
    raise argparse.ArgumentTypeError(f"{text}: {AS_CONFIGURED} or {', '.join(MODES)}")
