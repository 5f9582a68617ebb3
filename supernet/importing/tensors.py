"""Named tensors from a file that somebody else wrote."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from supernet.errors import InputError
from supernet.importing.stand_ins import StandIn, load_checkpoint
from supernet.importing.state_dicts import REMEDY, find_state_dict, name_type

# How the reader names an object that it will not make or fill.
_REFUSED = re.compile(r"(?:GLOBAL |(?:SETITEMS?|append|extend).* but got <class ')([\w.]+)")


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read the state dict in a ``.safetensors`` or ``.pth`` file, onto the processor.

    What else a ``.pth`` holds is passed over, and nothing that it names is imported or run.

    Args:
        path: The file; the state dict may stand under a key, such as ``state_dict`` or ``model``.
        key: Which one, where a file has several; see
            :func:`~supernet.importing.state_dicts.find_state_dict`.

    Raises:
        InputError: There is no such file, it holds something else than named, finite tensors, or
            several state dicts; the message names what is in the way.
    """
    if not path.is_file():
        kind = "a folder, not a file" if path.is_dir() else "not there"
        raise InputError(f"the checkpoint {path} is {kind}")
    loaded = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pth(path)
    found: dict[str, Tensor] = {}
    for name, tensor in find_state_dict(loaded, path, key).items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(
                f"{path} is not a state dict: {name!r} is a {name_type(tensor)}; {REMEDY}"
            )
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path} is damaged: {name} has entries that are not finite")
        found[name] = tensor
    return found


def _load_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from None


def _load_pth(path: Path) -> object:
    try:
        # Published weights exist in this format only.
        loaded = load_checkpoint(path)
    except OSError:
        raise
    # Bytes that are no such file fail the reader in any way it does not foresee.
    except Exception as error:
        raise InputError(
            f"{path} is not a checkpoint of tensors alone: {_explain(error)}"
        ) from None
    if isinstance(loaded, StandIn):
        raise InputError(
            f"{path} holds a whole {name_type(loaded)}, which only its own program can read, not "
            f"its tensors; {REMEDY}"
        )
    return loaded


def _explain(error: Exception) -> str:
    """What the reader could not read, with a remedy where it is an object."""
    refused = _REFUSED.search(str(error))
    if refused is not None:
        return f"it holds an object of {refused[1]}; {REMEDY}"
    if "persistent_load" in str(error):
        return f"it holds a whole network, which only its own program can read; {REMEDY}"
    # Text fails as an unknown key of the reader's tables, what is cut off as the end of a file.
    if "Unsupported operand" in str(error) or isinstance(error, (KeyError, EOFError)):
        return f"it was not written in the way of torch.save; {REMEDY}"
    return str(error).split(". ")[0].split("\n")[0] or type(error).__name__
