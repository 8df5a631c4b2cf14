"""The configuration: loading it, its keys and defaults, and the sources file."""
