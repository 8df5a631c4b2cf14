"""A stand-in for the exchanges: Binance, Gemini, Coinbase and Kraken on one port, counted and obedient."""

from proofs.mock_exchange.process import PATHS, ControlError, MockExchange, StartError

__all__ = ["PATHS", "ControlError", "MockExchange", "StartError"]
