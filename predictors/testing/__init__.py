"""Checks that a prediction method keeps its contract."""
