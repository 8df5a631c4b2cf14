"""Whether a bundle may be believed: signature, event order, host actions, recomputed verdicts, policy."""
