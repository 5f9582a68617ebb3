"""How a supernet is trained: one frozen value, checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from supernet.data import AUGMENTATIONS
from supernet.dataclass_json import find_field_types, find_mismatch
from supernet.errors import InputError
from supernet.space import nearest
from supernet.training.sampler_modules import list_samplers

DISTILLATIONS = ("guidance", "inplace", "none", "previous", "teacher")
DIVERGENCES = ("kl", "alpha")
OPTIMIZERS = ("sgd", "adamw", "muon")
# Fields that records of earlier releases lack.
LATER = (
    "quantizer",
    "step_rate",
    "weight_distribution",
    "matrix_rate",
    "sequential",
    "distill_from",
)
QUANTIZERS = ("lsq", "minmax", "dorefa")
PRECISIONS = ("fp32", "bf16", "auto")
AUGMENT = ("auto", *AUGMENTATIONS)

# What may change between two runs of one training without changing the weights that come out.
NEUTRAL = ("checkpoint_every", "log_every")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides which weights come out of training, given supernet and data.

    Args:
        steps: Optimiser steps; ignored when ``epochs`` is given.
        epochs: Passes over the training split instead of ``steps``.
        batch_size: Samples per step.
        learning_rate: Peak rate; it rises linearly over ``warmup_steps``, then falls to 0 as half
            a cosine.
        optimizer: ``"sgd"`` (Nesterov), ``"adamw"``, or ``"muon"``: SGD whose steps on the weights
            of linear layers and convolutions without groups are made orthogonal.
        momentum: Momentum of SGD and Muon, and the first beta of AdamW.
        matrix_rate: Learning rate of the matrices under Muon, relative to that of other weights.
        weight_decay: Not applied to normalisation, biases and a family's own exceptions.
        warmup_steps: Steps of linear warm-up.
        label_smoothing: Smoothing of the labels in the largest network's loss.
        sampler: Which architectures train in a step: a module of ``supernet/training/samplers``,
            or the dotted path of one of your own.
        random_architectures: Random architectures per step.
        candidates: Architectures a sampler that compares them chooses each one from.
        distill: ``"inplace"``: all but the largest learn from its predictions; ``"previous"``:
            each learns from the one before it; ``"guidance"``: half from that one and half from
            the labels; ``"teacher"``: all learn from a network outside; ``"none"``: all learn
            from the labels.
        distill_from: Share of the steps before anything is distilled, in which all learn from the
            labels.
        divergence: What pulls a student to its teacher: ``"kl"`` (Kullback-Leibler) or ``"alpha"``
            (the adaptive alpha-divergence of AlphaNet).
        label_share: Weight of the labels beside the divergence, for those that have a teacher.
        phases: ``"progressive"`` unlocks the choices one kind after the other, from the largest
            network down (progressive shrinking); ``"none"``.
        regularise: ``"largest"``: dropout in the largest architecture alone; ``"all"``.
        rate_floor: Share of the peak below which the rate never falls after warm-up.
        rows: ``"uniform"``: every sample once per epoch; ``"importance"``: samples with a larger
            gradient more often (PA&DA).
        split: Each architecture of a step trains on its own part of the batch.
        micro_batches: Parts the batch is run in, one after the other, to save memory.
        ema_decay: Decay of the averaged weights that are kept; 0 keeps the last weights.
        precision: ``"fp32"``, ``"bf16"`` or ``"auto"``: bf16 on GPUs that have it, else fp32.
        clip_norm: Largest norm of the gradient; 0 does not clip.
        clip_value: Largest entry of the gradient; 0 does not clip.
        augment: ``"auto"`` (what suits the data), or a kind by name.
        checkpoint_every: Steps between checkpoints; the last step always has one.
        log_every: Steps between lines of the log.
        quantizer: How a supernet that is elastic in precision rounds: ``"lsq"`` with trained
            steps, which calibration on ``seed`` starts; ``"minmax"`` by the extremes;
            ``"dorefa"`` by fixed steps of weights bounded by a tangent.
        step_rate: Learning rate of trained steps, relative to that of weights.
        weight_distribution: Weight of the penalty on unevenly distributed weights, 1 as in
            EQ-Net; for a supernet that is elastic in precision.
        sequential: The architectures that a sampler draws together train one after the other, each
            with a batch and an optimiser step of its own.
        seed: Seed of batches, augmentation and sampled architectures.

    Raises:
        InputError: A field is out of range; the message names field and value.
    """

    steps: int = 1000
    epochs: int | None = None
    batch_size: int = 128
    learning_rate: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_steps: int = 50
    label_smoothing: float = 0.0
    sampler: str = "sandwich"
    random_architectures: int = 2
    candidates: int = 3
    distill: str = "inplace"
    divergence: str = "kl"
    label_share: float = 0.0
    phases: str = "none"
    regularise: str = "all"
    rate_floor: float = 0.0
    rows: str = "uniform"
    split: bool = False
    micro_batches: int = 1
    ema_decay: float = 0.99
    precision: str = "auto"
    clip_norm: float = 0.0
    clip_value: float = 0.0
    augment: str = "auto"
    checkpoint_every: int = 250
    log_every: int = 25
    quantizer: str = "lsq"
    step_rate: float = 0.3
    weight_distribution: float = 0.0
    matrix_rate: float = 0.1
    sequential: bool = False
    distill_from: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        # Recipes come from files and flags: a wrong type must not travel into the loop.
        for name, kind in find_field_types(Recipe).items():
            wanted = find_mismatch(getattr(self, name), kind)
            self._require(name, wanted is None, str(wanted))
        for name in (
            "steps",
            "batch_size",
            "checkpoint_every",
            "log_every",
            "candidates",
            "micro_batches",
        ):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "warmup_steps",
            "random_architectures",
            "weight_decay",
            "clip_norm",
            "clip_value",
            "label_share",
            "step_rate",
            "weight_distribution",
            "seed",
        ):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("seed", self.seed < 2**63, "below 2**63")
        self._require("epochs", self.epochs is None or self.epochs >= 1, "at least 1")
        for name in ("learning_rate", "matrix_rate"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("momentum", "label_smoothing", "ema_decay", "rate_floor", "distill_from"):
            self._require(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        legal = {
            "optimizer": OPTIMIZERS,
            "distill": DISTILLATIONS,
            "divergence": DIVERGENCES,
            "phases": ("none", "progressive"),
            "regularise": ("all", "largest"),
            "rows": ("uniform", "importance"),
            "precision": PRECISIONS,
            "quantizer": QUANTIZERS,
            "augment": AUGMENT,
        }
        if "." not in self.sampler:
            legal["sampler"] = list_samplers()
        for name, values in legal.items():
            value = getattr(self, name)
            hint = nearest(value, values)
            self._require(name, value in values, f"one of {', '.join(values)}{hint}")
        if self.sampler == "uniform":
            self._require("random_architectures", self.random_architectures >= 1, "at least 1")
        if self.distill_from and self.distill == "none":
            raise InputError(
                f"distill_from = {self.distill_from!r} cannot go with distill = 'none': nothing "
                "would be distilled; use distill = 'inplace', or leave distill_from out"
            )
        if self.sequential and self.split:
            raise InputError(
                "sequential = True cannot go with split = True: there is one architecture in a "
                "step, and nothing to divide its batch between; leave one of them out"
            )
        if self.sequential and self.distill in ("guidance", "inplace", "previous"):
            raise InputError(
                f"sequential = True cannot go with distill = {self.distill!r}: architectures of "
                "different steps cannot teach each other; use distill = 'none' or 'teacher'"
            )
        if self.split and self.distill in ("guidance", "inplace", "previous"):
            raise InputError(
                f"split = True cannot go with distill = {self.distill!r}: architectures that see "
                "different samples cannot teach each other; use distill = 'none' or 'teacher'"
            )

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise InputError(f"{name} = {getattr(self, name)!r} is impossible; it must be {rule}")

    def total_steps(self, epoch: int) -> int:
        """Steps of the whole training when one pass over the data has ``epoch`` samples."""
        if self.epochs is None:
            return self.steps
        return math.ceil(self.epochs * epoch / self.batch_size)

    def to_json(self, *, neutral: bool = True) -> dict[str, Any]:
        """A JSON-able record of every field, but for later ones that change nothing.

        So the record of a training that is continued is what an earlier release wrote.

        Args:
            neutral: Whether fields are in it that do not change which weights come out.
        """
        usual = Recipe()
        left_out = {name for name in LATER if getattr(self, name) == getattr(usual, name)}
        left_out |= set() if neutral else set(NEUTRAL)
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Recipe:
        """The recipe with these fields; missing ones take their defaults.

        Raises:
            InputError: An unknown field (the nearest is named) or a value out of range.
        """
        return cls().replace(payload)

    def replace(self, changes: Mapping[str, Any]) -> Recipe:
        """Copy it with some fields changed; InputError names an unknown one and the nearest."""
        names = [field.name for field in fields(self)]
        for name in changes:
            if name not in names:
                raise InputError(f"a recipe has no field {name!r}{nearest(name, names)}")
        return replace(self, **changes)

    def resize(self, steps: int, epoch: int | None = None) -> Recipe:
        """Copy it with another number of steps; warm-up keeps its share of them.

        Args:
            steps: Optimiser steps.
            epoch: Training samples in one pass over the data, which a recipe in epochs needs.

        Raises:
            InputError: ``steps`` are none, or the recipe is in epochs and ``epoch`` is not given.
        """
        if self.epochs is not None and epoch is None:
            raise InputError(
                f"the recipe has epochs = {self.epochs}; resize needs the samples of an epoch, too"
            )
        share = self.warmup_steps / self.total_steps(epoch or 1)
        warmup = min(round(steps * share), steps)
        return self.replace({"epochs": None, "steps": steps, "warmup_steps": warmup})

    def diff(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Fields that lead to other weights, as ``{name: (ours, theirs)}``."""
        ours, theirs = asdict(self), asdict(other)
        return {
            name: (ours[name], theirs[name])
            for name in ours
            if name not in NEUTRAL and ours[name] != theirs[name]
        }
