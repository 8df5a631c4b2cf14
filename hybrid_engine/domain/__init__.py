"""What the engine is about: trades, ticks, signals, orders; counters, gaps and de-duplication."""
