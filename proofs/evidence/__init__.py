"""The record of a run: events, redaction, big outputs, the statement and its signature."""
