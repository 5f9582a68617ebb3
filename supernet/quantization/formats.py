"""Number formats a unit can compute in, their names, and policies of several of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from supernet.errors import InputError
from supernet.space import nearest

FLOAT_BITS = 32
INTEGER_BITS = 8
"""Bits of activations that the kernels of runtimes take."""
WEIGHT_BITS = (2, 3, 4, 5, 6, 8, FLOAT_BITS)
ACTIVATION_BITS = (4, 6, 8, FLOAT_BITS)
Granularity = Literal["channel", "tensor", "group"]
GRANULARITIES: tuple[Granularity, ...] = ("channel", "tensor", "group")
BLOCK = 32
"""Input features that share one scale in block-wise formats."""


@dataclass(frozen=True, slots=True)
class Format:
    """How a unit computes: bits of its weights and activations, and what shares a scale.

    Args:
        name: What it is called in choices, files and options.
        weight_bits: One of ``WEIGHT_BITS``; 32 is float.
        activation_bits: One of ``ACTIVATION_BITS``; 32 is float.
        granularity: What shares a scale of weights: an output ``"channel"``, the whole
            ``"tensor"``, or a ``"group"`` of input features of one output channel.
        group: Input features in a group.
        symmetric: Weights have no zero point.
        dynamic: Ranges of activations are taken from each input at run time.
    """

    name: str
    weight_bits: int
    activation_bits: int
    granularity: Granularity = "channel"
    group: int = BLOCK
    symmetric: bool = True
    dynamic: bool = False

    @property
    def quantizes_weights(self) -> bool:
        """Whether weights are integers."""
        return self.weight_bits < FLOAT_BITS

    @property
    def quantizes_activations(self) -> bool:
        """Whether activations are integers, with ranges known before."""
        return self.activation_bits < FLOAT_BITS and not self.dynamic

    @property
    def learns_steps(self) -> bool:
        """Whether the steps of its weights can be trained: those of whole channels, around 0."""
        return self.quantizes_weights and self.granularity == "channel" and self.symmetric

    @property
    def products_only(self) -> bool:
        """Whether it is for matrix products and leaves convolutions in float."""
        return self.dynamic or (self.granularity == "group" and not self.quantizes_activations)

    def explain_simulation(self, runtime: str) -> str | None:
        """Say why a runtime cannot execute the format, which then exists as a simulation alone.

        Args:
            runtime: Its name as it stands in the sentence.

        Returns:
            The reason and what can be executed in its place; ``None`` where nothing stands against
            it.
        """
        if self.activation_bits in (INTEGER_BITS, FLOAT_BITS):
            return None
        bits = self.weight_bits
        return (
            f"{runtime} has no activations of {self.activation_bits} bits; it executes "
            f"w{bits}a{INTEGER_BITS}, or w{bits}a{FLOAT_BITS} with activations in float"
        )


FP32 = Format("fp32", FLOAT_BITS, FLOAT_BITS)
INT8 = Format("int8", 8, 8)
INT8_DYNAMIC = Format("int8-dynamic", 8, 8, dynamic=True)
WEIGHTS4 = Format("weights4", 4, FLOAT_BITS, granularity="group")
NAMED = {f.name: f for f in (WEIGHTS4, INT8, INT8_DYNAMIC, FP32)}
"""Formats that ONNX Runtime executes, smallest first."""

_RESEARCH = re.compile(r"w(\d+)a(\d+)(?:-(tensor|group\d+))?(-asym)?")


def find_format(name: str) -> Format:
    """Find the format that a name means: one of ``NAMED``, or ``w4a8``, ``w3a6-tensor-asym``.

    Raises:
        InputError: There is no such format; the message names what there is.
    """
    if name in NAMED:
        return NAMED[name]
    match = _RESEARCH.fullmatch(name)
    if match is None:
        raise InputError(
            f"unknown precision {name!r}{nearest(name, list(NAMED))}; there are "
            f"{', '.join(NAMED)}, and w{{bits}}a{{bits}} such as w4a8 or w4a8-tensor-asym"
        )
    return make_format(int(match[1]), int(match[2]), match[3] or "channel", not match[4])


def make_format(
    weight_bits: int, activation_bits: int, granularity: str = "channel", symmetric: bool = True
) -> Format:
    """Make a research format.

    Args:
        weight_bits: One of ``WEIGHT_BITS``.
        activation_bits: One of ``ACTIVATION_BITS``.
        granularity: ``"channel"``, ``"tensor"``, or ``"group32"`` with the size of a group.
        symmetric: Weights have no zero point.

    Raises:
        InputError: Bits or a granularity that there is not.
    """
    for what, bits, legal in (
        ("weights", weight_bits, WEIGHT_BITS),
        ("activations", activation_bits, ACTIVATION_BITS),
    ):
        if bits not in legal:
            raise InputError(
                f"{bits} bits for {what} are not offered; there are {', '.join(map(str, legal))} "
                f"({FLOAT_BITS} is float)"
            )
    match = re.fullmatch(r"(channel|tensor|group)(\d*)", granularity)
    kinds: dict[str, Granularity] = {name: name for name in GRANULARITIES}
    group = int(match[2] or BLOCK) if match else 0
    if match is None or group < 1 or (match[2] and match[1] != "group"):
        raise InputError(
            f"granularity {granularity!r} is not offered; there are channel, tensor and group32"
        )
    kind = kinds[match[1]]
    if weight_bits == activation_bits == FLOAT_BITS:
        return FP32
    if weight_bits == activation_bits == 8 and kind == "channel" and symmetric:
        return INT8
    suffix = "" if kind == "channel" else f"-{kind}{group if kind == 'group' else ''}"
    name = f"w{weight_bits}a{activation_bits}{suffix}{'' if symmetric else '-asym'}"
    return Format(name, weight_bits, activation_bits, kind, group, symmetric)


@dataclass(frozen=True, slots=True)
class Policy:
    """Which formats every unit may take.

    Args:
        name: As in ``--precision``: names of formats, or of a named policy.
        formats: The formats, those of fewer bits first, without repeats.
        separate: Bits of weights and of activations are choices of their own, and ``formats`` are
            all their combinations.
        per: ``"unit"`` or ``"layer"``: what has a format of its own.
    """

    name: str
    formats: tuple[Format, ...]
    separate: bool = False
    per: str = "unit"


def parse_policy(text: str) -> Policy:
    """Read a policy: ``"int8"``, ``"research"``, or formats like ``"fp32,int8"``.

    A single format of :data:`NAMED` stands for itself and float, which every unit may keep.
    ``"layer:"`` in front gives every layer a format of its own instead of every unit.

    Raises:
        InputError: A format that there is not, twice the same, or none.
    """
    per, colon, rest = text.rpartition(":")
    if colon and per not in ("unit", "layer"):
        raise InputError(f"{text!r}: what has a format of its own is unit or layer, not {per!r}")
    per = per or "unit"
    if rest == "research":
        formats = [make_format(w, a) for w in WEIGHT_BITS for a in ACTIVATION_BITS]
        return Policy(text, tuple(formats), separate=True, per=per)
    names = [name.strip() for name in rest.split(",")]
    found = [find_format(name) for name in names]
    if len(set(found)) < len(found):
        raise InputError(f"precision {text!r} names a format twice")
    if len(found) == 1:
        if found == [FP32]:
            raise InputError(
                "precision 'fp32' leaves nothing to choose; name another format beside it, "
                "such as fp32,int8"
            )
        found.append(FP32)
    found.sort(key=lambda f: (f.weight_bits, f.activation_bits, f.dynamic))
    return Policy(text, tuple(found), per=per)
