"""Running proofs on the host: prerequisites, plan, one run in a transient unit, one proof with its mutants."""
