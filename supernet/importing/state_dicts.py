"""Which part of a checkpoint is the network, and what its tensors are called without wrappers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from supernet.errors import InputError

# What data-parallel training, weight averages, torch.compile and trainers put before every name.
_WRAPPERS = ("module.", "model.", "net.", "network.")
_COMPILED = "_orig_mod."
# How many networks a weight average has seen, which is no tensor of the network.
_AVERAGED = "n_averaged"
_SHOWN = 6
REMEDY = "where it was made, save the tensors alone: torch.save(network.state_dict(), FILE)"
# Functions of numpy that make what they are not called, under its old and its new module.
_MADE = {
    f"numpy.{core}.multiarray.{function}": made
    for core in ("core", "_core")
    for function, made in (("scalar", "numpy scalar"), ("_reconstruct", "numpy array"))
}


def find_state_dict(content: object, path: Path, key: str | None = None) -> Mapping[str, object]:
    """Find the state dict in what a checkpoint holds.

    It may be the whole content, or stand under a key of its own beside other things, or under a key
    of such a part (``"checkpoint.model"``).

    Args:
        content: What was read.
        path: The file, for messages.
        key: Which one, where there are several; dots lead into parts.

    Returns:
        The state dict; its values have yet to be checked.

    Raises:
        InputError: There is none, none under ``key``, or there are several and no ``key``.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{path} is not a state dict: it holds a {name_type(content)}; {REMEDY}")
    found = _list_state_dicts(content)
    if key is not None:
        if key not in found:
            have = f"it has {', '.join(found)}" if found else "it has none"
            raise InputError(f"{path} has no state dict under {key!r}; {have}")
        return found[key]
    if len(found) > 1:
        raise InputError(
            f"{path} holds {len(found)} state dicts ({', '.join(found)}); say which one with --key"
        )
    if found:
        return next(iter(found.values()))
    if any(isinstance(value, Tensor) for value in content.values()):
        return content
    held = [f"{name!r} ({name_type(value)})" for name, value in content.items()]
    raise InputError(
        f"{path} is not a state dict and has none: it holds {shorten_names(held) or 'nothing'}; "
        f"{REMEDY}"
    )


def strip_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off names what wrappers of the whole network put before them, in any order.

    Args:
        tensors: Tensors by name (``"module._orig_mod.blocks.0.weight"``).
    """
    found = {name.replace(_COMPILED, ""): tensor for name, tensor in tensors.items()}
    if any(name.startswith("module.") for name in found):
        found.pop(_AVERAGED, None)
    while True:
        wrapper = next((w for w in _WRAPPERS if all(n.startswith(w) for n in found)), None)
        if wrapper is None or not found:
            return found
        found = {name.removeprefix(wrapper): tensor for name, tensor in found.items()}


def name_type(value: object) -> str:
    """Name the type of a value as a program would import it (``"numpy.ndarray"``, ``"int"``)."""
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    name = f"{module}{kind.__qualname__}"
    return _MADE.get(name, name)


def _list_state_dicts(content: Mapping[object, object]) -> dict[str, Mapping[str, object]]:
    """State dicts by their keys: the parts of a file, or else the parts of its parts."""
    parts = {name: part for name, part in content.items() if isinstance(part, Mapping)}
    found = {str(name): part for name, part in parts.items() if _is_state_dict(part)}
    if not found:
        for name, part in parts.items():
            inner = ((f"{name}.{key}", value) for key, value in part.items())
            found |= {key: value for key, value in inner if _is_state_dict(value)}
    return found


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(name, str) for name in value)
        and any(isinstance(entry, Tensor) for entry in value.values())
    )


def shorten_names(names: Sequence[str]) -> str:
    """Join the first few names."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
