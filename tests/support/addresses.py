"""Addresses with something secret in them, and how they are shown."""

M = "[redacted]"
# Each secret has "hunter" in it, or is a long random word.
SHOWN = {
    "wss://hunter:hunter2@h.example/ws": f"wss://{M}@h.example/ws",
    "wss://hunter@h.example/ws/btcusdt@trade": f"wss://{M}@h.example/ws/btcusdt@trade",
    "wss://:hunter2@h.example:9443/ws": f"wss://{M}@h.example:9443/ws",
    "wss://u:hunter@hunter2@h.example/ws": f"wss://{M}@h.example/ws",
    "wss://u:hunter/2@h.example/ws": f"wss://{M}@h.example/ws",
    "wss://u:12/hunter@h.example/ws/btcusdt@trade": f"wss://{M}@h.example/ws/btcusdt@trade",
    "wss://u:hunter?2@h.example:80": f"wss://{M}@h.example:80",
    "wss://u:hunter#2@h.example/ws": f"wss://{M}@h.example/ws",
    "wss://u:hunter@hunter/2@[::1]:80/ws": f"wss://{M}@[::1]:80/ws",
    "ws://u:hunter2@127.0.0.1:9001/ws": f"ws://{M}@127.0.0.1:9001/ws",
    "ws://u:hunter2@localhost/ws": f"ws://{M}@localhost/ws",
    "wss://h.example/ws?token=hunter": f"wss://h.example/ws?token={M}",
    "wss://h.example/ws?a=1&key=hunter2&sig=hunter": f"wss://h.example/ws?a={M}&key={M}&sig={M}",
    "wss://h.example/ws?listenKey=hunter;jwt=hunter": f"wss://h.example/ws?listenKey={M};jwt={M}",
    "wss://h.example/ws?user=hunter&password=hu%6Eter": f"wss://h.example/ws?user={M}&password={M}",
    "wss://h.example?auth=hunter": f"wss://h.example?auth={M}",
    "wss://h.example/ws?hunter2": f"wss://h.example/ws?{M}",
    "wss://h.example/ws?signature=": f"wss://h.example/ws?signature={M}",
    "wss://h.example/ws?hunter2aaaaaaaaaa9x=1": f"wss://h.example/ws?{M}={M}",
    "wss://h.example/ws?token=a?hunter=b": f"wss://h.example/ws?token={M}",
    "wss://h.example/ws#token=hunter": f"wss://h.example/ws#{M}",
    "wss://h.example/ws/pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1": f"wss://h.example/ws/{M}",
    "wss://h.example/hunter2-9f86d081/ws": f"wss://h.example/{M}/ws",
    "wss://h.example/1b4e28ba-2fa1-11d2-883f-0016d3cca427": f"wss://h.example/{M}",
    "wss://h.example/ws/aHVudGVyMg==": f"wss://h.example/ws/{M}",
    "wss://h.example/token/hunter/ws": f"wss://h.example/token/{M}/ws",
    "wss://h.example/api_key/hunter": f"wss://h.example/api_key/{M}",
    "wss://h.example/ws;token=hunter": f"wss://h.example/ws;{M}",
    "wss://h.example/token=hunter": f"wss://h.example/token={M}",
    "WSS://U:HUNTER@H.EXAMPLE/ws": f"WSS://{M}@H.EXAMPLE/ws",
    "https://u:hunter@h.example/x": f"https://{M}@h.example/x",
    "wss://h.example/ws/aB3xK9pQ2z": f"wss://h.example/ws/{M}",
    "wss://h.example/ws/a1b2c3d4e5": f"wss://h.example/ws/{M}",
    "wss://u:hunter@": f"wss://{M}@",
    "wss://u:hunter": f"wss://{M}",
    "wss://h.example:hunter/ws": f"wss://{M}",
}
# What has nothing secret in it is shown whole.
SHOWN |= {
    plain: plain
    for plain in (
        "wss://stream.binance.com:9443/ws/btcusdt@trade",
        "wss://stream.binance.com/ws/btcusdt@trade/ethusdt@aggTrade",
        "wss://stream.binance.com/ws/1000shibusdt@kline_1h",
        "wss://stream.binance.com/ws/!ticker_1h@arr",
        "wss://ws-feed.exchange.coinbase.com",
        "wss://api.gemini.com/v1/marketdata/BTCUSD",
        "wss://ws.kraken.com/v2",
        "wss://h.example/ws/PF_XBTUSD",
        "wss://h.example/1000SHIB/v1beta2",
        "wss://h.example/public/market-data-feed/v1.2",
        "ws://127.0.0.1:9001/ws/btcusdt@trade",
        "ws://[::1]:9001/ws",
        "ws://localhost:1/",
        "https://github.com/o/r/commit/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        "file:///opt/hybrid-engine/releases/1.2.3-9f86d0818842/bin",
        "",
    )
}
# Without a scheme: not an address that an engine uses, but an operator may have forgotten it.
SHOWN_WITHOUT_SCHEME = {
    "u:hunter@h.example/ws": f"{M}@h.example/ws",
    "h.example/ws?token=hunter": f"h.example/ws?token={M}",
    "token=hunter": M,
    "stream.binance.com:9443/ws": "stream.binance.com:9443/ws",
    "wss:/u:hunter@h.example": f"wss:/{M}@h.example",
}
