"""Proofs that stand outside the engine and try to break it; nothing here imports hybrid_engine."""
