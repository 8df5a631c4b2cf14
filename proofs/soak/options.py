"""The options of a soak, their limits, and what follows from them."""

import argparse
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

AS_CONFIGURED = "as-configured"
MODES = ("SYNTHETIC", "MOCK_WS", "REAL_WS")
PSI_ACTIONS = (AS_CONFIGURED, "on", "logonly", "off")
HEARTBEATS = 2  # that have to fit into stall_s: in a quiet market nothing else is written


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
        """Seconds between two looks: nine fit into a stall. A short threshold thus lets a trial take seconds."""
        return min(5.0, max(0.25, self.stall_s / 9))

    def words(self) -> list[str]:
        """As on the command line."""
        times = [f"--seconds={self.seconds:g}", f"--stall-threshold-sec={self.stall_s:g}"]
        return [*times, f"--psi-actions={self.psi_actions}", f"--mode={self.mode}"]


def _between(text: str, least: float, most: float) -> float:
    with suppress(ValueError):
        if least <= (value := float(text)) <= most:
            return value
    raise argparse.ArgumentTypeError(f"{text}: seconds, from {least:.0f} to {most:.0f}")


seconds_of = partial(_between, least=10.0, most=2 * 86_400.0)  # at the end the journal of the whole soak is recorded
stall_of = partial(_between, least=1.0, most=3600.0)


def mode_of(text: str) -> str:
    """A mode, in upper or lower case."""
    mode = text if text == AS_CONFIGURED else text.upper()
    if mode in (AS_CONFIGURED, *MODES):
        return mode
    raise argparse.ArgumentTypeError(f"{text}: {AS_CONFIGURED} or {', '.join(MODES)}")
