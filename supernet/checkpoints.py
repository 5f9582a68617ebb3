"""Checkpoints: complete or absent, verified by digest when read, the previous one in reserve."""

from __future__ import annotations

import hashlib
import json
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
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
_FILES = {WEIGHTS, OPTIMIZER, STATE}
_DIGEST = "digest"
# How every `state.json` of ours begins, whatever damaged the rest.
_MARK = f'{{\n  "version": {FORMAT_VERSION},\n  "step": '


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
    *,
    reserve: int | None = None,
) -> Checkpoint:
    """Write ``folder/STEP`` and remove all others of this training but one in reserve.

    The others are earlier ones, and later ones that were damaged: this training would have gone
    on from them otherwise. Folders of other trainings and of the user's are left alone.

    Args:
        folder: The folder of all checkpoints of a run.
        step: Optimiser steps done.
        weights: What evaluation and export load (averaged weights, when training averages).
        optimizer: What only continuing needs: raw weights and moments.
        state: JSON-able facts about the training.
        reserve: Step of a checkpoint known to be good; without it the newest earlier one that is.

    Raises:
        InputError: ``folder`` is a link.
        OSError: The write failed; earlier checkpoints are untouched and nothing half-written
            stays behind.
    """
    files.refuse_link(folder)
    path = Path(folder) / str(step)
    with files.new_folder(path) as temporary:
        digests = {}
        for name, tensors in ((WEIGHTS, weights), (OPTIMIZER, optimizer)):
            # Tied parameters share storage, which the format refuses: every name gets a copy.
            content = save({key: t.detach().cpu().clone() for key, t in tensors.items()})
            (temporary / name).write_bytes(content)
            digests[name] = hashlib.sha256(content).hexdigest()
        content = {"version": FORMAT_VERSION, "step": step, **state, "sha256": digests}
        # As it will be read: tuples are lists then.
        record: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
        record[_DIGEST] = _digest_state(record)
        files.write_json(temporary / STATE, record)
    _remove_others(path, record, reserve)
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
    """Find the newest good checkpoint, like :func:`find`; InputError when there is none."""
    found = find(folder)
    if found.checkpoint is None:
        reasons = "; ".join(found.notes) or "train first"
        raise InputError(f"there is no usable checkpoint in {folder}: {reasons}")
    return found


def read(path: Path) -> Checkpoint:
    """Verify one checkpoint.

    Raises:
        InputError: A file is missing, truncated or changed, or the folder was renamed; the
            message says which.
    """
    state = _read_state(path)
    if str(state.get("step")) != path.name:
        raise InputError(
            f"checkpoint {path} is damaged: {STATE} says step {state.get('step')!r}, so the folder "
            "was renamed or the file edited"
        )
    if _DIGEST in state and state[_DIGEST] != _digest_state(state):
        raise InputError(f"checkpoint {path} is damaged: {STATE} was changed")
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
        InputError: The checkpoint belongs to another network.
    """
    restore(supernet, read_tensors(checkpoint, WEIGHTS), checkpoint.path)


def restore(supernet: Supernet, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copy named tensors into a network, in place, so that everything that shares them follows.

    Those of an earlier release of the network's family are upgraded first.

    Raises:
        InputError: Names or shapes differ; the message names the first difference.
    """
    weights = supernet.upgrade(weights)
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
    """Folders of checkpoints, whole or damaged, newest first; none of the user's own."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _is_step(path.name) and _has_files(path)]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdecimal() and name == str(int(name))


def _has_files(path: Path) -> bool:
    """Whether a folder holds files of a checkpoint, and no others."""
    if not path.is_dir():
        return False
    names = {file.name for file in path.iterdir() if not files.is_partial(file)}
    return bool(names) and names <= _FILES


def _remove_others(written: Path, state: Mapping[str, Any], reserve: int | None) -> None:
    """Remove every checkpoint of a training but the one just written and one in reserve."""
    others = [
        path
        for path in _list_steps(written.parent)
        if path != written and not path.is_symlink() and _belongs_to(path, state)
    ]
    if reserve is None:
        earlier = (path for path in others if int(path.name) < int(written.name))
        reserve = next((int(path.name) for path in earlier if _is_good(path)), None)
    for path in others:
        if int(path.name) != reserve:
            shutil.rmtree(path, ignore_errors=True)


def _belongs_to(path: Path, state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of the training of ``state``, as far as damage lets that be seen."""
    try:
        text = (path / STATE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if not text.startswith(_MARK):
        return False
    try:
        other = json.loads(text)
    except (ValueError, RecursionError):
        return True
    own = {"step", "sha256", _DIGEST}
    if all(state.get(key) == other.get(key) for key in {*state, *other} - own):
        return True
    # Damage may have changed the very facts that are compared.
    return _DIGEST in other and other[_DIGEST] != _digest_state(other)


def _is_good(path: Path) -> bool:
    try:
        read(path)
    except InputError:
        return False
    return True


def _digest_state(state: Mapping[str, Any]) -> str:
    """SHA-256 of all that a ``state.json`` says, the digests of the other files included."""
    content = {key: value for key, value in state.items() if key != _DIGEST}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
