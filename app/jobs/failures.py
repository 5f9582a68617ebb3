"""Failures of jobs that commands report in a way of their own."""

from __future__ import annotations


class SaidElsewhereError(Exception):
    """Another process of the same command failed and says why; this one has nothing to add.

    Args:
        bad_input: Whether it is something that the user can put right.
    """

    def __init__(self, *, bad_input: bool) -> None:
        super().__init__("another process failed and says why")
        self.bad_input = bad_input
