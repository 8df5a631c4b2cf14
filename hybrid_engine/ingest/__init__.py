"""Where trades come from: SYNTHETIC, REPLAY, and the WebSocket feed of MOCK_WS and REAL_WS."""
