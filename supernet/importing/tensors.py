"""Named tensors from a file that somebody else wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from supernet.errors import InputError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a ``.safetensors`` or ``.pth`` file, onto the processor.

    Args:
        path: The file; in a ``.pth`` the tensors may stand under the key ``state_dict``.

    Raises:
        ValueError: There is no such file, or it holds something else than named, finite tensors.
    """
    if not path.is_file():
        kind = "a folder, not a file" if path.is_dir() else "not there"
        raise InputError(f"the checkpoint {path} is {kind}")
    loaded = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pth(path)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(state, Mapping) or not state:
        raise InputError(f"{path} holds a {type(state).__name__}, not a state dict of tensors")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{path} is not a state dict: {name!r} is a {type(tensor).__name__}")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path} is damaged: {name} has entries that are not finite")
    return dict(state)


def _load_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from None


def _load_pth(path: Path) -> object:
    try:
        # Published weights exist in this format only. The restricted reader makes tensors and
        # plain containers, and refuses everything that could run code.
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # Bytes that are no such file fail the reader in any way it does not foresee.
    except Exception as error:
        reason = str(error).split(". ")[0].split("\n")[0] or type(error).__name__
        raise InputError(f"{path} is not a checkpoint of tensors alone: {reason}") from None
