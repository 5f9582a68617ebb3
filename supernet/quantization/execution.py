"""Running a network's own forward in number formats: what the runtime does, imitated.

A network in integers rounds where the runtime rounds: not after every operator but after every
*piece*. A convolution, its normalisation and its ReLU are one piece; the runtime multiplies and
adds in 32 bits, and rounds once to 8. Which operators form a piece with what came before shows
only when the result is read, so that is when tensors are rounded here: an operator that ends a
piece leaves its result *pending*, and the first reader rounds it, for all readers.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily
from torch.utils.hooks import RemovableHandle

from supernet.quantization.affine import Affine, Layer, WeightAffine
from supernet.quantization.formats import FP32, Format
from supernet.quantization.functions import find_channel_step, quantize, quantize_weights
from supernet.quantization.quantizers import (
    anchored_step,
    count_steps_to_bend,
    learned_zero_point,
    limited_step,
    positive_step,
)
from supernet.quantization.ranges import choose_affine, choose_anchored, may_be_anchored
from supernet.quantization.rules import LOOKS, RULES, writes_in_place
from supernet.quantization.running import Running
from supernet.quantization.tracking import (
    CONVOLUTION,
    ELEMENTWISE,
    PRODUCT,
    State,
    find_layer,
    find_state,
    is_map,
    list_tensors,
    map_tensors,
    mark,
    name_layer,
    unmark,
)


class Estimator(Protocol):
    """What watches the values of one tensor during calibration."""

    def observe(self, values: Tensor) -> None:
        """Take in values of any shape."""
        ...


@dataclass(eq=False)
class Execution(TorchFunctionMode):
    """The number formats of one subnetwork, and the quantizers of its tensors.

    Args:
        formats: Format of each unit that does not compute in float, by module path.
        per_layer: Units are single layers, so that what lies between two of them belongs to both.
        steps: Trained steps of weights, by ``LAYER@BITS``.
        ranges: Trained scale and zero point of activations, ``(2,)``, by ``KEY@BITS``.
        fitted: Steps of weights that calibration has found, by ``LAYER@BITS``; they come first.
        calibrated: Quantizers that calibration has found, by key.
        watching: Gives the estimator of a key while ranges are calibrated; activations stay float.
        limits: What was last known of the tensor of each key.
        layers: What each layer that multiplies integers has: weight, bias, name of its inputs.
        folds: Where it is noted who reads what convolutions give, likewise: weight of the
            convolution, and running mean of the normalisation that reads it; ``None`` for anything
            else in either place.
        convolve: What convolutions are computed with.
        kept: Weights rounded so far, by layer, while they are known not to change.
        weights_only: Activations without a trained range stay in float for now.
        running: Where each thread is in the network. Threads may run it at once as long as none
            changes what it is: calibration, training and the contexts here are for one alone.
        names: Layer that each parameter belongs to, by its path, for copies of the network.
    """

    formats: dict[str, Format]
    per_layer: bool = False
    steps: Mapping[str, Tensor] = field(default_factory=dict)
    ranges: Mapping[str, Tensor] = field(default_factory=dict)
    fitted: dict[str, Tensor] = field(default_factory=dict)
    calibrated: dict[str, Affine] = field(default_factory=dict)
    watching: Callable[[str], Estimator] | None = None
    limits: dict[str, State] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    folds: list[tuple[Tensor | None, Tensor | None]] | None = None
    convolve: Callable[..., Tensor] = torch.conv2d
    kept: dict[str, WeightAffine] | None = None
    weights_only: bool = False
    running: Running = field(default_factory=Running)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        TorchFunctionMode.__init__(self)

    def __getstate__(self) -> dict[str, Any]:
        # Weights of a copy may change while those of the original must not.
        return {**self.__dict__, "kept": None, "watching": None, "folds": None}

    # -- where it is in the network ---------------------------------------------------------------

    @property
    def unit(self) -> str:
        """Path of the innermost unit that this thread runs."""
        return self.running.unit

    @property
    def format(self) -> Format:
        """Its format."""
        return self.running.format

    def attach(self, network: nn.Module) -> None:
        """Let a network compute in its formats from now on, whether as a whole or unit by unit."""
        network.__dict__["execution"] = self
        network.__dict__["forward"] = _Interruptible(self, network)
        self.names = {name: find_layer(p) for name, p in network.named_parameters()}
        modules = dict(network.named_modules())
        self.guard({path: modules[path] for path in ("", *self.formats)})

    def guard(self, modules: Mapping[str, nn.Module]) -> list[RemovableHandle]:
        """Let modules compute in the formats of their paths wherever they run.

        Args:
            modules: By path; ``""`` is the network as a whole.

        Returns:
            What takes the hooks away that see to it.
        """
        handles: list[RemovableHandle] = []
        for path, module in modules.items():
            guard = _Guard(self, path)
            handles.append(module.register_forward_pre_hook(guard.enter, with_kwargs=True))
            handles.append(module.register_forward_hook(guard.leave, always_call=True))
        return handles

    def enter_unit(self, path: str) -> None:
        """Note that a unit, or the whole network, begins to run."""
        now = self.running
        now.outer.append((now.unit, now.format))
        if path in self.formats:
            now.unit, now.format = path, self.formats[path]
        if now.depth == 0:
            self.__enter__()
        now.depth += 1

    def leave_unit(self) -> None:
        """Note that it has run."""
        now = self.running
        now.unit, now.format = now.outer.pop()
        now.depth -= 1
        if now.depth == 0:
            self.__exit__(None, None, None)
            self._forget_tensors()

    def abandon(self) -> None:
        """Leave the network and all units that are running, of which none will say so itself."""
        if self.running.depth:
            self.running.rewind()
            self.__exit__(None, None, None)
            self._forget_tensors()

    def _forget_tensors(self) -> None:
        # Inputs outlive the run, and the next network rounds them in its own way.
        now = self.running
        for tensor in now.guests:
            unmark(tensor)
        # A tensor that knows what was computed from it would keep itself alive.
        for reference in now.shared:
            state = reference()
            if state is not None:
                state.rounded = state.saturated = None
        now.guests.clear()
        now.shared.clear()
        now.written.clear()
        now.anchored.clear()

    def restore_names(self, module: nn.Module, path: str) -> None:
        """Name the weights of a copied network, which know their layers no more.

        Args:
            module: The network, or a unit that runs alone.
            path: Its path.
        """
        named = module.named_parameters(prefix=path)
        known = ((p, self.names[name]) for name, p in named if self.names.get(name))
        first = next(known, None)
        if first is None or find_layer(first[0]) == first[1]:
            return
        for parameter, layer in (first, *known):
            name_layer(parameter, layer)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Compute everything in float inside."""
        formats, self.formats = self.formats, {}
        try:
            yield
        finally:
            self.formats = formats

    @contextmanager
    def unchanged_weights(self) -> Iterator[None]:
        """Round every weight once inside, where weights and their steps must not change.

        Whoever changes some nevertheless calls :meth:`forget_rounded`. Inside of another such
        context what was rounded there is known already.
        """
        outer = self.kept
        self.kept = {} if outer is None else outer
        try:
            yield
        finally:
            self.kept = outer

    def forget_rounded(self) -> None:
        """Round weights anew, because they or their steps have changed."""
        if self.kept is not None:
            self.kept.clear()

    @contextmanager
    def rounding_for_statistics(self) -> Iterator[None]:
        """Round inside only what normalisation can make up for, and what training has found.

        Those are weights with a scale per channel, whose integers stay as they are when
        normalisation is folded into them. Activations stay in float.
        """
        formats = self.formats
        if not self.trained:
            self.formats = {p: f for p, f in formats.items() if f.granularity != "tensor"}
        self.weights_only = True
        try:
            yield
        finally:
            self.formats, self.weights_only = formats, False

    @property
    def trained(self) -> bool:
        """Whether any step or range was trained, and so belongs to the weights as they are."""
        return bool(self.steps) or bool(self.ranges)

    def find_format(self, path: str) -> Format:
        """Find the format of a module by its path: that of the unit it is in."""
        for unit, form in self.formats.items():
            if not unit or f"{path}.".startswith(f"{unit}."):
                return form
        return FP32

    def name_precision(self, unit: str) -> str:
        """Name the formats of a unit and its layers, in the order of the network."""
        inside = [f.name for p, f in self.formats.items() if p == unit or p.startswith(f"{unit}.")]
        return "+".join(inside) or FP32.name

    # -- rounding ---------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        written = self.running.written
        if written:
            args, kwargs = map_tensors(self.find_written, (args, kwargs))
        handler = RULES.get(func)
        if handler is not None:
            out = handler(self, func, *args, **kwargs)
        elif getattr(func, "__name__", "") in LOOKS:
            return func(*args, **kwargs)
        else:
            out = self.run_float(func, args, kwargs)
        if writes_in_place(func, args, kwargs):
            now = out if isinstance(out, Tensor) else self.settle(args[0])
            if now is not args[0]:
                written[id(args[0])] = args[0], now
        return out

    def find_written(self, tensor: Tensor) -> Tensor:
        """Find what is in a tensor now, if the network has overwritten it."""
        return self.running.written.get(id(tensor), (tensor, tensor))[1]

    def run_float(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operator in float: what it reads is rounded where integers were pending."""
        read = map_tensors(self.settle, args), map_tensors(self.settle, kwargs)
        out = func(*read[0], **read[1])
        if writes_in_place(func, args, kwargs):
            # Whatever is in it now has levels no more.
            unmark(read[0][0])
        return out

    def reads_integers(self, *tensors: object) -> bool:
        """Whether an operator runs in integers: its unit does, and all that it reads can be."""
        if not (self.format.quantizes_activations or self.per_layer):
            return False
        states = [find_state(tensor) for tensor in tensors]
        return all(
            s is not None
            and (
                s.affine is not None
                or s.rounded is not None
                or s.kind in (CONVOLUTION, ELEMENTWISE)
            )
            for s in states
        )

    def settle(self, tensor: Tensor) -> Tensor:
        """Give a float operator what it reads; only products are read before they are rounded."""
        state = find_state(tensor)
        if state is None or not state.kind or state.kind == PRODUCT:
            return tensor
        return self.take(tensor, "")

    def take(self, tensor: Tensor, reader: str) -> Tensor:
        """Give an integer operator what it reads, rounded once for all readers.

        Args:
            tensor: What it reads.
            reader: Name of the reading layer, after which a tensor is named that has no name yet.
        """
        state = find_state(tensor)
        if state is None:
            state = State(f"{reader}/input", bits=self.format.activation_bits)
            mark(tensor, state)
            self.running.guests.append(tensor)
        if state.affine is not None:
            return tensor
        self.note_read(state)
        if state.rounded is None:
            # Hard swish, of this tensor or of a copy, has left its readers nothing below -3.
            known = self.running.anchored.setdefault(state.key, False)
            # What a unit passes on is also read when it has run.
            lost = known or state.saturated is not None
            own = replace(state, key=f"{state.key}/whole") if lost else state
            state.rounded = self._make_rounded(tensor, own, state)
        return state.rounded

    def take_for_hard_swish(self, tensor: Tensor) -> Tensor:
        """Give hard swish what it reads: of its own, with levels from -3 up, where that may be.

        As with a ReLU in front of a quantizer, what hard swish makes 0 is lost by saturating. It is
        so where nobody has rounded the tensor before, nor a copy of it, the range is not given by
        an activation, and levels are fine enough. Whoever reads the tensor later rounds it in
        another way, under another name, even where levels turn out to be too coarse: names must not
        depend on values.

        Args:
            tensor: What it reads, of which something is known.
        """
        state = find_state(tensor)
        assert state is not None
        bounded = state.lowest > -math.inf or state.highest < math.inf
        # With few levels a step that divides 3 may be far from the best, and no runtime gains.
        if bounded or state.affine is not None or state.rounded is not None or state.bits < 8:
            return self.take(tensor, "")
        self.note_read(state)
        if state.saturated is None:
            if not self.running.anchored.setdefault(state.key, True):
                return self.take(tensor, "")
            state.saturated = self._make_rounded(tensor, replace(state, anchored=True), state)
        return state.saturated

    def _make_rounded(self, tensor: Tensor, own: State, state: State) -> Tensor:
        """Round a pending tensor by what is known of it; its state will hold the result."""
        affine = self.find_affine(tensor, own)
        rounded = self._round(tensor, affine)
        mark(rounded, State(own.key, "", own.bits, own.lowest, own.highest, affine))
        if rounded.requires_grad:
            self.running.shared.append(weakref.ref(state))
        return rounded

    def _round(self, tensor: Tensor, affine: Affine) -> Tensor:
        if affine.scale is None and not tensor.is_meta:
            # Strides stay, by which kernels choose their layout.
            return tensor.detach()
        return quantize(tensor, affine)

    @property
    def looks_only(self) -> bool:
        """Whether only the order of layers matters, so that nothing has to be rounded."""
        return self.folds is not None

    def find_affine(self, tensor: Tensor, state: State) -> Affine:
        """Find the quantizer of a tensor: trained, calibrated, or from the values themselves."""
        if self.looks_only:
            return Affine(state.key, None, None, state.bits)
        self.limits[state.key] = replace(state, rounded=None, source=None, saturated=None)
        if self.watching is not None:
            values = tensor.detach()
            # What hard swish makes 0 must not move the ends of the others' range.
            self.watching(state.key).observe(values.clamp(min=-3) if state.anchored else values)
            return Affine(state.key, None, None, state.bits)
        trained = self.ranges.get(f"{state.key}@{state.bits}")
        if trained is not None and not tensor.is_meta:
            return self._find_trained(trained, state)
        if self.weights_only:
            return Affine(state.key, None, None, state.bits)
        known = self.calibrated.get(state.key)
        if known is not None or tensor.is_meta:
            return known or Affine(state.key, None, None, state.bits, anchored=state.anchored)
        low, high = (float(v) for v in torch.aminmax(tensor.detach()))
        if not math.isfinite(low) or not math.isfinite(high):
            # Whoever reads the result, such as a training loop, has a better word for it.
            low = high = 0.0
        return make_affine(state, low, high, tensor)

    def _find_trained(self, trained: Tensor, state: State) -> Affine:
        """A trained step and offset, within what the operators before make possible."""
        step, offset = trained.unbind()
        high = 2**state.bits - 1
        scale = positive_step(step)
        if state.anchored:
            # At least 0, without a trap below.
            top = -limited_step(-(scale * high + offset), 0.0)
            if may_be_anchored(float(offset.detach()), float(top.detach())):
                # The upper end is that of the learned range, in whatever way it is quantized. Zero
                # points have a gradient, too, with which saturated values remain at -3.
                scale = anchored_step((top + 3) / high)
                anchor = torch.full_like(offset, -3.0)
                zero_point = count_steps_to_bend(scale.detach())
                moving = learned_zero_point(anchor, scale, 0, high)
                zero_point = zero_point + (moving - moving.detach())
                return Affine(state.key, scale, zero_point, state.bits, learned=True, anchored=True)
        if state.highest < math.inf:
            # The quantizer clips in the place of the activation, so it must not reach further.
            scale = limited_step(scale, state.highest / high)
        zero_point = offset.detach() * 0
        if state.lowest < 0:
            zero_point = learned_zero_point(offset, scale, 0, high)
        return Affine(state.key, scale, zero_point, state.bits, learned=True)

    def fix_ranges(self) -> None:
        """Take trained quantizers of activations as they are, like calibrated ones.

        For a network that is not trained any more, whose tensors have all been met.
        """
        for key, state in self.limits.items():
            trained = self.ranges.get(f"{key}@{state.bits}")
            if trained is not None:
                found = self._find_trained(trained.detach(), state)
                self.calibrated[key] = replace(found, learned=False)
        self.ranges = {}

    def find_step(self, layer: str, form: Format) -> Tensor | None:
        """Trained or fitted steps of a layer's weight at a format, if there are any."""
        key = f"{layer}@{form.weight_bits}"
        found = self.fitted.get(key)
        if found is None and form.learns_steps:
            found = self.steps.get(key)
        # Channels of several blocks come as (blocks, size).
        return found.reshape(-1) if found is not None and found.dim() > 1 else found

    def note_read(self, state: State, mean: Tensor | None = None) -> None:
        """Note that somebody reads a tensor; ``mean`` is that of a normalisation that does."""
        if self.folds is not None and (state.source is not None or mean is not None):
            self.folds.append((state.source, mean))

    def note_layer(self, layer: Layer) -> None:
        """Note what a layer multiplies, for those who look at networks as a whole."""
        if self.watching is not None:
            self.layers[layer.affine.layer] = layer

    def describe_weight(self, weight: Tensor, reader: str) -> WeightAffine:
        """Describe how a layer's weight is quantized in the unit that runs."""
        affine = WeightAffine(reader, self.format, self.find_step(reader, self.format))
        if self.kept is None or self.looks_only or weight.is_meta:
            return affine
        if reader not in self.kept:
            self.kept[reader] = replace(
                affine,
                rounded=quantize_weights(weight, affine),
                channel_step=find_channel_step(weight, affine),
            )
        return self.kept[reader]


def make_affine(state: State, low: float, high: float, like: Tensor) -> Affine:
    """Make the quantizer of a range of values, within the limits that a tensor is known to have."""
    low = max(low, state.lowest)
    high = min(high, state.highest)
    levels, anchored = 2**state.bits - 1, state.anchored and may_be_anchored(low, high)
    scale, zero_point = (
        choose_anchored(high, levels) if anchored else choose_affine(low, high, levels)
    )
    values = (scale, zero_point)
    tensors = [torch.tensor(float(v), dtype=like.dtype, device=like.device) for v in values]
    return Affine(state.key, tensors[0], tensors[1], state.bits, anchored=anchored)


class _Guard:
    """The hooks of one module; an object, so that copies of the network copy it along."""

    def __init__(self, execution: Execution, path: str) -> None:
        self.execution, self.path = execution, path

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        run = self.execution
        if run.running.depth == 0:
            run.restore_names(module, self.path)
        run.enter_unit(self.path)
        if not run.formats or not self.path or run.per_layer:
            return None
        if not run.format.quantizes_activations:
            return None

        def round_maps(tensor: Tensor) -> Tensor:
            return run.take(tensor, self.path) if is_map(tensor) else tensor

        # Hooks run under the mode, whose own work is not part of the network.
        with _pop_mode_temporarily():
            return map_tensors(round_maps, args), map_tensors(round_maps, kwargs)

    def leave(self, module: nn.Module, args: Any, output: Any) -> Any:
        run = self.execution
        now = map_tensors(run.find_written, output) if run.running.written else None
        run.leave_unit()
        return now


class _Interruptible:
    """The forward of a network, after which its mode is over however it ends.

    Torch runs hooks after errors, and none after an interrupt from the keyboard. What the network
    gives is a tensor like any other: what is known of it means nothing to whoever reads it next.
    """

    def __init__(self, execution: Execution, network: nn.Module) -> None:
        self.execution, self.network = execution, network

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            output = type(self.network).forward(self.network, *args, **kwargs)
        except (KeyboardInterrupt, SystemExit):
            self.execution.abandon()
            raise
        for tensor in list_tensors(output):
            unmark(tensor)
            unmark(self.execution.find_written(tensor))
        return output


def find_execution(network: nn.Module) -> Execution | None:
    """Find the number formats that a network computes in; ``None`` where all of it is float."""
    found = network.__dict__.get("execution")
    return found if isinstance(found, Execution) else None
