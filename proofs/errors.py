"""The root of the errors that the proofs raise.

`except ProofError` means "a proof, its host or its evidence is not as it has to be"; anything else that is raised is a
mistake in the code. `cli.main` prints one that nobody caught as one line. The mock exchange has a root of its own.
"""


class ProofError(Exception):
    """The message says what happened and where, in one line for the operator."""
