"""Checkpoints that hold more than tensors, read without running anything of what they name.

A checkpoint may hold, beside its tensors, whatever a training script had at hand: the best accuracy
as a numpy scalar, its arguments as a namespace, paths. Torch's restricted reader refuses all of it.
Here every class and function that a file names, and that the reader does not know, is replaced by a
stand-in of the same name that takes any arguments and does nothing.
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import torch

# Before torch 1.6 a checkpoint was several pickles in a row: a magic number, the protocol, facts of
# the system, and then the content.
_PICKLES_OF_OLD = 4
# What Python 3 calls modules that are written under their old names.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class StandIn:
    """What stands for an object of a class or function that was not imported."""

    def __new__(cls, *args: object, **named: object) -> StandIn:
        """Take the arguments and forget them."""
        return super().__new__(cls)

    def __init__(self, *args: object, **named: object) -> None:
        """Take the arguments and forget them."""

    def __setstate__(self, state: object) -> None:
        """Take the state and forget it."""

    def __setitem__(self, key: object, value: object) -> None:
        """Take an entry and forget it; newer readers refuse to fill what is no dictionary."""


def load_checkpoint(path: Path) -> object:
    """Read a file of ``torch.save``: tensors, plain containers, and stand-ins for all else.

    Args:
        path: The file.

    Raises:
        Exception: It is no such file, or holds what the restricted reader cannot read even so; the
            reader has many ways to say that.
    """
    stand_ins: list[Callable[..., object] | tuple[Callable[..., object], str]]
    stand_ins = [_make_stand_in(name) for name in _list_named(path)]
    with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        # Of a pickle protocol that may not be read; whether it is, the result shows.
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        return torch.load(path, map_location="cpu", weights_only=True)


def _make_stand_in(name: str) -> type:
    module, _, own = name.rpartition(".")
    if name == "collections.defaultdict":
        # The reader fills exact dictionaries only; whatever the default was, it is not needed.
        return type(own, (_PlainDict,), {"__module__": module, "__qualname__": own})
    return type(own, (StandIn,), {"__module__": module, "__qualname__": own})


class _PlainDict:
    """Makes a dictionary instead of itself."""

    def __new__(cls, *args: object) -> OrderedDict[object, object]:  # type: ignore[misc]
        return OrderedDict()


def _list_named(path: Path) -> set[str]:
    """List the classes and functions that a checkpoint names, as ``module.name``.

    The operations of its pickles are read one by one; none is carried out.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                inner = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
                return _list_globals(BytesIO(archive.read(inner)), 1)
        with path.open("rb") as file:
            return _list_globals(file, _PICKLES_OF_OLD)
    except OSError:
        raise
    except Exception:  # a stranger's bytes can fail in any way; the reader itself says how
        return set()


def _list_globals(file: BinaryIO, pickles: int) -> set[str]:
    found = set()
    for _ in range(pickles):
        for operation, argument, _position in pickletools.genops(file):
            if operation.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                found.add(f"{_RENAMED.get(module, module)}.{name}")
    return found
