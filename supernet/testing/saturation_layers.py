"""Random layers on which the proof of saturation.py is held against an emulated processor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supernet.graph.integer.saturation import (
    Layout,
    emulate_pairs,
    find_worst_activations,
    order_reduction,
    prove_no_saturation,
)

_KERNELS = (1, 3, 5)
_ORDINARY = (Layout.CONVOLUTION, Layout.ROWS, Layout.COLUMNS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the proof said of a layer and what the emulated processor did.

    Attributes:
        proved: the proof called the layer safe.
        exact: no worst-case or random activation gave another result than exact sums.
        channels_agree: the channels that differed are those the proof named.
    """

    proved: bool
    exact: bool
    channels_agree: bool

    @property
    def agrees(self) -> bool:
        """Proof and emulation say the same of the layer and of each channel."""
        return self.proved == self.exact and self.channels_agree


def draw_layer(rng: np.random.Generator) -> tuple[np.ndarray, Layout]:
    """Draw the int8 weight of a small convolution or matrix product and its layout.

    Widths of the weights vary, so that about half of the layers are safe and many are at the
    border: two weights of 64 are safe, 64 and 65 are not.
    """
    layout = _ORDINARY[rng.integers(len(_ORDINARY))]
    outputs, inputs = int(rng.integers(1, 13)), int(rng.integers(1, 33))
    shape: tuple[int, ...] = (outputs, inputs)
    if layout is Layout.CONVOLUTION:
        kernel = _KERNELS[rng.integers(len(_KERNELS))]
        shape = (outputs, inputs, kernel, kernel)
    elif layout is Layout.COLUMNS:
        shape = (inputs, outputs)
    if rng.random() < 0.5:
        limit = int(rng.integers(56, 72))
        weight = rng.integers(-limit, limit + 1, shape)
    else:
        weight = np.round(rng.standard_normal(shape) * rng.uniform(8, 60))
    return weight.clip(-128, 127).astype(np.int8), layout


def compare_proof_with_emulation(
    weight: np.ndarray, layout: Layout, rng: np.random.Generator
) -> Comparison:
    """Prove a layer safe or not, and run the worst and some random activations through it."""
    verdict = prove_no_saturation(weight, layout)
    ordered = order_reduction(weight, layout)
    worst = find_worst_activations(ordered)
    drawn = rng.integers(0, 256, (8, ordered.shape[1]))
    activations = np.concatenate([worst, drawn.astype(np.uint8)])
    exact = activations.astype(np.int64) @ ordered.T.astype(np.int64)
    differs = (emulate_pairs(activations, ordered) != exact).any(0)
    return Comparison(
        verdict.safe,
        not differs.any(),
        tuple(np.flatnonzero(differs)) == verdict.unsafe_channels,
    )
