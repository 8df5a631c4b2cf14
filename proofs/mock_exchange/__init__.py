"""A stand-in for the exchanges: Binance, Gemini, Coinbase and Kraken on one port, counted and obedient."""

from proofs.mock_exchange.client import Control, ControlError
from proofs.mock_exchange.process import PATHS, MockExchange, StartError

__all__ = ["PATHS", "Control", "ControlError", "MockExchange", "StartError"]
