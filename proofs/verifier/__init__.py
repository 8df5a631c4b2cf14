"""Verify a bundle: signature, order of events, host actions, recomputed verdicts, requirements."""
