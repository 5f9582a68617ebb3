"""What is wrong with an argument whatever the option: nothing in it, or what no name can hold."""

from __future__ import annotations

import os
from collections.abc import Sequence

from supernet.errors import InputError


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse empty arguments, which would silently stand for a default or for this directory.

    Args:
        arguments: What was typed after the name of the program.

    Raises:
        InputError: One is empty, or holds what no name can; the option is named.
    """
    before = ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if equals and option.startswith("--"):
            check_value(value, option)
        else:
            check_value(argument, before if before.startswith("-") else "an argument")
        before = argument


def check_value(value: str, what: str) -> None:
    """Refuse the value of an option that is empty, or that no file name can hold.

    Args:
        value: As it was typed, or as it stands in a file of options.
        what: The option, for the message.

    Raises:
        InputError: It is nothing but spaces, or holds a NUL or a lone surrogate.
    """
    if not value.strip():
        raise InputError(f"{what} is empty; give it a value, or leave it out")
    if "\0" in value or not _is_encodable(value):
        raise InputError(
            f"{what} = {value!r} is impossible; it must not hold NUL or half of a character"
        )


def _is_encodable(value: str) -> bool:
    """Whether the system can be given a text; bytes of a name that are no text are no obstacle."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True
