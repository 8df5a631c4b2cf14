"""A WebSocket client for tests: reads the frames of the mock exchange and picks out the trades."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import websocket

SUBSCRIBE: dict[str, dict[str, Any]] = {
    "/v2/marketdata": {"type": "subscribe", "subscriptions": [{"name": "l2", "symbols": ["BTCUSD"]}]},
    "/gemini": {"id": "1", "method": "subscribe", "params": ["btcusd@trade"]},
    "/coinbase": {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "heartbeat"]},
    "/v2": {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"]}},
}


def trades_in(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """The new trades in a frame as {id, price, size, symbol}; empty for noise, snapshots and history."""
    if "channel" in frame:
        trades = frame["data"] if (frame["channel"], frame.get("type")) == ("trade", "update") else []
        return [{"id": t["trade_id"], "price": t.get("price"), "size": t["qty"], "symbol": t["symbol"]} for t in trades]
    data = frame.get("data", frame)
    if data.get("e") in ("trade", "aggTrade"):
        rows = [(data["t" if data["e"] == "trade" else "a"], data.get("p"), data["q"], data["s"])]
    elif data.get("type") == "update":
        events = [event for event in data["events"] if event["type"] == "trade"]
        rows = [(event["tid"], event.get("price"), event["amount"], "") for event in events]
    elif data.get("type") == "trade":
        rows = [(data["event_id"], data.get("price"), data["quantity"], data["symbol"])]
    elif data.get("type") == "match":
        rows = [(data["trade_id"], data.get("price"), data["size"], data["product_id"])]
    elif {"t", "q", "s"} <= data.keys():
        rows = [(data["t"], data.get("p"), data["q"], data["s"])]
    else:
        rows = []
    return [dict(zip(("id", "price", "size", "symbol"), one, strict=True)) for one in rows]


class Client:
    """One connection. `frames`: every frame received, as text; `ids`: of the trades, in order of receipt."""

    def __init__(self, url: str, timeout: float = 10.0, ca: str | None = None, subscribe: bool = True) -> None:
        options = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": ca} if ca else None
        self.ws = websocket.create_connection(url, timeout=timeout, sslopt=options)
        self.frames: list[str] = []
        self.ids: list[int] = []
        self.close_code: int | None = None
        request = SUBSCRIBE.get(urlsplit(url).path)
        if subscribe and request is not None:
            self.ws.send(json.dumps(request))

    def read(self) -> bool:
        """Read one frame; False once the exchange has closed."""
        try:
            opcode, payload = self.ws.recv_data(control_frame=True)
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            return False
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big")
            return False
        if opcode == websocket.ABNF.OPCODE_TEXT:
            self.frames.append(payload.decode())
            frame = _parse(self.frames[-1])
            if isinstance(frame, dict):
                self.ids += [trade["id"] for trade in trades_in(frame)]
        return True

    def read_until(self, condition: Callable[[Client], bool], timeout: float = 15.0) -> Client:
        """Read until the condition holds or the exchange closes."""
        deadline = time.monotonic() + timeout
        while not condition(self):
            assert time.monotonic() < deadline, f"not within {timeout} s; {len(self.frames)} frames, {self.ids[-3:]}"
            if not self.read():
                break
        return self

    def quiet_for(self, seconds: float) -> bool:
        """True when nothing arrives for so long (silence has no event to wait for, so this sleeps)."""
        self.ws.settimeout(seconds)
        try:
            self.ws.recv_data(control_frame=True)
        except websocket.WebSocketTimeoutException:
            return True
        return False

    @property
    def parsed(self) -> list[Any]:
        """The frames as JSON; None for those that are not."""
        return [_parse(text) for text in self.frames]

    def close(self) -> None:
        self.ws.close(timeout=1)
        # After the server closed first, close() alone leaves the socket open.
        self.ws.shutdown()  # type: ignore[no-untyped-call]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
