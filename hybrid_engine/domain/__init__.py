"""The engine's own terms: trades, ticks, signals and orders; counters; gaps; de-duplication."""
