"""Every error of the package has its root."""

from __future__ import annotations

import importlib
import pkgutil

from proofs import mock_exchange
from proofs.mock_exchange import MockExchangeError


def test_every_error_has_the_root() -> None:
    errors = set[type]()
    for module in pkgutil.walk_packages(mock_exchange.__path__, "proofs.mock_exchange."):
        values = vars(importlib.import_module(module.name)).values()
        errors |= {one for one in values if isinstance(one, type) and issubclass(one, BaseException)}
    own = {one for one in errors if one.__module__.startswith("proofs.")}
    assert len(own) > 5
    assert {one for one in own if not issubclass(one, MockExchangeError)} == set()
