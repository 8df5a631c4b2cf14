"""A mock exchange: the protocols of Binance, Gemini, Coinbase and Kraken on one port, with faults on command.

It counts what it sends. It runs as a process of its own and imports nothing of `proofs` outside this package.
"""

from proofs.mock_exchange.errors import MockExchangeError
from proofs.mock_exchange.process import ControlError, MockExchange, StartError
from proofs.mock_exchange.protocols.registry import PATHS

__all__ = ["PATHS", "ControlError", "MockExchange", "MockExchangeError", "StartError"]
