"""The real quality of one subnetwork: extract, recalibrate on training data, run on a split."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.data import IMAGES, DataSource, Split, lay_channels_last
from supernet.data.memory import count_in_bytes
from supernet.errors import InputError
from supernet.precision.equalisation import equalise_network
from supernet.quality.batch_statistics import recalibrate
from supernet.quality.class_balance import compute_balanced_accuracy
from supernet.quality.sampling_error import (
    Z_TWO_SIDED_95,
    compute_standard_error,
    compute_wilson_interval,
    count_independent_answers,
)
from supernet.quantization.calibration import (
    DEFAULT_ESTIMATOR,
    calibrate_ranges,
    correct_biases,
    fit_weight_steps,
)
from supernet.quantization.execution import Execution, find_execution
from supernet.quantization.folding import fold_normalization
from supernet.space import Architecture
from supernet.supernet import Supernet

CALIBRATION_SAMPLES = 1024
# Training samples that ranges of activations are estimated on (EQ-Net starts from 256).
RANGE_SAMPLES = 256
KEPT_BYTES = 1 << 30
# Most bytes of images that are resized at once.
RESIZED_BYTES = 1 << 26
# Numbers in a batch of images so large that 32 of them would be more.
LARGE_BATCH = 1 << 24


# Inputs as the network takes them, and targets.
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Evaluation:
    """A measured quality with its 95 % interval.

    Args:
        objective: ``"accuracy"`` or ``"loss"``.
        unit: ``"fraction"`` or ``"nats/token"``.
        value: The measurement.
        low: Lower end of the 95 % interval: Wilson's for accuracy, normal for loss; wider where
            samples come in groups, which are what it then counts as independent.
        high: Upper end of the interval.
        split: The split that was run.
        samples: Images, or windows of text.
        calibration_samples: Training samples behind the normalisation statistics; 0 when the
            network needs none.
        seconds: Time of extraction, recalibration and run.
        balanced: Mean accuracy over the classes; ``None`` for a loss.
    """

    objective: str
    unit: str
    value: float
    low: float
    high: float
    split: str
    samples: int
    calibration_samples: int
    seconds: float
    balanced: float | None = None


class BatchCache:
    """Batches as networks take them, made once per input size and kept where they are used.

    Networks of one input size see the same calibration and validation batches, so choosing,
    moving, resizing and laying them out is done for the first of them only. The values are the
    same to the last bit with and without.

    Args:
        limit: Most bytes to keep; the batches that were used longest ago go first, and a set of
            batches that alone is larger is made anew each time, one batch at a time.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.limit = limit
        self.bytes = 0
        self._kept: OrderedDict[tuple[object, ...], list[Batch]] = OrderedDict()

    def fetch(
        self, key: tuple[object, ...], size: int, make: Callable[[], Iterable[Batch]]
    ) -> Iterable[Batch]:
        """Fetch the batches of a key; ``make`` gives them when they are not here.

        Args:
            key: Everything the batches depend on.
            size: Bytes they take.
            make: Gives the same batches every time.
        """
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        if size > self.limit:
            return make()
        while self.bytes + size > self.limit:
            _, dropped = self._kept.popitem(last=False)
            self.bytes -= _count_bytes(dropped)
        made = list(make())
        self._kept[key] = made
        self.bytes += _count_bytes(made)
        return made


