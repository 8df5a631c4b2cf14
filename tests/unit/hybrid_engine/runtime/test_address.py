"""No address is shown with its secrets; the engine, the proofs and the Ansible modules agree on how it is shown."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.runtime import address as of_engine
from proofs.evidence import address as of_proofs
from tests.support.addresses import SHOWN, SHOWN_WITHOUT_SCHEME
from tests.unit.plugins.loading import shared

of_modules = shared("address")
SHOW = [of_engine.show_address, of_proofs.show_address, of_modules.show_address]
HIDE = [of_engine.hide_addresses, of_proofs.hide_addresses, of_modules.hide_addresses]
_SECRET = st.text("abcdefghijkmnopqrstuvwxyzABCDEF0123456789_.~!$()*,=:@/?#%+", min_size=3, max_size=20)


@pytest.mark.parametrize("show", SHOW)
@pytest.mark.parametrize(("address", "shown"), [*SHOWN.items(), *SHOWN_WITHOUT_SCHEME.items()])
def test_address_is_shown_without_its_secrets(show: Callable[[str], str], address: str, shown: str) -> None:
    assert show(address) == shown
    assert show(shown) == shown


@pytest.mark.parametrize("hide", HIDE)
@pytest.mark.parametrize(("address", "shown"), SHOWN.items())
def test_addresses_in_a_text_are_shown_likewise(hide: Callable[[str], str], address: str, shown: str) -> None:
    assert hide(f'it said "{address}", twice: <{address}>') == f'it said "{shown}", twice: <{shown}>'
    assert hide(address.replace("/", "\\/")) in (shown, address.replace("/", "\\/") if shown == address else shown)


@given(secret=_SECRET, host=st.sampled_from(["h.example", "127.0.0.1:80", "[::1]:1", "localhost"]))
def test_no_password_is_shown(secret: str, host: str) -> None:
    shown = of_engine.show_address(f"wss://u:q7{secret}7q@{host}/ws/btcusdt@trade")
    assert shown == f"wss://[redacted]@{host}/ws/btcusdt@trade"


@given(secret=_SECRET, name=st.sampled_from(["token", "key", "sig", "signature", "listenKey", "jwt", "auth", "user"]))
def test_no_query_value_is_shown(secret: str, name: str) -> None:
    value = "q7" + secret.replace("@", "a").replace("=", "e") + "7q"
    shown = of_engine.show_address(f"wss://h.example/ws?a=b&{name}={value}")
    assert value not in shown
    assert shown.startswith("wss://h.example/ws?a=[redacted]&")


@pytest.mark.parametrize(
    "piece", ["a", "://", "a://", "@", "a@", "/a", "wss://u:p@h.a/", "?a=", "a.", "@a.", "\\/", "-a"]
)
def test_hiding_is_linear(piece: str) -> None:
    text = "wss://" + piece * (100_000 // len(piece))
    began = time.process_time()
    of_engine.hide_addresses(text)
    of_engine.hide_addresses(text + "!")
    assert time.process_time() - began < 5.0
