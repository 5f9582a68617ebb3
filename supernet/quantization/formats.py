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
        remedy = f"{INT8.name}, or {FP32.name}"
        if self.quantizes_weights:
            names = (make_format(self.weight_bits, b).name for b in (INTEGER_BITS, FLOAT_BITS))
            remedy = f"{', or '.join(names)} with activations in float"
        return f"{runtime} has no activations of {self.activation_bits} bits; it executes {remedy}"


FP32 = Format("fp32", FLOAT_BITS, FLOAT_BITS)
INT8 = Format("int8", 8, 8)
INT8_DYNAMIC = Format("int8-dynamic", 8, 8, dynamic=True)
WEIGHTS4 = Format("weights4", 4, FLOAT_BITS, granularity="group")
NAMED = {f.name: f for f in (WEIGHTS4, INT8, INT8_DYNAMIC, FP32)}
"""Formats that ONNX Runtime executes, smallest first."""

_RESEARCH = re.compile(r"w(\d{1,4})a(\d{1,4})(?:-(tensor|group\d{1,9}))?(-asym)?", re.ASCII)
_ALL = "research"
_PLACES = ("unit", "layer")


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
            few = ", ".join(str(b) for b in legal if b != FLOAT_BITS)
            unit = "bit" if bits == 1 else "bits"
            raise InputError(
                f"w{weight_bits}a{activation_bits} has {what} of {bits} {unit}; they can have "
                f"{few}, or {FLOAT_BITS} for float"
            )
    match = re.fullmatch(r"(channel|tensor|group)(\d*)", granularity, re.ASCII)
    kinds: dict[str, Granularity] = {name: name for name in GRANULARITIES}
    group = int(match[2] or BLOCK) if match else 0
    if match is None or group < 1 or (match[2] and match[1] != "group"):
        raise InputError(
            f"granularity {granularity!r} is not offered; there are channel, tensor, and groups of "
            "at least one input feature, such as group32"
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

    A single format, whichever it is, stands for itself and float, which every unit may keep: with
    nothing beside it there would be nothing to choose. Of several formats float is one only where
    it is named. ``"layer:"`` in front gives every layer a format of its own instead of every unit,
    and ``"unit:"`` says what is usual. Every command and every stored policy is read here, so that
    this holds for all of them.

    Raises:
        InputError: A format that there is not, twice the same, or none.
    """
    place, colon, rest = text.rpartition(":")
    per = place.strip() if colon else _PLACES[0]
    if per not in _PLACES:
        raise InputError(
            f"precision {text!r} has {place!r} in front of the colon; write {_PLACES[1]}: for a "
            f"format of every layer, as in {_PLACES[1]}:int8, or leave it out"
        )
    names = [name.strip() for name in rest.split(",")]
    if names == [_ALL]:
        formats = [make_format(w, a) for w in WEIGHT_BITS for a in ACTIVATION_BITS]
        return Policy(text, tuple(formats), separate=True, per=per)
    found = _find_formats(text, names)
    if len(found) == 1:
        if found == [FP32]:
            raise InputError(
                f"precision {text!r} leaves nothing to choose; name another format beside float, "
                "such as fp32,int8"
            )
        found.append(FP32)
    found.sort(key=lambda f: (f.weight_bits, f.activation_bits, f.dynamic))
    return Policy(text, tuple(found), per=per)


def _find_formats(text: str, names: list[str]) -> list[Format]:
    """Find the formats of a policy.

    Raises:
        InputError: None is named, or one that there is not, or one twice.
    """
    given = [name for name in names if name]
    if not given:
        raise InputError(
            f"precision {text!r} names no format; give one or several, such as int8 or fp32,int8"
        )
    if len(given) < len(names):
        raise InputError(
            f"precision {text!r} has a comma with no format beside it; write {','.join(given)}"
        )
    if _ALL in given:
        raise InputError(
            f"precision {text!r} names {_ALL} beside other formats; {_ALL} stands alone, for all "
            "bits of weights and of activations"
        )
    found: dict[Format, str] = {}
    for name in given:
        form = find_format(name)
        if form in found:
            same = f" ({found[form]} and {name} are one)" if found[form] != name else ""
            raise InputError(
                f"precision {text!r} names {form.name} twice{same}; name every format once"
            )
        found[form] = name
    return list(found)
