"""The configuration: its keys and defaults, the loader, and the sources file."""
