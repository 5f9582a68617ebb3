"""A vision transformer written out: no modules, weights sliced by hand, everything by loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

REACH = 14


@dataclass(frozen=True)
class Written:
    """Sizes of one subnetwork: side of a patch, width, and heads and hidden units per layer."""

    patch: int
    width: int
    head_size: int
    layers: Sequence[tuple[int, int]]
    relative: bool


def evaluate_written(weights: Mapping[str, Tensor], images: Tensor, sizes: Written) -> Tensor:
    """Compute the logits of ``(N, C, H, W)`` normalised images by the formulas of the papers."""
    width, along = sizes.width, images.shape[-1] // sizes.patch
    filters = weights["embedding.patches.weight"][:width].flatten(1)
    bias = weights["embedding.patches.bias"][:width]
    tokens = [weights["embedding.token"][:width].expand(len(images), -1)]
    for place in range(along * along):
        top, left = (sizes.patch * n for n in divmod(place, along))
        patch = images[:, :, top : top + sizes.patch, left : left + sizes.patch]
        tokens.append(patch.flatten(1) @ filters.t() + bias)
    x = torch.stack(tokens, 1) + weights["embedding.positions"][:, :width]
    for i, (heads, hidden) in enumerate(sizes.layers):
        w = {k.split(".", 2)[2]: v for k, v in weights.items() if k.startswith(f"layers.{i}.")}
        x = x + _attend(w, _normalise(x, w, "norm1"), heads, along, sizes)
        y = _normalise(x, w, "norm2")
        y = y @ w["ffn.up.weight"][:hidden, :width].t() + w["ffn.up.bias"][:hidden]
        y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
        x = x + y @ w["ffn.down.weight"][:width, :hidden].t() + w["ffn.down.bias"][:width]
    y = _normalise(x[:, 0], weights, "head.norm")
    return y @ weights["head.classifier.weight"][:, :width].t() + weights["head.classifier.bias"]


def _normalise(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    width = x.shape[-1]
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"][:width] + weights[f"{name}.bias"][:width]


def _attend(w: Mapping[str, Tensor], x: Tensor, heads: int, along: int, sizes: Written) -> Tensor:
    made = []
    for head in range(heads):
        part = slice(head * sizes.head_size, (head + 1) * sizes.head_size)
        q, k, v = (
            x @ w[f"attention.{n}.weight"][part, : sizes.width].t() + w[f"attention.{n}.bias"][part]
            for n in ("query", "key", "value")
        )
        made.append(attend_by_loops(q, k, v, along, w if sizes.relative else None))
    inner = heads * sizes.head_size
    out = w["attention.out.weight"][: sizes.width, :inner]
    return torch.cat(made, -1) @ out.t() + w["attention.out.bias"][: sizes.width]


def attend_by_loops(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    along: int,
    tables: Mapping[str, Tensor] | None,
    reach: int = REACH,
) -> Tensor:
    """Attend with one head, one pair of tokens at a time; ``(N, tokens, size)`` each."""
    count, size = q.shape[1:]
    rows = []
    for i in range(count):
        keys, values = [], []
        for j in range(count):
            keys.append(k[:, j])
            values.append(v[:, j])
            if tables is not None:
                down, right = find_entries(i, j, along, reach)
                for added, name in ((keys, "key"), (values, "value")):
                    added[-1] = (
                        added[-1]
                        + tables[f"attention.relative.{name}_rows"][down]
                        + tables[f"attention.relative.{name}_columns"][right]
                    )
        scores = torch.stack([(q[:, i] * key).sum(-1) for key in keys], -1) / size**0.5
        shares = scores.exp() / scores.exp().sum(-1, keepdim=True)
        rows.append((shares[..., None] * torch.stack(values, 1)).sum(1))
    return torch.stack(rows, 1)


def find_entries(i: int, j: int, along: int, reach: int = REACH) -> tuple[int, int]:
    """Find the entries of the tables of rows and of columns for token *j* as seen from *i*."""
    if i == 0 or j == 0:
        return 0, 0
    (row, column), (other_row, other_column) = divmod(i - 1, along), divmod(j - 1, along)
    distances = (other_row - row, other_column - column)
    down, right = (max(-reach, min(reach, d)) + reach + 1 for d in distances)
    return down, right
