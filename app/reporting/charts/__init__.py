"""Charts of runs, and their common style."""
