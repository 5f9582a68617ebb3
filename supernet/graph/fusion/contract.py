"""Which quantized patterns a runtime executes in int8, as a value; probing it lies elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from supernet.dataclass_json import decode_dataclass, encode_dataclass
from supernet.errors import InputError
from supernet.graph.fusion.kernels import MOVING
from supernet.space import nearest

BORDERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Operators between float and quantized values."""

COMPUTING: Mapping[str, str] = {
    "Add": "add",
    "AveragePool": "average_pool",
    "Clip": "clip",
    "Concat": "concat",
    "Conv": "conv",
    "Div": "div",
    "Gemm": "gemm_q",
    "GlobalAveragePool": "global_average_pool",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "LayerNormalization": "layer_norm",
    "LeakyRelu": "leaky_relu",
    "MatMul": "act_matmul",
    "Mul": "mul",
    "ReduceMean": "reduce_mean",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "Sub": "sub",
    "Tanh": "tanh",
    "Where": "where",
}
"""The pattern that tells of an operator whether it has an int8 kernel."""

MOVED: Mapping[str, str] = {
    "Expand": "expand",
    "Flatten": "flatten",
    "Gather": "gather",
    "MaxPool": "max_pool",
    "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min",
    "Reshape": "reshape",
    "Resize": "resize",
    "Slice": "slice",
    "Split": "split",
    "Squeeze": "squeeze",
    "Tile": "tile",
    "Transpose": "transpose",
    "Unsqueeze": "unsqueeze",
}
"""The pattern that tells of an operator whether it moves quantized values as they are."""

CARRYING: Mapping[str, str] = {op: f"through_{name}" for op, name in MOVED.items()}
"""The pattern that tells whether Q and DQ are carried to the other side of an operator."""

LAYER_KINDS = ("conv", "linear", "matmul")
"""Convolutions, products with a weight, and products of two activations."""

_NAMES: Mapping[str, str] = {
    "conv": "a convolution",
    "linear": "a linear layer",
    "matmul": "a product of two activations",
}
_NEEDED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "int8": {
        "conv": ("conv", "depthwise"),
        "linear": ("gemm_q", "gemm_float_out"),
        "matmul": ("act_matmul",),
    },
    "int8-dynamic": {"linear": ("dynamic_matmul",)},
    "weights4": {"linear": ("block4_matmul",), "conv": ("weight_only_conv",)},
    "weight-only": {"linear": ("weight_only_matmul",), "conv": ("weight_only_conv",)},
    "fewer levels": {
        "conv": ("conv_clip_beyond",),
        "linear": ("gemm_clip_beyond",),
        "matmul": ("act_matmul_clip_beyond",),
    },
    "groups": {"linear": ("group_gemm",), "conv": ("group_conv",)},
    "asymmetric": {"linear": ("asymmetric_gemm",), "conv": ("asymmetric_conv",)},
}
_RESEARCH = re.compile(r"w(\d+)a(\d+)((?:-(?:tensor|group\d+|asym))*)")


@dataclass(frozen=True, slots=True)
class PatternOutcome:
    """What a runtime makes of one pattern.

    Attributes:
        pattern: The pattern's name.
        operators: Operators of the optimised model and how many of each, sorted.
        in_int8: Whether nothing but the pattern's own borders is computed in float.
    """

    pattern: str
    operators: tuple[tuple[str, int], ...]
    in_int8: bool


