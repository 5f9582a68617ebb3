"""Optimiser, learning rate and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from supernet.elastic.edits import Derive
from supernet.elastic.precision import is_step
from supernet.supernet import Supernet
from supernet.training.muon import Muon, find_matrices
from supernet.training.recipe import Recipe
from supernet.training.sharding import Shards


def build_optimizer(
    supernet: Supernet, recipe: Recipe, shards: Shards | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser: weights with decay, those without, trained steps, matrices under Muon.

    Args:
        supernet: What it trains.
        recipe: Says which optimiser, its rate, momentum and weight decay.
        shards: Which parameters this process steps for; without them all.
    """
    exempt = list_undecayed(supernet)
    wanted = find_matrices(supernet.model) if recipe.optimizer == "muon" else frozenset()
    # Experts of a matrix are matrices.
    wanted |= {
        supernet.shared[name]
        for edit in supernet.edits
        if isinstance(edit, Derive) and supernet.model.get_parameter(edit.tensor) in wanted
        for name in edit.alike
    }
    matrices: list[Parameter] = []
    decayed: list[Parameter] = []
    free: list[Parameter] = []
    steps: list[Parameter] = []
    for name, parameter in supernet.named_parameters():
        if shards is not None and not shards.has(parameter):
            continue
        if is_step(name.removeprefix("shared.")):
            steps.append(parameter)
        elif name in exempt:
            free.append(parameter)
        else:
            (matrices if parameter in wanted else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
        {"params": steps, "weight_decay": 0.0, "relative_rate": recipe.step_rate},
        {
            "params": matrices,
            "weight_decay": recipe.weight_decay,
            "relative_rate": recipe.matrix_rate,
            "matrices": True,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0
        return torch.optim.SGD(
            groups,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=nesterov,
            foreach=True,
        )
    if recipe.optimizer == "muon":
        return Muon(groups, recipe.learning_rate, recipe.momentum)
    betas = (recipe.momentum, 0.999)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=betas, foreach=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups, each by its share."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("relative_rate", 1.0)


def list_undecayed(supernet: Supernet) -> frozenset[str]:
    """List parameters without weight decay: vectors (normalisation, biases), family's own."""
    vectors = (name for name, p in supernet.named_parameters() if p.ndim < 2)
    return supernet.no_decay | frozenset(vectors)


def compute_learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Compute the rate of a step: linear warm-up, then half a cosine down to 0.

    It stays at ``rate_floor`` times the peak once the cosine falls below it (the constant ending
    of BigNAS, section 3.1).
    """
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / (recipe.warmup_steps + 1)
    progress = (step - recipe.warmup_steps) / max(1, steps - recipe.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return recipe.learning_rate * max(cosine, recipe.rate_floor)


class Average:
    """Exponential moving average of a network's parameters; buffers are copied as they are.

    Args:
        supernet: The network to follow.
        decay: Decay of the average; 0 follows exactly. Early steps use less, ``(1 + n) / (10 + n)``
            so that the initial weights do not linger.
        shards: Which parameters this process averages; without them all, by all of their names.
    """

    def __init__(self, supernet: Supernet, decay: float, shards: Shards | None = None) -> None:
        self.decay = decay
        if shards is None:
            self.source = dict(supernet.named_parameters(remove_duplicate=False))
        else:
            self.source = {n: p for n, p in supernet.named_parameters() if shards.has(p)}
        self.weights = {name: p.detach().clone() for name, p in self.source.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step``, counted from the start of the average."""
        share = 1 - min(self.decay, (1 + step) / (10 + step)) if self.decay else 1.0
        current = [p.detach() for p in self.source.values()]
        torch._foreach_lerp_(list(self.weights.values()), current, share)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin again from the weights as they are now."""
        for name, tensor in self.weights.items():
            tensor.copy_(self.source[name])

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Continue from these averaged weights."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])
