"""The root of what this package raises."""


class MockExchangeError(Exception):
    """The mock exchange cannot do what it was asked to; the message says what, and what is allowed."""