@dataclass(frozen=True)
class FusionContract:
    """What a runtime makes of every pattern that a quantized network is written with.

    Attributes:
        runtime: The runtime's name as it stands in sentences.
        version: The runtime's version.
        machine: The processor's architecture, which optimisation depends on.
        patterns_digest: 12 hex digits of the models that were probed.
        outcomes: One entry per pattern, sorted by name.
    """

    runtime: str
    version: str
    machine: str
    patterns_digest: str
    outcomes: tuple[PatternOutcome, ...]

    @cached_property
    def _by_name(self) -> Mapping[str, PatternOutcome]:
        return {outcome.pattern: outcome for outcome in self.outcomes}

    def find(self, pattern: str) -> PatternOutcome:
        """Find what the runtime makes of a pattern.

        Raises:
            InputError: There is no such pattern.
        """
        if pattern not in self._by_name:
            known = list(self._by_name)
            raise InputError(
                f"the fusion contract of {self.runtime} {self.version} has no pattern "
                f"{pattern!r}{nearest(pattern, known)}"
            )
        return self._by_name[pattern]

    def keeps(self, pattern: str) -> bool:
        """Whether a pattern stays in int8."""
        return self.find(pattern).in_int8

    def find_kernel(self, pattern: str) -> str:
        """Name the kernel that executes a pattern of one operator.

        Raises:
            InputError: Not one kernel executes it, or there is no such pattern.
        """
        kernels = [
            op for op, _ in self.find(pattern).operators if op not in BORDERS and op not in MOVING
        ]
        if len(kernels) != 1:
            raise InputError(
                f"{self.runtime} {self.version} executes the pattern {pattern!r} with the kernels "
                f"{kernels}; this version of the planner knows one kernel per pattern"
            )
        return kernels[0]

    def explain_refusal(self, format_name: str, layer_kind: str) -> str | None:
        """Say why the runtime cannot compute a kind of layer in a format.

        Args:
            format_name: ``"fp32"``, ``"int8"``, ``"int8-dynamic"``, ``"weights4"`` or a name such
                as ``"w4a8"``, with ``-tensor``, ``-group32`` and ``-asym`` after it.
            layer_kind: One of :data:`LAYER_KINDS`.

        Returns:
            One sentence, or ``None`` where the runtime computes it in that format.

        Raises:
            InputError: There is no such format or kind of layer.
        """
        if layer_kind not in LAYER_KINDS:
            raise InputError(f"there is no kind of layer {layer_kind!r}; there are {LAYER_KINDS}")
        what = f"{_NAMES[layer_kind]} in {format_name}"
        runtime = f"{self.runtime} {self.version}"
        for way in _list_ways(format_name):
            if way == "float weights":
                return (
                    f"{runtime} does not execute {what}: it quantizes float weights between "
                    "quantized activations by itself, to 8 bits per tensor; use int8 or fp32"
                )
            patterns = _NEEDED[way].get(layer_kind)
            if patterns is None:
                return f"{runtime} has no kernel for {what}; use fp32 or int8"
            for pattern in patterns:
                outcome = self.find(pattern)
                if not outcome.in_int8:
                    made = Counter(dict(outcome.operators))
                    listed = ", ".join(f"{n} {op}" for op, n in sorted(made.items()))
                    kept = "fp32" if format_name == "int8" else "int8 or fp32"
                    return (
                        f"{runtime} does not keep {what} in integers: it executes {listed}; use "
                        f"{kept}"
                    )
        return None

    def to_json(self) -> dict[str, object]:
        """Turn the contract into what JSON has."""
        return encode_dataclass(self)

    @classmethod
    def from_json(cls, payload: object) -> FusionContract:
        """Make a contract of what :meth:`to_json` and JSON made of one.

        Raises:
            InputError: It is not one.
        """
        return decode_dataclass(cls, payload, "the fusion contract")


def _list_ways(format_name: str) -> tuple[str, ...]:
    """The ways of :data:`_NEEDED` in which a format computes, all of which are needed."""
    if format_name == "fp32":
        return ()
    if format_name in ("int8", "int8-dynamic", "weights4"):
        return (format_name,)
    found = _RESEARCH.fullmatch(format_name)
    if found is None:
        raise InputError(
            f"there is no format {format_name!r}; there are fp32, int8, int8-dynamic, weights4 "
            "and names such as w4a8"
        )
    weight_bits, activation_bits, suffixes = int(found[1]), int(found[2]), found[3]
    if weight_bits == 32:
        return () if activation_bits == 32 else ("float weights",)
    if activation_bits == 32:
        return ("weight-only",)
    more = [w for s, w in (("-group", "groups"), ("-asym", "asymmetric")) if s in suffixes]
    # Fewer levels than 256 are written as a Clip to a part of them.
    fewer = ["fewer levels"] if activation_bits < 8 else []
    return ("int8", *fewer, *more)
