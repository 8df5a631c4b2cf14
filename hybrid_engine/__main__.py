"""`python -m hybrid_engine`."""

from hybrid_engine.cli import main

main()
