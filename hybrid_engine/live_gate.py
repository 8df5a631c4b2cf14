"""LIVE fails closed: nothing here can open it yet, so every LIVE is refused with the reason that comes first."""

from hybrid_engine.exits import ConfigError
from hybrid_engine.settings import Settings


def check(settings: Settings, where: str) -> None:
    """Raises ConfigError when the mode is LIVE."""
    if settings.mode != "LIVE":
        return
    if not settings.live_armed:
        raise ConfigError(f"{where}: mode = LIVE: refused, live_armed is false; allowed now are SHADOW and PAPER")
    raise ConfigError(
        f"{where}: mode = LIVE: refused, this release has no live adapter; allowed now are SHADOW and PAPER"
    )
