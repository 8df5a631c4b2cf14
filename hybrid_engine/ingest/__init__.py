"""Where ticks come from: SYNTHETIC, REPLAY, or WebSockets (MOCK_WS, REAL_WS)."""
