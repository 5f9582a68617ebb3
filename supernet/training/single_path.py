"""Single-Path NAS: one differentiable training run that ends with one architecture.

Every block is a superkernel: the outer ring of its depthwise filters, the second half of its
channels and the block itself each have an indicator, 1 while the norm of those weights is above a
learned threshold (Stamoulis et al. 2019, "Single-Path NAS", sections 3.1 to 3.3). The indicators
gate the weights of the largest network, so that it computes what the chosen subnetwork would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.func import functional_call

from supernet.costs.cost_model import CostModel
from supernet.data import DataSource
from supernet.errors import DivergedError, InputError
from supernet.families.superkernel import EXPANDS, KERNELS, SKIPPED, Superkernel
from supernet.losses import cross_entropy
from supernet.space import Architecture, Value
from supernet.supernet import Supernet
from supernet.training.batches.shuffled import draw_shuffled_rows, prepare_batch
from supernet.training.optimizer import build_optimizer, compute_learning_rate
from supernet.training.recipe import Recipe
from supernet.training.streams import DROPOUT, derive_seed

# Apart from the dropout masks of the model, which have no part number this large.
GATES = 1 << 20


@dataclass(frozen=True)
class UnitTable:
    """What one part of the network costs under every combination of its choices.

    Args:
        choices: Names of the choices it depends on.
        values: One value per combination, of shape ``(values of the first choice, ...)``.
    """

    choices: tuple[str, ...]
    values: NDArray[np.float64]


def tabulate_units(cost_model: CostModel, values: ArrayLike) -> tuple[UnitTable, ...]:
    """Tabulate a cost for every unit of a space.

    Args:
        cost_model: The cost model of the supernet.
        values: One number per distinct unit of the cost model, in its order: milliseconds of a
            profiled device, or ``[unit.macs for unit in cost_model.distinct]``.

    Raises:
        InputError: Not one value per distinct unit.
    """
    costs = np.asarray(values, dtype=np.float64)
    if costs.shape != (len(cost_model.distinct),):
        raise InputError(
            f"values of shape {costs.shape} do not fit; the space has {len(cost_model.distinct)} "
            "distinct units, one value each"
        )
    place = {
        unit.digest: float(cost) for unit, cost in zip(cost_model.distinct, costs, strict=True)
    }
    result = []
    for unit in cost_model.units:
        shape = tuple(len(cost_model.space.choice(name).values) for name in unit.choices)
        flat = [0.0 if v is None else place[v.digest] for v in unit.variants]
        result.append(UnitTable(unit.choices, np.array(flat).reshape(shape)))
    return tuple(result)


@dataclass(frozen=True, kw_only=True)
class Pressure:
    """How strongly latency counts, and how indicators learn.

    Args:
        strength: Weight of the logarithm of the latency beside the cross-entropy, from the end of
            ``warmup_steps`` on.
        warmup_steps: Steps in which latency does not count and indicators drop out at random.
        dropout: Probability that an indicator is 0 during the warm-up, so that no smaller option
            starves before thresholds mean anything (the published rate is 0.6).
        rate: Learning rate of the thresholds, as a multiple of the recipe's.

    Raises:
        InputError: A value is out of range.
    """

    strength: float = 0.1
    warmup_steps: int = 100
    dropout: float = 0.6
    rate: float = 1.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("strength", 0, math.inf),
            ("warmup_steps", 0, math.inf),
            ("dropout", 0, 1),
            ("rate", 0, math.inf),
        ):
            value = getattr(self, name)
            if not low <= value < high:
                rule = f"at least {low}" + ("" if high == math.inf else f" and below {high}")
                raise InputError(f"{name} = {value} is impossible; it must be {rule}")


def indicate(excess: Tensor) -> Tensor:
    """Give 1 where ``excess`` is above 0, else 0, with the gradient of the sigmoid (any shape)."""
    soft = torch.sigmoid(excess)
    hard = (excess > 0).to(excess.dtype)
    return hard + (soft - soft.detach())


class SinglePathSearch(nn.Module):
    """The state of a search: the supernet's weights and three thresholds per block.

    Norms are root mean squares in units of the layer's initial one: plain norms grow with the
    number of weights, and thresholds of different layers would not be comparable.

    Args:
        supernet: A supernet of the family :mod:`supernet.families.superkernel`.
        kernels: The blocks that ``list_superkernels(config)`` names.
        tables: Cost of every unit, as :func:`tabulate_units` gives it.

    Raises:
        InputError: A unit depends on choices of more than one block.
    """

    def __init__(
        self, supernet: Supernet, kernels: Sequence[Superkernel], tables: Sequence[UnitTable]
    ) -> None:
        super().__init__()
        self.supernet = supernet
        self.kernels = tuple(kernels)
        device = next(supernet.parameters()).device
        self.thresholds = nn.Parameter(torch.zeros(len(kernels), 3, device=device))
        scales = [self._find_weight(k).detach().square().mean().sqrt() for k in kernels]
        self.scales: Tensor
        self.register_buffer("scales", torch.stack(scales).to(device))
        self._fixed, self._variable = _sort_tables(tables, self.kernels, device)

    def _find_weight(self, kernel: Superkernel) -> Tensor:
        return self.supernet.model.get_parameter(f"{kernel.block}.depthwise.conv.weight")

    def measure_excess(self) -> Tensor:
        """Measure how far each norm is above its threshold, ``(blocks, 3)``: ring, half, block."""
        rows = []
        for index, kernel in enumerate(self.kernels):
            weight = self._find_weight(kernel)
            core, half = _mask_core(weight), len(weight) // 2
            ring_entries = (1 - core).sum() * len(weight)
            ring = ((weight * (1 - core)).square().sum() / ring_entries).sqrt()
            parts = [ring, _compute_rms(weight[half:]), _compute_rms(weight[:half])]
            rows.append(torch.stack(parts) / self.scales[index])
        return torch.stack(rows) - self.thresholds

    def compute_gates(self) -> Tensor:
        """Compute indicators ``(blocks, 3)`` of 0 or 1; a block without a shortcut stays."""
        return self._open_required(indicate(self.measure_excess()))

    def _open_required(self, gates: Tensor) -> Tensor:
        stays = torch.tensor([not k.skippable for k in self.kernels], device=gates.device)
        always = torch.stack([torch.zeros_like(stays), torch.zeros_like(stays), stays], 1)
        return torch.where(always, torch.ones_like(gates), gates)

    def forward(self, inputs: Tensor, gates: Tensor) -> Tensor:
        """Logits of the largest network under gates.

        With gates of 0 and 1 in eval mode these are the logits of the subnetwork that
        :meth:`read_architecture` names. A closed half is cut off where it would be read, not where
        it is made: its gate then still feels what opening it would do.

        Args:
            inputs: ``(N, C, H, W)`` pixels in 0...1.
            gates: ``(blocks, 3)``, see :meth:`compute_gates`.
        """
        changed: dict[str, Tensor] = {}
        for kernel, (ring, half, block) in zip(self.kernels, gates, strict=True):
            path, model = kernel.block, self.supernet.model
            weight = self._find_weight(kernel)
            core = _mask_core(weight)
            changed[f"{path}.depthwise.conv.weight"] = weight * (core + ring * (1 - core))
            name = f"{path}.project.conv.weight"
            project = model.get_parameter(name)
            width = project.shape[1] // 2
            changed[name] = torch.cat([project[:, :width], half * project[:, width:]], dim=1)
            for name in (f"{path}.project.bn.weight", f"{path}.project.bn.bias"):
                changed[name] = block * model.get_parameter(name)
        logits: Tensor = functional_call(self.supernet.model, changed, (inputs,))
        return logits

    def compute_cost(self, gates: Tensor) -> Tensor:
        """Compute the total cost under gates, a scalar in the unit of the tables.

        Between 0 and 1 a gate is the share of its larger option; at 0 and 1 the cost is that of
        the architecture.
        """
        total = self._fixed
        for index, table in self._variable:
            ring, half, block = gates[index]
            kernel = torch.stack([1 - ring, ring])
            expand = [block * (1 - half), block * half]
            shares = torch.stack([1 - block, *expand] if len(table) == 3 else expand)
            total = total + shares @ table @ kernel
        return total

    def read_architecture(self) -> Architecture:
        """Read what the indicators have decided."""
        values: dict[str, Value] = {}
        with torch.no_grad():
            decided = self.compute_gates().tolist()
        for kernel, (ring, half, block) in zip(self.kernels, decided, strict=True):
            values[kernel.kernel] = KERNELS[int(ring)]
            values[kernel.expand] = EXPANDS[int(half)] if block else SKIPPED
        return self.supernet.space.architecture(values)


def _mask_core(weight: Tensor) -> Tensor:
    """1 in the middle 3x3 of a filter of 5x5, else 0; shape ``(1, 1, 5, 5)``."""
    margin = (KERNELS[-1] - KERNELS[0]) // 2
    core = weight.new_zeros(1, 1, KERNELS[-1], KERNELS[-1])
    core[:, :, margin:-margin, margin:-margin] = 1
    return core


def _compute_rms(weight: Tensor) -> Tensor:
    return weight.square().mean().sqrt()


def _sort_tables(
    tables: Sequence[UnitTable], kernels: Sequence[Superkernel], device: torch.device
) -> tuple[Tensor, tuple[tuple[int, Tensor], ...]]:
    """The sum of what never changes, and a table ``(expand, kernel)`` for each block's unit."""
    place = {frozenset((k.expand, k.kernel)): i for i, k in enumerate(kernels)}
    fixed, variable = 0.0, []
    for table in tables:
        if not table.choices:
            fixed += float(table.values)
            continue
        index = place.get(frozenset(table.choices))
        if index is None:
            raise InputError(
                f"a cost unit depends on {', '.join(table.choices)}; superkernels need units that "
                "depend on the kernel and expand ratio of one block"
            )
        turned = table.choices[0] != kernels[index].expand
        values = table.values.T if turned else table.values
        variable.append((index, torch.tensor(values, dtype=torch.float32, device=device)))
    return torch.tensor(fixed, dtype=torch.float32, device=device), tuple(variable)


