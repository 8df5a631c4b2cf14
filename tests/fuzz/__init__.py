"""Coverage-guided runs, by hand: atheris is no dependency of the project."""
