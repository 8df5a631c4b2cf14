"""Commands to a running exchange: pace, totals, repeats, losses, and every fault, as a client sees them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import websocket

from proofs.mock_exchange import PATHS, ControlError, MockExchange
from tests.support.exchange_client import Client


def status_of(exchange: MockExchange) -> tuple[int, str | None]:
    """The HTTP status of a refused upgrade, and its Retry-After."""
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        Client(exchange.url())
    return caught.value.status_code, (caught.value.resp_headers or {}).get("retry-after")


def test_pause_burst_resume_rate_and_count(exchange: MockExchange) -> None:
    exchange.command("pause")
    with Client(exchange.url()) as client:
        exchange.wait(subscribed=1)
        exchange.command("burst", n=25)
        client.read_until(lambda c: len(c.ids) == 25)
        assert exchange.stats()["sent"] == 25
        exchange.command("count", n=100)
        exchange.command("rate", rate=0)
        exchange.command("resume")
        client.read_until(lambda c: len(c.ids) == 100)
        stats = exchange.wait(complete=1)
        assert (stats["sent"], stats["next"], client.ids) == (100, None, list(range(1, 101)))
        exchange.command("count", n=110)
        client.read_until(lambda c: len(c.ids) == 110)


def test_trades_are_listed_as_they_were_sent(exchange: MockExchange) -> None:
    exchange.command("pause")
    for connection, first in ((1, 1), (2, 6)):
        with Client(exchange.url()) as client:
            exchange.wait(subscribed=1)
            exchange.command("burst", n=5)
            client.read_until(lambda c: len(c.ids) == 5)
        frames = [frame for frame in client.parsed if frame.get("e") == "trade"]
        sent = [[connection, one["t"], one["p"], one["q"], one["T"]] for one in frames]
        assert exchange.command("trades")["trades"][first - 1 :] == sent
        exchange.wait(open=0)


def test_frame_of_any_words_is_sent_and_is_no_trade(exchange: MockExchange) -> None:
    exchange.command("pause")
    with Client(exchange.url("kraken")) as client:
        exchange.command("say", text='{"error":"no"}', times=3, every_s=0.01)
        client.read_until(lambda c: len([one for one in c.parsed if one == {"error": "no"}]) == 3)
        exchange.wait(noise=3)
        assert exchange.stats()["sent"] == 0


@pytest.mark.parametrize("bad", [{"times": 0}, {"times": 1001}, {"every_s": -1.0}, {"text": "x" * 1001}])
def test_impossible_saying_is_refused(exchange: MockExchange, bad: dict[str, Any]) -> None:
    with pytest.raises(ControlError, match="say: times, every_s and the length of text: expected at most 1000"):
        exchange.command("say", **{"text": "x", **bad})


@pytest.mark.parametrize("kind", ["binance", "binance_combined"])
def test_announced_end_is_shared_with_the_next_connection(exchange: MockExchange, kind: str) -> None:
    exchange.command("pause")
    with Client(exchange.url(kind)) as old:
        exchange.wait(subscribed=1)
        exchange.command("burst", n=5)
        old.read_until(lambda c: len(c.ids) == 5)
        exchange.command("announce", shared=3)
        exchange.command("burst", n=2)
        old.read_until(lambda c: len(c.ids) == 7)  # alone, it still has all of them
        with Client(exchange.url(kind)) as new:
            exchange.wait(subscribed=2)
            exchange.command("burst", n=10)
            new.read_until(lambda c: len(c.ids) == 10)
            old.read_until(lambda c: len(c.ids) == 10)
            stats = exchange.stats()
    assert (old.ids, new.ids) == (list(range(1, 11)), list(range(8, 18)))
    assert (stats["sent"], stats["repeats"], stats["notices"]) == (17, 3, 1)
    notices = [frame.get("data", frame) for frame in old.parsed]
    assert [frame["e"] for frame in notices if frame.get("e") == "serverShutdown"] == ["serverShutdown"]


def test_repeat_and_lose(exchange: MockExchange) -> None:
    exchange.command("pause")
    with Client(exchange.url("gemini_v1", "btcusd")) as client:
        exchange.wait(subscribed=1)
        exchange.command("burst", n=10)
        client.read_until(lambda c: len(c.ids) == 10)
        exchange.command("repeat", n=3)
        exchange.command("burst", n=3)
        client.read_until(lambda c: len(c.ids) == 13)
        assert client.ids[10:] == [8, 9, 10]
        exchange.command("lose", n=2)
        exchange.command("burst", n=5)
        client.read_until(lambda c: len(c.ids) == 16)
        assert client.ids[13:] == [13, 14, 15]
        numbers = [frame["socket_sequence"] for frame in client.parsed]
        assert sum(b - a - 1 for a, b in pairwise(numbers)) == 2
        stats = exchange.stats()
        assert (stats["sent"], stats["repeats"], stats["lost"]) == (13, 3, 2)


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("explode", {}, "unknown command 'explode': expected one of abort"),
        ("close", {"cod": 1}, "unknown argument 'cod': expected code, reason"),
        ("close", {"code": "1001"}, "code = '1001': expected int"),
        ("close", {"code": 99_999}, "close code 99999"),
        ("close", {"reason": "x" * 124}, "at most 123 bytes"),
        ("accept_close", {"code": 1005}, "close code 1005"),
        ("http", {}, "needs status"),
        ("http", {"status": 999}, "not a known HTTP status"),
        ("silent", {"what": "music"}, "expected one of all, trades"),
        ("rate", {"rate": -1}, "expected 0 or more"),
        ("tls", {"cert": "a", "key": "b"}, "without a certificate"),
    ],
)
def test_bad_command_is_refused(exchange: MockExchange, name: str, args: dict[str, object], says: str) -> None:
    with pytest.raises(ControlError, match=says):
        exchange.command(name, **args)


def test_close_sends_its_code_after_the_trades(exchange: MockExchange) -> None:
    with Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.ids) > 10)
        answer = exchange.command("close", code=1012, reason="restart")
        client.read_until(lambda c: False)
        assert (answer["closed"], client.close_code) == (1, 1012)
    assert exchange.wait(open=0)["sent"] == len(client.ids)
    with Client(exchange.url()) as again:
        again.read_until(lambda c: len(c.ids) >= 1)
        assert again.ids[0] == client.ids[-1] + 1


def test_abort_resets_connections(exchange: MockExchange) -> None:
    with Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.ids) > 3)
        assert exchange.command("abort")["aborted"] == 1
        client.read_until(lambda c: False)
        assert client.close_code is None
    exchange.wait(open=0)


def test_refuse_and_reopen(exchange: MockExchange) -> None:
    with Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.ids) > 3)
        exchange.command("refuse")
        client.read_until(lambda c: False)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            Client(exchange.url())
    assert exchange.stats()["listening"] is False
    exchange.command("reopen")
    with Client(exchange.url()) as again:
        again.read_until(lambda c: len(c.ids) > 3)
        exchange.command("refuse", drop=False)
        again.read_until(lambda c: len(c.ids) > 13)


@pytest.mark.parametrize(("status", "after"), [(451, None), (403, None), (429, 7), (418, None), (503, 1)])
def test_http_status_applies_n_times(exchange: MockExchange, status: int, after: int | None) -> None:
    exchange.command("http", status=status, retry_after=after, times=2)
    assert [status_of(exchange) for _ in range(2)] == [(status, after and str(after))] * 2
    with Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.ids) > 3)
    assert exchange.stats()["rejected_by_status"] == {str(status): 2}


def test_http_status_until_behave(exchange: MockExchange) -> None:
    exchange.command("http", status=451, times=-1)
    assert {status_of(exchange)[0] for _ in range(5)} == {451}
    exchange.command("behave")
    Client(exchange.url()).close()


def test_hang_never_answers_the_upgrade(exchange: MockExchange) -> None:
    exchange.command("hang")
    with pytest.raises((websocket.WebSocketTimeoutException, TimeoutError)):
        Client(exchange.url(), timeout=0.3)
    Client(exchange.url()).close()


def test_accept_then_close(exchange: MockExchange) -> None:
    exchange.command("accept_close", times=3, code=1013)
    for _ in range(3):
        with Client(exchange.url()) as client:
            client.read_until(lambda c: False)
            assert (client.frames, client.close_code) == ([], 1013)
    stats = exchange.stats()
    assert (stats["accepted"], len(stats["accepts_ms"]), stats["sent"]) == (3, 3, 0)


@pytest.mark.parametrize("kind", ["gemini_v1", "gemini_v2"])
def test_silent_trades_keeps_heartbeats_and_book(exchange: MockExchange, kind: str) -> None:
    with Client(exchange.url(kind, "btcusd")) as client:
        client.read_until(lambda c: len(c.ids) > 5)
        exchange.command("silent", what="trades")
        sent = exchange.stats()["sent"]
        client.read_until(lambda c: sum('"heartbeat"' in text for text in c.frames[-40:]) > 4)
        assert client.ids == list(range(1, sent + 1))
        before = exchange.stats()["noise"]
        exchange.wait(noise=before + 5)
        exchange.command("behave")
        client.read_until(lambda c: len(c.ids) > sent)
        assert client.ids[-1] == sent + 1
        if kind == "gemini_v1":
            assert [frame["socket_sequence"] for frame in client.parsed] == list(range(len(client.frames)))


def test_silent_all_stops_pongs_and_covers_reconnects(exchange: MockExchange) -> None:
    with Client(exchange.url("gemini_v1", "btcusd")) as client:
        client.read_until(lambda c: len(c.ids) > 5)
        exchange.command("silent")
        sent = exchange.stats()["sent"]
        client.read_until(lambda c: len(c.ids) == sent)
        while not client.quiet_for(0.2):  # a heartbeat or ping that was under way
            pass
        client.ws.ping("anybody")
        assert client.quiet_for(0.4)
        with Client(exchange.url("gemini_v1", "btcusd")) as another:
            assert another.quiet_for(0.4)
        assert exchange.stats()["sent"] == sent
        exchange.command("behave")
        client.ws.settimeout(5)
        client.read_until(lambda c: len(c.ids) > sent)
        assert client.ids == list(range(1, len(client.ids) + 1))


def test_silent_next_connection_only(exchange: MockExchange) -> None:
    exchange.command("silent", scope="next", times=1)
    with Client(exchange.url()) as mute, Client(exchange.url()) as loud:
        loud.read_until(lambda c: len(c.ids) > 5)
        assert mute.quiet_for(0.3)


@pytest.mark.parametrize("kind", sorted(PATHS))
def test_garbage_uses_up_no_number(exchange: MockExchange, kind: str) -> None:
    with Client(exchange.url(kind, "btcusd")) as client:
        client.read_until(lambda c: len(c.ids) > 5)
        exchange.command("garbage", n=12)
        exchange.wait(garbage=12)
        exchange.command("pause")
        sent = exchange.stats()["sent"] + 1
        exchange.command("burst", n=1)
        client.read_until(lambda c: bool(c.ids) and c.ids[-1] == sent)
        real = [one for one in client.ids if one < 9_000_000_000]
        assert real == list(range(1, sent + 1))
        assert client.parsed.count(None) == 2  # the two of twelve that are not JSON
        assert exchange.stats()["garbage"] == 12


@pytest.mark.parametrize(
    ("what", "price"),
    [("no-price", None), ("empty-price", ""), ("nan-price", "NaN"), ("word-price", "cheap"), ("negative-price", "-")],
)
def test_each_kind_of_garbage(exchange: MockExchange, what: str, price: str | None) -> None:
    exchange.command("garbage", what=what, n=-1)
    with Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.frames) >= 5)
    garbage = [json.loads(text) for text in client.frames if '"e":"trade"' in text]
    assert exchange.stats()["sent"] == 0
    assert garbage
    for frame in garbage:
        assert ("p" not in frame) if price is None else frame["p"].startswith(price)


def test_endless_garbage_until_behave(exchange: MockExchange) -> None:
    with Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.ids) > 3)
        exchange.command("garbage", what="not-json", n=-1)
        exchange.wait(garbage=30)
        exchange.command("close")
        client.read_until(lambda c: False)
    with Client(exchange.url()) as again:
        again.read_until(lambda c: c.parsed.count(None) == 5)
        exchange.command("behave")
        again.read_until(lambda c: len(c.ids) == 1)
        assert again.ids[0] == client.ids[-1] + 1
