"""No address is shown with its secrets."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.runtime.address import hide_addresses, show_address
from tests.support.addresses import SHOWN, SHOWN_WITHOUT_SCHEME

_SECRET = st.text("abcdefghijkmnopqrstuvwxyzABCDEF0123456789_.~!$()*,=:@/?#%+", min_size=3, max_size=20)


@pytest.mark.parametrize(("address", "shown"), [*SHOWN.items(), *SHOWN_WITHOUT_SCHEME.items()])
def test_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert show_address(address) == shown
    assert show_address(shown) == shown


@pytest.mark.parametrize(("address", "shown"), SHOWN.items())
def test_addresses_in_a_text_are_shown_likewise(address: str, shown: str) -> None:
    assert hide_addresses(f'it said "{address}", twice: <{address}>') == f'it said "{shown}", twice: <{shown}>'
    assert hide_addresses(address.replace("/", "\\/")) in (
        shown,
        address.replace("/", "\\/") if shown == address else shown,
    )


@given(secret=_SECRET, host=st.sampled_from(["h.example", "127.0.0.1:80", "[::1]:1", "localhost"]))
def test_no_password_is_shown(secret: str, host: str) -> None:
    shown = show_address(f"wss://u:q7{secret}7q@{host}/ws/btcusdt@trade")
    assert shown == f"wss://[redacted]@{host}/ws/btcusdt@trade"


@given(secret=_SECRET, name=st.sampled_from(["token", "key", "sig", "signature", "listenKey", "jwt", "auth", "user"]))
def test_no_query_value_is_shown(secret: str, name: str) -> None:
    value = "q7" + secret.replace("@", "a").replace("=", "e") + "7q"
    shown = show_address(f"wss://h.example/ws?a=b&{name}={value}")
    assert value not in shown
    assert shown.startswith("wss://h.example/ws?a=[redacted]&")


@pytest.mark.parametrize(
    "piece", ["a", "://", "a://", "@", "a@", "/a", "wss://u:p@h.a/", "?a=", "a.", "@a.", "\\/", "-a"]
)
def test_hiding_is_linear(piece: str) -> None:
    text = "wss://" + piece * (100_000 // len(piece))
    began = time.process_time()
    hide_addresses(text)
    hide_addresses(text + "!")
    assert time.process_time() - began < 5.0
