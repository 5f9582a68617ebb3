"""Checkpoints: complete or absent, verified by digest when read, the previous one in reserve."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from supernet import files
from supernet.errors import InputError
from supernet.supernet import Supernet

FORMAT_VERSION = 1
KEPT = 2
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A complete, verified checkpoint.

    Args:
        path: Its folder.
        step: Optimiser steps done.
        digest: 16 hexadecimal digits of the content of its weights.
        state: What ``state.json`` says.
    """

    path: Path
    step: int
    digest: str
    state: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """The newest good checkpoint, if any, and a sentence for every damaged one passed over."""

    checkpoint: Checkpoint | None
    notes: tuple[str, ...]


def write(
    folder: Path,
    step: int,
    weights: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> Checkpoint:
    """Write ``folder/STEP`` and remove all but the two newest.

    Args:
        folder: The folder of all checkpoints of a run.
        step: Optimiser steps done.
        weights: What evaluation and export load (averaged weights, when training averages).
        optimizer: What only continuing needs: raw weights and moments.
        state: JSON-able facts about the training.

    Raises:
        OSError: The write failed; earlier checkpoints are untouched and nothing half-written
            stays behind.
    """
    path = Path(folder) / str(step)
    with files.new_folder(path) as temporary:
        digests = {}
        for name, tensors in ((WEIGHTS, weights), (OPTIMIZER, optimizer)):
            # Tied parameters share storage, which the format refuses: every name gets a copy.
            content = save({key: t.detach().cpu().clone() for key, t in tensors.items()})
            (temporary / name).write_bytes(content)
            digests[name] = hashlib.sha256(content).hexdigest()
        record = {"version": FORMAT_VERSION, "step": step, **state, "sha256": digests}
        files.write_json(temporary / STATE, record)
    for old in _list_steps(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return Checkpoint(path, step, digests[WEIGHTS][:16], record)


def find(folder: Path) -> Found:
    """Find the newest checkpoint of a run whose files match their digests."""
    notes = []
    for path in _list_steps(folder):
        try:
            checkpoint = read(path)
        except InputError as error:
            notes.append(str(error))
            continue
        if notes:
            notes.append(f"using the previous good checkpoint, {path}")
        return Found(checkpoint, tuple(notes))
    return Found(None, tuple(notes))


def require(folder: Path) -> Found:
    """Find the newest good checkpoint, like :func:`find`; ValueError when there is none."""
    found = find(folder)
    if found.checkpoint is None:
        reasons = "; ".join(found.notes) or "train first"
        raise InputError(f"there is no usable checkpoint in {folder}: {reasons}")
    return found


def read(path: Path) -> Checkpoint:
    """Verify one checkpoint.

    Raises:
        ValueError: A file is missing, truncated or changed; the message says which.
    """
    state = _read_state(path)
    for name, digest in state["sha256"].items():
        file = path / name
        if not file.is_file():
            raise InputError(f"checkpoint {path} is damaged: {name} is missing")
        if files.digest_file(file) != digest:
            raise InputError(
                f"checkpoint {path} is damaged: {name} ({file.stat().st_size} bytes) is truncated "
                "or changed"
            )
    return Checkpoint(path, state["step"], state["sha256"][WEIGHTS][:16], state)


def load_weights(supernet: Supernet, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's weights into the supernet, in place.

    Raises:
        ValueError: The checkpoint belongs to another network.
    """
    restore(supernet, read_tensors(checkpoint, WEIGHTS), checkpoint.path)


def restore(supernet: Supernet, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copy named tensors into a network, in place, so that everything that shares them follows.

    Raises:
        ValueError: Names or shapes differ; the message names the first difference.
    """
    ours = supernet.state_dict()
    for name in (*ours, *weights):
        here = tuple(ours[name].shape) if name in ours else "nothing"
        there = tuple(weights[name].shape) if name in weights else "nothing"
        if here != there:
            raise InputError(
                f"{source} does not fit the network: {name} is {there} in the file, {here} here"
            )
    with torch.no_grad():
        for name, tensor in ours.items():
            tensor.copy_(weights[name])


def read_tensors(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    """Read the tensors of one of a checkpoint's files, onto the CPU."""
    return dict(load((checkpoint.path / name).read_bytes()))


def _list_steps(folder: Path) -> list[Path]:
    """Folders of checkpoints, newest first."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = files.read_json(path / STATE)
    except FileNotFoundError:
        raise InputError(f"checkpoint {path} is damaged: {STATE} is missing") from None
    except InputError as error:
        raise InputError(f"checkpoint {path} is damaged: {error}") from error
    if not isinstance(state, dict) or state.get("version") != FORMAT_VERSION:
        raise InputError(f"checkpoint {path} has an unknown version; this release reads version 1")
    if not isinstance(state.get("sha256"), dict) or set(state["sha256"]) != {WEIGHTS, OPTIMIZER}:
        raise InputError(f"checkpoint {path} is damaged: {STATE} lists no digests")
    return state
