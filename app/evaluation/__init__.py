"""Evaluating architectures: the log, the workers, and the early stop of hopeless ones."""
