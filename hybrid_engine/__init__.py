"""A compact threaded market-data and shadow-trading engine."""

__version__ = "0.1.0"
