"""The host under test: looking at it and acting on it, every command recorded."""
