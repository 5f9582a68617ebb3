"""Trained steps of a precision-elastic supernet: which there are, and where they start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.data import DataSource, lay_channels_last
from supernet.elastic.edits import Derive, Pick, Quantize, Rule
from supernet.elastic.precision import RANGES, WEIGHTS, is_step, name_step
from supernet.errors import InputError
from supernet.quantization.execution import Execution, find_execution
from supernet.quantization.formats import Format
from supernet.quantization.quantizers import SMALLEST_STEP, weight_levels
from supernet.quantization.step_fitting import fit_step, fit_step_and_offset
from supernet.space import Architecture, Positions, SearchSpace, Value
from supernet.supernet import Supernet

SAMPLES = 256
"""Training samples that steps of activations start from (EQ-Net)."""
SAMPLES_AT_ONCE = 32
RANDOM_STRUCTURES = 4
VALUES = 1024
"""Values of an activation that are kept of each batch."""


LSQ, MINMAX, DOREFA = "lsq", "minmax", "dorefa"


def add_learned_steps(
    supernet: Supernet, data: DataSource, seed: int = 0, quantizer: str = LSQ
) -> Supernet:
    """Give a precision-elastic supernet steps that are trained, calibrated on training samples.

    Every layer has a step per output channel for each number of weight bits, every rounded
    activation a step and an offset for each number of activation bits; they are independent,
    because the ranges that suit 2 and 8 bits have little to do with each other (Xu et al. 2023,
    "EQ-Net", section 3.2). Build the optimiser afterwards, so that it knows them.

    Args:
        supernet: From :func:`supernet.precision.elastic.make_precision_elastic`, its weights
            initialised or loaded; they are shared with the result.
        data: Calibration uses its training split.
        seed: Chooses the samples.
        quantizer: See :func:`make_step_parameters`.

    Returns:
        The same supernet with parameters in ``shared``; they get no weight decay.

    Raises:
        InputError: See :func:`make_step_parameters` and :func:`calibrate_steps`.
    """
    learned = make_step_parameters(supernet, quantizer)
    if any(map(is_step, learned.shared)):
        calibrate_steps(learned, data, seed)
    return learned


def make_step_parameters(supernet: Supernet, quantizer: str = LSQ) -> Supernet:
    """Make the parameters of trained steps without values, for weights that will be loaded.

    Names and shapes are a function of the network and its table.

    Args:
        supernet: Elastic in precision; its weights are shared with the result.
        quantizer: ``"lsq"``: all steps are trained (Esser et al. 2020). ``"dorefa"``: weights of
            convolutions are ``tanh(w) / max |tanh(w)|`` with steps that stay as they are (Zhou et
            al. 2016, "DoReFa-Net", section 2.3, on symmetric levels: the paper's have no 0, and
            integers of as many bits could not hold them); a normalisation must follow. ``"minmax"``
            trains none.

    Returns:
        The same supernet with steps of 1 in ``shared``: ``(out,)`` per weight, ``(2,)``, step and
        offset, per activation.

    Raises:
        InputError: The supernet is not elastic in precision, or has trained steps already.
    """
    if any(map(is_step, supernet.shared)):
        raise InputError("the supernet has trained steps already")
    if quantizer not in (LSQ, MINMAX, DOREFA):
        raise InputError(f"there is no quantizer {quantizer!r}; there are lsq, minmax and dorefa")
    if quantizer == MINMAX:
        return supernet
    rows = _bound_weights(supernet) if quantizer == DOREFA else ()
    bounded = {row.tensor for row in rows}
    found: dict[str, nn.Parameter] = {}
    for _, asked in _ask_for_steps(supernet):
        for layer, bits in asked.steps:
            name = name_step(WEIGHTS, layer, bits)
            if name not in found:
                weight = supernet.model.get_parameter(f"{layer}.weight")
                found[name] = nn.Parameter(weight.new_ones(len(weight)))
                if f"{layer}.weight" in bounded:
                    found[name].requires_grad_(False).fill_(1 / weight_levels(bits)[1])
        for key, bits in asked.ranges:
            like = next(supernet.model.parameters())
            found.setdefault(name_step(RANGES, key, bits), nn.Parameter(like.new_ones(2)))
    return Supernet(
        supernet.model,
        supernet.space,
        (*supernet.edits, *rows),
        units=supernet.units,
        inputs=supernet.inputs,
        shared={**supernet.shared, **found},
        no_decay=sorted({*supernet.no_decay, *(f"shared.{name}" for name in found)}),
        upgrade=supernet.upgrade,
    )


def calibrate_steps(supernet: Supernet, data: DataSource, seed: int = 0) -> None:
    """Set trained steps to what suits weights and activations as they are now, in place.

    Each is the one with the least error to the power of 2.4 on a grid of clipped ranges (EQ-Net's
    start). Activations are those of the largest architecture that has them, with weights rounded,
    activations not, and normalisation by the batch as in training.

    Args:
        supernet: From :func:`make_step_parameters`.
        data: Samples are taken from its training split, without augmentation.
        seed: Chooses the samples.

    Raises:
        InputError: The training split is empty, or activations are not finite.
    """
    rows = np.random.default_rng(seed).permutation(len(data.train))[:SAMPLES]
    if not len(rows):
        raise InputError(f"the training split of {data.spec} is empty; steps need samples")
    with torch.no_grad():
        for layer, bits, step in _list_steps(supernet, WEIGHTS):
            weight = supernet.model.get_parameter(f"{layer}.weight")
            if step.requires_grad:
                step.copy_(fit_step(weight, bits, granularity="channel"))
        known: dict[str, Tensor] = {}
        for architecture, asked in _ask_for_steps(supernet):
            if not all(key in known for key, _ in asked.ranges):
                seen = _sample_activations(supernet, architecture, data, rows)
                known = {**seen, **known}
        for key, bits, step in _list_steps(supernet, RANGES):
            if not known[key].isfinite().all():
                raise InputError(
                    f"activation {key} is not finite on the training split of {data.spec}; "
                    "calibrate with finite weights and samples"
                )
            step.copy_(torch.stack(fit_step_and_offset(known[key], bits, signed=False)))


def list_covering_architectures(supernet: Supernet) -> tuple[Architecture, ...]:
    """List architectures that together round everything that any architecture rounds.

    They have the most of everything, the least, random parts, and every candidate of every choice;
    each of these has all units at every kind of format, and every other one, whose neighbours
    then are as wide as the policy allows. Layers with formats of their own are also alone in it.

    Raises:
        InputError: The supernet is not elastic in precision.
    """
    quantized = [edit for edit in supernet.edits if isinstance(edit, Quantize)]
    if not quantized:
        raise InputError(
            "the supernet is not elastic in precision; make_precision_elastic comes first"
        )
    space = supernet.space
    forms = _list_kinds(quantized)
    groups = [slice(None), slice(0, None, 2), slice(1, None, 2)]
    if any(row.per_layer for row in quantized):
        groups += [slice(place, place + 1) for place in range(len(quantized))]
    rows: list[Positions] = []
    for structure in _list_structures(supernet):
        for form in forms:
            for chosen in groups:
                positions = structure.copy()
                for row in quantized:
                    _set_rule(space, positions, row.format, _find_widest(row))
                for row in quantized[chosen]:
                    if form in row.format.values.values():
                        _set_rule(space, positions, row.format, form)
                rows.append(positions)
    return tuple(dict.fromkeys(space.decode(space.canonical(np.stack(rows)))))


# -- which steps there are -------------------------------------------------------------------------


@dataclass
class _Asked:
    """Names and bits of the steps that a network asks for."""

    steps: dict[tuple[str, int], None] = field(default_factory=dict)
    ranges: dict[tuple[str, int], None] = field(default_factory=dict)


class _Notes(Mapping[str, Tensor]):
    """A mapping without entries that notes what it is asked for."""

    def __init__(self, asked: dict[tuple[str, int], None]) -> None:
        self.asked = asked

    def __getitem__(self, name: str) -> Tensor:
        key, _, bits = name.rpartition("@")
        self.asked[key, int(bits)] = None
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Blind:
    """An estimator of tensors whose values do not matter."""

    def observe(self, values: Tensor) -> None:
        """Look away."""


def _ask_for_steps(supernet: Supernet) -> Iterator[tuple[Architecture, _Asked]]:
    """The steps that each covering architecture asks for when it runs."""
    device = next(supernet.parameters()).device
    for architecture in list_covering_architectures(supernet):
        network = supernet.extract(architecture).eval()
        execution = find_execution(network)
        if execution is None:
            continue
        asked = _Asked()
        execution.steps = _Notes(asked.steps)
        execution.watching = lambda _: _Blind()
        with torch.no_grad():
            network(supernet.example(architecture, 1).to(device))
        asked.ranges = {(key, state.bits): None for key, state in execution.limits.items()}
        yield architecture, asked


def _list_steps(supernet: Supernet, prefix: str) -> Iterator[tuple[str, int, nn.Parameter]]:
    """Layer or key, bits and parameter of the trained steps of a kind."""
    for name, parameter in supernet.shared.items():
        if name.startswith(prefix):
            key, _, bits = name.removeprefix(prefix).rpartition("@")
            yield key.replace(":", "."), int(bits), parameter


def _list_kinds(rows: Iterable[Quantize]) -> list[Format]:
    """Formats that together have all the weight bits and all the activation bits."""
    every = dict.fromkeys(form for row in rows for form in row.format.values.values())
    # Integers that multiply integers round the most.
    ordered = sorted(every, key=lambda f: -(f.quantizes_weights + f.quantizes_activations))
    result: list[Format] = []
    weights: set[int] = set()
    activations: set[int] = set()
    for form in ordered:
        new_weights = {form.weight_bits} if form.learns_steps else set()
        new_activations = {form.activation_bits} if form.quantizes_activations else set()
        if not new_weights <= weights or not new_activations <= activations:
            result.append(form)
        weights |= new_weights
        activations |= new_activations
    return result


def _find_widest(row: Quantize) -> Format:
    found: Format = max(
        row.format.values.values(), key=lambda f: (f.weight_bits, f.activation_bits)
    )
    return found


def _list_structures(supernet: Supernet) -> list[Positions]:
    """Positions that have the most of everything, the least, some of it, and every candidate."""
    space = supernet.space
    most = (space.cardinalities - 1).astype(np.int16)
    result = [most, np.zeros_like(most)]
    picks = [edit for edit in supernet.edits if isinstance(edit, Pick)]
    candidates = [list(dict.fromkeys(pick.child.values.values())) for pick in picks]
    # What a layer is joined with may depend on several choices at once.
    result += list(space.sample(np.random.default_rng(0), RANDOM_STRUCTURES))
    for place in range(max(map(len, candidates), default=0)):
        positions = most.copy()
        for pick, names in zip(picks, candidates, strict=True):
            _set_rule(space, positions, pick.child, names[place % len(names)])
        result.append(positions)
    return result


def _set_rule(
    space: SearchSpace, positions: NDArray[np.int16], rule: Rule, quantity: object
) -> None:
    """Set the choices of a rule so that it gives a quantity; the last way of several."""
    values = next(v for v, found in reversed(list(rule.values.items())) if found == quantity)
    for name, value in zip(rule.choices, values, strict=True):
        positions[space.index(name)] = space.choice(name).position(value)


@dataclass(frozen=True)
class _Bound:
    """DoReFa's weights in -1...1, of units that round them.

    Args:
        forms: Format by the values of the unit's choices.
    """

    forms: Mapping[tuple[Value, ...], Format]

    def __call__(self, weight: Tensor, values: tuple[Value, ...]) -> Tensor:
        """Bound a weight ``(out, ...)``, as it is cut to a subnetwork."""
        if not self.forms[values].learns_steps:
            return weight
        bounded = torch.tanh(weight)
        return bounded / bounded.abs().amax().clamp(min=SMALLEST_STEP)


def _bound_weights(supernet: Supernet) -> tuple[Derive, ...]:
    """The rows that bound the weights of convolutions in units with a choice of format."""
    rows: dict[str, Derive] = {}
    for edit in supernet.edits:
        if isinstance(edit, Quantize):
            place = supernet.model.get_submodule(edit.module)
            for path, module in place.named_modules(prefix=edit.module):
                if isinstance(module, nn.Conv2d):
                    name = f"{path}.weight"
                    bound = _Bound(edit.format.values)
                    rows[name] = Derive(name, edit.format.choices, bound)
    return tuple(rows.values())


# -- where they start ------------------------------------------------------------------------------


class _Sample:
    """Some values of an activation, and its extremes."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.kept: list[Tensor] = []

    def observe(self, values: Tensor) -> None:
        """Keep some of a batch."""
        flat = values.flatten()
        places = torch.randint(len(flat), (VALUES,), generator=self.generator).to(flat.device)
        self.kept += [flat[places], *torch.aminmax(flat)]

    def finish(self) -> Tensor:
        """All that was kept, one-dimensional."""
        return torch.cat([part.reshape(-1) for part in self.kept])


def _sample_activations(
    supernet: Supernet, architecture: Architecture, data: DataSource, rows: NDArray[np.int64]
) -> dict[str, Tensor]:
    """Values of the rounded activations of an architecture, by key."""
    network = supernet.extract(architecture).eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    execution = find_execution(network)
    assert execution is not None
    found: dict[str, _Sample] = {}
    _watch(execution, found)
    device = next(network.parameters()).device
    for start in range(0, len(rows), SAMPLES_AT_ONCE):
        part = torch.from_numpy(rows[start : start + SAMPLES_AT_ONCE])
        # The variance of a single image is none.
        if len(part) > 1 or len(rows) == 1:
            inputs, _ = data.train.batch(part, device)
            network(lay_channels_last(supernet.prepare(inputs, architecture)))
    return {key: sample.finish() for key, sample in found.items()}


def _watch(execution: Execution, found: dict[str, _Sample]) -> None:
    def watch(key: str) -> _Sample:
        return found.setdefault(key, _Sample(len(found)))

    execution.watching = watch
