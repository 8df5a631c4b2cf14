"""Coverage-guided fuzzing, run by hand: atheris is not a dependency of the project."""
