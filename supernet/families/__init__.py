"""Supernet families: one module each, found by their file names."""
