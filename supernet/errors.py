"""What a user can put right, as exceptions of their own: any other ``ValueError`` is a bug."""

from __future__ import annotations


class InputError(ValueError):
    """What was asked for, or a file that was read, cannot be used as it is.

    The message is one clear sentence: what is wrong, where, and what would be right. Commands show
    it and end with exit code 2. Python and the libraries raise a plain ``ValueError`` for mistakes
    in a program, which must not be taken for the user's: commands show the trace of those.
    """


class OutdatedError(InputError):
    """A file of an earlier release holds what this one has nothing for; the file is not damaged.

    The message says what has taken the place of it, and what to do.
    """


class MissingPackageError(ModuleNotFoundError):
    """An optional package is needed and not installed; the message says how to install it."""


class DivergedError(FloatingPointError):
    """A training's loss became infinite or not a number; the message says what to change.

    Args:
        found: What happened, at which step.
        remedy: What to change.
    """

    def __init__(self, found: str, remedy: str = "") -> None:
        super().__init__(f"{found}; {remedy}" if remedy else found)
        self.found = found