@dataclass(frozen=True)
class SinglePathResult:
    """What a search found.

    Args:
        architecture: The one it ended with.
        cost: Its total, in the unit of the tables.
        history: Per step: ``step``, ``loss`` (nats), ``cost`` and the number of open indicators.
    """

    architecture: Architecture
    cost: float
    history: tuple[Mapping[str, float], ...]


def search_single_path(
    search: SinglePathSearch,
    data: DataSource,
    recipe: Recipe,
    pressure: Pressure,
    *,
    progress: Callable[[Mapping[str, float]], None] | None = None,
) -> SinglePathResult:
    """Train weights and thresholds together: cross-entropy plus the logarithm of the cost.

    A function of its arguments. Weights end in ``search.supernet``; the published method trains
    the architecture anew.

    Args:
        search: A fresh search, changed in place.
        data: The data whose training split is used.
        recipe: Steps, batches, rates and seed; its sampler and distillation are not used.
        pressure: How much latency weighs.
        progress: Called with each line of the history.

    Raises:
        InputError: The warm-up is as long as the training, so that latency would never count.
        DivergedError: The loss became infinite or not a number.
    """
    steps = recipe.total_steps(data.epoch)
    if pressure.strength and pressure.warmup_steps >= steps:
        raise InputError(
            f"warmup_steps = {pressure.warmup_steps} leaves none of {steps} steps in which latency "
            "counts; shorten the warm-up, or train longer"
        )
    device = search.thresholds.device
    weights = build_optimizer(search.supernet, recipe)
    thresholds = torch.optim.SGD([search.thresholds], lr=recipe.learning_rate)
    search.train()
    history = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for step in range(steps):
            rate = compute_learning_rate(recipe, step, steps)
            _set_rate(weights, rate)
            _set_rate(thresholds, rate * pressure.rate)
            torch.manual_seed(derive_seed(recipe.seed, step, DROPOUT))
            rows = draw_shuffled_rows(len(data.train), recipe.batch_size, step, recipe.seed)
            inputs, targets = prepare_batch(data, recipe, step, rows, device)
            gates = search.compute_gates()
            cost = search.compute_cost(gates)
            warm = step < pressure.warmup_steps
            used = (
                gates * _draw_kept(search, pressure.dropout, recipe.seed, step) if warm else gates
            )
            logits = search(inputs, used)
            loss = cross_entropy(logits, targets, recipe.label_smoothing)
            objective = loss if warm else loss + pressure.strength * torch.log(cost)
            weights.zero_grad(set_to_none=True)
            thresholds.zero_grad(set_to_none=True)
            torch.autograd.backward(objective)
            if recipe.clip_norm:
                nn.utils.clip_grad_norm_(search.supernet.parameters(), recipe.clip_norm)
            weights.step()
            thresholds.step()
            history.append(_make_line(step, loss, cost, gates))
            if progress is not None:
                progress(history[-1])
    search.eval()
    with torch.no_grad():
        final = float(search.compute_cost(search.compute_gates()))
    return SinglePathResult(search.read_architecture(), final, tuple(history))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _draw_kept(search: SinglePathSearch, dropout: float, seed: int, step: int) -> Tensor:
    """1 for the indicators that stay in a step of the warm-up, ``(blocks, 3)``."""
    generator = torch.Generator().manual_seed(derive_seed(seed, step, DROPOUT, GATES))
    drawn = torch.rand(search.thresholds.shape, generator=generator)
    return search._open_required((drawn >= dropout).to(search.thresholds))


def _make_line(step: int, loss: Tensor, cost: Tensor, gates: Tensor) -> dict[str, float]:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DivergedError(f"the loss is {value} at step {step}", "lower learning_rate")
    open_gates = float(gates.detach().sum())
    return {"step": step, "loss": value, "cost": float(cost.detach()), "open": open_gates}
