"""A stand-in for the exchanges: Binance, Gemini, Coinbase and Kraken on one port, counted and obedient."""

from .client import Control, ControlError
from .process import PATHS, MockExchange, StartError

__all__ = ["PATHS", "Control", "ControlError", "MockExchange", "StartError"]
