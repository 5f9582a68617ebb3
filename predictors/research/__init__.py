"""Published ideas that no command uses; each has a benchmark that says what it is worth."""
