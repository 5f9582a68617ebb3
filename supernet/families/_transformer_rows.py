"""What tables of transformers share: rows of linear layers and norms, and what layers need."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from supernet.elastic.edits import Cut, Edit, Rule, Set


def output_rows(path: str, size: Rule, *, bias: bool = True) -> list[Edit]:
    """Let the outputs of a linear layer follow a rule.

    Args:
        path: The layer.
        size: How many outputs it has.
        bias: Whether it has a bias.
    """
    rows: list[Edit] = [Cut(f"{path}.weight", 0, size), Set(path, "out_features", size)]
    return [*rows, Cut(f"{path}.bias", 0, size)] if bias else rows


def input_rows(path: str, size: Rule) -> list[Edit]:
    """Let the inputs of a linear layer follow a rule."""
    return [Cut(f"{path}.weight", 1, size), Set(path, "in_features", size)]


def norm_rows(path: str, width: Rule, *, bias: bool = True) -> list[Edit]:
    """Let the width of a LayerNorm, or without ``bias`` of an RMSNorm, follow a rule."""
    shape = Rule(width.choices, {values: (size,) for values, size in width.values.items()})
    rows: list[Edit] = [Cut(f"{path}.weight", 0, width), Set(path, "normalized_shape", shape)]
    return [*rows, Cut(f"{path}.bias", 0, width)] if bias else rows


def list_projections(module: nn.Module, path: str) -> list[str]:
    """List the paths of all linear layers within a module that lies at ``path``."""
    return [name for name, m in module.named_modules(prefix=path) if isinstance(m, nn.Linear)]


def find_need(depths: Sequence[int], layer: int, choice: str = "depth") -> tuple[str, int] | None:
    """Find what the choices of a layer need: the least depth that has it.

    Args:
        depths: Numbers of layers, rising.
        layer: The layer, counted from 1; it is one of the largest number.
        choice: The name of the choice of depth.

    Returns:
        ``None`` for a layer that is always there.
    """
    return (choice, min(d for d in depths if d >= layer)) if layer > depths[0] else None
