"""Putting a host back: undo that is on the disk before the fault, and outlives its author."""
