"""Failures of jobs that commands report in a way of their own."""

from __future__ import annotations


class SaidElsewhereError(Exception):
    """Another process of the same command failed and says why; this one has nothing to add."""