class StatisticsCache:
    """Normalisation statistics of networks recalibrated before, for judging them again.

    A network that was chosen on one split and is verified on another needs no second recalibration.
    Belongs to one supernet with one set of weights: make a new one when these change.

    Args:
        limit: Most bytes to keep; networks that were used longest ago go first.
    """

    def __init__(self, limit: int = KEPT_BYTES // 8) -> None:
        self.limit = limit
        self.bytes = 0
        self._kept: OrderedDict[tuple[object, ...], dict[str, Tensor]] = OrderedDict()

    def restore(self, key: tuple[object, ...], model: nn.Module) -> bool:
        """Give an extracted network what is kept under a key; ``False`` when that is nothing."""
        # Normalisation of networks in integers is folded away; they are recalibrated every time.
        found = self._kept.get(key)
        if found is None or find_execution(model) is not None:
            return False
        self._kept.move_to_end(key)
        for name, buffer in _find_statistics(model).items():
            buffer.copy_(found[name])
        return True

    def keep(self, key: tuple[object, ...], model: nn.Module) -> None:
        """Remember the statistics of a recalibrated network."""
        if find_execution(model) is not None:
            return
        kept = {name: buffer.detach().clone() for name, buffer in _find_statistics(model).items()}
        self._kept[key] = kept
        self.bytes += sum(tensor.nbytes for tensor in kept.values())
        while self.bytes > self.limit:
            _, dropped = self._kept.popitem(last=False)
            self.bytes -= sum(tensor.nbytes for tensor in dropped.values())


def _find_statistics(model: nn.Module) -> dict[str, Tensor]:
    layers = {n: m for n, m in model.named_modules() if isinstance(m, _BatchNorm)}
    return {f"{n}.{name}": b for n, m in layers.items() for name, b in m.named_buffers()}


def evaluate(
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    split: str = "val",
    *,
    calibration_samples: int = CALIBRATION_SAMPLES,
    batch_size: int | None = None,
    cache: BatchCache | None = None,
    estimator: str = DEFAULT_ESTIMATOR,
) -> Evaluation:
    """Evaluate a subnetwork with inherited weights.

    The result depends on nothing but the arguments: the supernet is not touched, and calibration
    uses the same training samples every time.

    Args:
        supernet: Holds the weights; runs on the device its parameters are on.
        architecture: The subnetwork to evaluate.
        data: Where splits and calibration samples come from.
        split: ``"val"`` to choose, ``"test"`` once to verify, ``"train"`` to diagnose.
        calibration_samples: Training samples for normalisation statistics.
        batch_size: Samples at a time; by default as many as fit comfortably.
        cache: Keeps batches from one architecture to the next; the values stay the same.
        estimator: How ranges follow from the values of activations, where units compute in
            integers.

    Raises:
        InputError: Unknown split, or an architecture of another space.
    """
    return evaluate_scored(
        supernet,
        architecture,
        data,
        split,
        calibration_samples=calibration_samples,
        batch_size=batch_size,
        cache=cache,
        estimator=estimator,
    )[0]


def evaluate_scored(
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    split: str = "val",
    *,
    calibration_samples: int = CALIBRATION_SAMPLES,
    batch_size: int | None = None,
    cache: BatchCache | None = None,
    estimator: str = DEFAULT_ESTIMATOR,
) -> tuple[Evaluation, NDArray[np.float64]]:
    """Evaluate a subnetwork as :func:`evaluate` does, and keep its scores of single samples.

    Returns:
        The evaluation, and what :func:`score_samples` gave, ``(samples,)``.

    Raises:
        InputError: Unknown split, or an architecture of another space.
    """
    began = time.perf_counter()
    # The network is thrown away afterwards; one that is kept must not see this mode, since what a
    # module remembers of such a forward pass could never be trained.
    with torch.inference_mode(), ExitStack() as stack:
        model = supernet.extract(architecture)
        execution = find_execution(model)
        if execution is not None:
            # Scoring takes the weights that ranges were calibrated with.
            stack.enter_context(execution.unchanged_weights())
        used = recalibrate_extracted(
            model,
            supernet,
            architecture,
            data,
            calibration_samples,
            batch_size=batch_size,
            cache=cache,
            estimator=estimator,
        )
        values = score_samples(
            model, supernet, architecture, data, split, batch_size=batch_size, cache=cache
        )
    seconds = time.perf_counter() - began
    found = summarise_scores(values, data.shape.task, split, used, seconds, data.split(split))
    return found, values


def summarise_scores(
    scores: NDArray[np.float64],
    task: str,
    split: str,
    calibration_samples: int,
    seconds: float,
    samples: Split | None = None,
) -> Evaluation:
    """Summarise the scores ``(samples,)`` of :func:`score_samples` as an evaluation.

    Args:
        scores: In the order of the split.
        task: Task of the data.
        split: Name of the split.
        calibration_samples: Training samples behind the normalisation statistics.
        seconds: That it took.
        samples: The split itself, for the balanced accuracy and groups of samples.
    """
    value, balanced = float(scores.mean()), None
    groups = None if samples is None else samples.groups
    if task == IMAGES:
        objective, unit = "accuracy", "fraction"
        low, high = compute_wilson_interval(value, count_independent_answers(scores, groups))
        if samples is not None:
            balanced = compute_balanced_accuracy(scores, samples.targets)
    else:
        objective, unit = "loss", "nats/token"
        half = Z_TWO_SIDED_95 * compute_standard_error(scores, groups)
        # No loss is below 0, however few samples there are and however far they lie apart.
        low, high = max(0.0, value - half), value + half
    return Evaluation(
        objective,
        unit,
        value,
        low,
        high,
        split,
        len(scores),
        calibration_samples,
        seconds,
        balanced,
    )


def score_samples(
    model: nn.Module,
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    split: str,
    *,
    batch_size: int | None = None,
    cache: BatchCache | None = None,
    rows: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """Score the samples of a split by an extracted network, in the order of the split.

    Args:
        model: ``supernet.extract(architecture)``, recalibrated.
        supernet: Knows the architecture's input size.
        architecture: The architecture that the model is.
        data: Where the split comes from.
        split: ``"train"``, ``"val"`` or ``"test"``.
        batch_size: Samples at a time; by default as many as fit comfortably.
        cache: Keeps batches from one architecture to the next.
        rows: Only these samples, in this order.

    Returns:
        Shape ``(samples,)``: 1 or 0 for a right or wrong class, or a window's mean loss in nats
        per token; NaN where the network's outputs are no numbers.

    Raises:
        InputError: Unknown split.
    """
    task = data.shape.task
    return run_samples(
        model,
        supernet,
        architecture,
        data,
        split,
        lambda inputs, targets: _score_batch(model, inputs, targets, task),
        batch_size=batch_size,
        cache=cache,
        rows=rows,
    )


def run_samples(
    model: nn.Module,
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    split: str,
    score: Callable[[Tensor, Tensor], Tensor],
    *,
    batch_size: int | None = None,
    cache: BatchCache | None = None,
    rows: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """Run an extracted network on the samples of a split, as :func:`score_samples` does.

    Args:
        model: ``supernet.extract(architecture)``, recalibrated; ``score`` runs it.
        supernet: Knows the architecture's input size.
        architecture: The architecture that the model is.
        data: Where the split comes from.
        split: ``"train"``, ``"val"`` or ``"test"``.
        score: Gives numbers of the samples of a batch, ``(N, ...)``, from inputs and targets.
        batch_size: Samples at a time; by default as many as fit comfortably.
        cache: Keeps batches from one architecture to the next.
        rows: Only these samples, in this order.

    Returns:
        The numbers ``(samples, ...)``, in the order of the split.

    Raises:
        InputError: Unknown split.
    """
    size = batch_size or choose_batch_size(supernet, architecture)
    chosen = None if rows is None else np.asarray(rows, dtype=np.int64)
    which = None if chosen is None else chosen.tobytes()
    batches = _prepare_batches(
        supernet,
        architecture,
        data.split(split),
        chosen,
        size,
        (data.fingerprint, split, which),
        cache,
    )
    execution = find_execution(model)
    kept = nullcontext() if execution is None else execution.unchanged_weights()
    with torch.no_grad(), kept:
        scores = [score(*batch) for batch in batches]
    values: NDArray[np.float64] = torch.cat(scores).double().cpu().numpy()
    return values


def recalibrate_extracted(
    model: nn.Module,
    supernet: Supernet,
    architecture: Architecture,
    data: DataSource,
    samples: int = CALIBRATION_SAMPLES,
    *,
    batch_size: int | None = None,
    cache: BatchCache | None = None,
    statistics: StatisticsCache | None = None,
    estimator: str = DEFAULT_ESTIMATOR,
    corrections: bool = True,
) -> int:
    """Recalibrate an extracted network on a fixed part of the training split; eval mode after.

    Normalisation comes first, while weights are rounded already; where units compute in integers
    it is then folded into their convolutions, and last come the ranges of activations.

    Args:
        model: ``supernet.extract(architecture)``; changed in place.
        supernet: Knows the architecture's input size.
        architecture: The architecture that the model is.
        data: The data whose training split is used, without augmentation.
        samples: Training samples to use, at most.
        batch_size: Samples at a time, for images at least two of them; the last, smaller batch is
            left out.
        cache: Keeps batches from one architecture to the next.
        statistics: Keeps what recalibration found, for the next time of the same architecture.
        estimator: How ranges follow from the values of activations, one of
            :data:`supernet.quantization.calibration.ESTIMATORS`.
        corrections: Equalise and correct layers whose weights have one scale for all channels.

    Returns:
        How many samples were used; 0 when the network has nothing to estimate.

    Raises:
        InputError: The training split has a single image, which has no statistics, or samples of
            another shape; or ranges are needed, and the samples are constant or activations not
            finite.
    """
    model.eval()
    execution = find_execution(model)
    normalizes = any(isinstance(m, _BatchNorm) for m in model.modules())
    if not normalizes and execution is None:
        return 0
    _check_samples(supernet, data)
    # The same rows whatever the run's seed, spread over the split.
    rows = np.random.default_rng(0).permutation(len(data.train))[:samples]
    # The variance of one image is that of its own pixels, and none where a layer has one of them.
    fewest = 2 if len(supernet.inputs.shape) > 1 else 1
    if len(rows) < fewest:
        raise InputError(
            f"the training split of {data.spec} is too small ({len(rows)} of at least "
            f"{fewest} images) for the statistics of batch normalisation"
        )
    size = min(max(fewest, batch_size or choose_batch_size(supernet, architecture)), len(rows))
    whole = len(rows) // size * size
    ours = (data.fingerprint, "calibration", samples, size, architecture.digest, estimator)
    if statistics is not None and statistics.restore(ours, model):
        return whole

    def prepare(count: int) -> Iterable[Batch]:
        key = (data.fingerprint, "calibration", samples, count)
        return _prepare_batches(supernet, architecture, data.train, rows[:count], size, key, cache)

    if execution is not None:
        fit_weight_steps(model, execution)
    if normalizes:
        with ExitStack() as stack:
            if execution is not None:
                stack.enter_context(execution.unchanged_weights())
                stack.enter_context(execution.rounding_for_statistics())
            recalibrate(model, (inputs for inputs, _ in prepare(whole)))
    if execution is not None:
        # Some rows are enough for ranges: they are of every pixel of every channel.
        ranged = min(whole, max(size, RANGE_SAMPLES // size * size))
        inputs = [batch for batch, _ in prepare(ranged)]
        round_activations(model, execution, inputs, estimator, corrections)
    if statistics is not None:
        statistics.keep(ours, model)
    return whole


def _check_samples(supernet: Supernet, data: DataSource) -> None:
    """InputError unless the samples of some data are of the kind that a network takes."""
    theirs, ours = tuple(data.train.inputs.shape[1:]), supernet.inputs.shape
    # Images are resized; channels and lengths of text cannot be.
    if len(theirs) != len(ours) or theirs[0] != ours[0]:
        raise InputError(
            f"the samples of {data.spec} have shape {theirs}, and this network takes {ours}; "
            "calibrate it with data of that kind"
        )


def round_activations(
    model: nn.Module,
    execution: Execution,
    batches: Sequence[Tensor],
    estimator: str,
    corrections: bool = True,
) -> None:
    """Fold normalisation and find the ranges that no training has found; in place.

    Weights that share one scale are equalised before and their biases corrected after.

    Args:
        model: Extracted, in eval mode, its normalisation recalibrated.
        execution: Its number formats.
        batches: Calibration inputs as the network takes them.
        estimator: One of :data:`supernet.quantization.calibration.ESTIMATORS`.
        corrections: Equalise and correct layers whose weights have one scale for all channels.

    Raises:
        InputError: Ranges are needed, and the inputs are constant or activations not finite.
    """
    fold_normalization(model, execution, batches[0][:1])
    corrections = corrections and not execution.trained
    if corrections:
        equalise_network(model, execution, batches[0][:1])
    trained = {f"{key}@{state.bits}" in execution.ranges for key, state in execution.limits.items()}
    if trained != {True}:
        low = min(float(inputs.min()) for inputs in batches)
        if all(bool((inputs == low).all()) for inputs in batches):
            raise InputError(
                f"every entry of the calibration samples is {low:g}: no range of activations "
                "follows from constant data; calibrate with samples of the kind that the network "
                "will see"
            )
        calibrate_ranges(model, execution, batches, estimator)
    if corrections:
        correct_biases(model, execution, batches)
    execution.fix_ranges()


def choose_batch_size(supernet: Supernet, architecture: Architecture) -> int:
    """Choose how many samples run at once in a few hundred megabytes."""
    shape = supernet.input_shape(architecture)
    if len(shape) == 1:
        return max(1, 4096 // shape[0])
    numbers = math.prod(shape)
    # A mobile network's widest activations are some 30 times its input pixels.
    return max(min(32, max(2, LARGE_BATCH // numbers)), min(256, (1 << 21) // numbers))


def _prepare_batches(
    supernet: Supernet,
    architecture: Architecture,
    split: Split,
    rows: NDArray[np.integer] | None,
    size: int,
    key: tuple[object, ...],
    cache: BatchCache | None,
) -> Iterable[Batch]:
    """The samples ``rows`` of a split (``None``: all), ``size`` at a time, ready for a network."""
    device = next(supernet.parameters()).device
    count = len(split) if rows is None else len(rows)
    # Of images that are much larger than the network takes, a whole batch would not fit.
    most = count_in_bytes(split.inputs, RESIZED_BYTES, supernet.inputs.dtype.itemsize)

    def prepare(part: slice) -> Batch:
        index = part if rows is None else torch.from_numpy(rows[part].copy())
        inputs, targets = split.batch(index, device)
        return supernet.prepare(inputs, architecture), targets

    def make() -> Iterator[Batch]:
        for start in range(0, count, size):
            end = min(start + size, count)
            parts = [prepare(slice(i, min(i + most, end))) for i in range(start, end, most)]
            inputs, targets = parts[0]
            if len(parts) > 1:
                inputs, targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
            yield lay_channels_last(inputs), targets

    if cache is None:
        return make()
    shape = supernet.input_shape(architecture)
    numbers = count * (math.prod(shape) * supernet.inputs.dtype.itemsize)
    numbers += count * split.targets[0].numel() * split.targets.dtype.itemsize
    return cache.fetch((*key, shape, size, device), numbers, make)


def _count_bytes(batches: Iterable[Batch]) -> int:
    return sum(tensor.nbytes for batch in batches for tensor in batch)


def _score_batch(model: nn.Module, inputs: Tensor, targets: Tensor, task: str) -> Tensor:
    """Per sample: 1 or 0 for right or wrong; mean loss in nats per token of a window; or NaN."""
    logits = model(inputs).float()
    if task == IMAGES:
        # The largest of numbers that are none is the first class, which may even be right.
        undefined = logits.isnan().any(-1)
        return (logits.argmax(-1) == targets).float().masked_fill(undefined, math.nan)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(-1)
