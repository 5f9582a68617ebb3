"""Checks that a device backend keeps its contract, and a small space to run them on."""
