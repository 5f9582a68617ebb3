"""Published tables of other people's measurements as search problems with a known truth."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from synthetic_ofa import ofa_space

from search.arrays.additive import AdditiveTerms
from supernet.space import Choice, SearchSpace

Rows = NDArray[np.int16]
Values = NDArray[np.float64]


def table(name: str) -> dict[str, NDArray[np.generic]] | None:
    """The arrays of ``bench/NAME`` in the shared data folder; ``None`` where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("SUPERNET_SHARED_DATA", beside))
    for path in (folder / "bench" / name, folder / "data" / "bench" / name):
        if path.is_file():
            with np.load(path) as arrays:
                return {key: arrays[key] for key in arrays.files}
    return None


# -- released Once-for-All subnetworks on ImageNet ------------------------------------------------


@dataclass(frozen=True)
class OfaTable:
    """Evaluated subnetworks of the released OFA-MobileNetV3, width 1.0, 224 pixels.

    Args:
        space: 45 choices: kernel and expand ratio of 20 blocks, depth of 5 stages.
        rows: ``(n, 45)`` in the order of evaluation, repeats included.
        top1: Measured accuracy in percent, ``(n,)``.
        macs: Millions of multiply-accumulates, ``(n,)``.
        params: Weights, ``(n,)``.
        run: Which published search a row comes from, ``(n,)``.
    """

    space: SearchSpace
    rows: Rows
    top1: Values
    macs: Values
    params: Values
    run: NDArray[np.str_]

    def distinct(self) -> tuple[Rows, Values, Values]:
        """Distinct rows ``(k, 45)``, their mean accuracy and their MACs in millions."""
        rows, inverse = np.unique(self.rows, axis=0, return_inverse=True)
        counts = np.bincount(inverse.ravel())
        mean = [np.bincount(inverse.ravel(), column) / counts for column in (self.top1, self.macs)]
        return rows, mean[0], mean[1]


def ofa_table() -> OfaTable | None:
    """The OFA accuracies, or ``None`` where the shared data is absent."""
    data = table("ofa_mbv3_imagenet_accuracy.npz")
    if data is None:
        return None
    space = ofa_space()
    legal = ((data["ks"], (3, 5, 7)), (data["e"], (3, 4, 6)), (data["d"], (2, 3, 4)))
    positions = [np.searchsorted(np.array(values), column) for column, values in legal]
    return OfaTable(
        space,
        space.canonical(np.concatenate(positions, axis=1).astype(np.int16)),
        data["top1"].astype(np.float64),
        data["macs"].astype(np.float64) / 1e6,
        data["params"].astype(np.float64),
        data["run"].astype(np.str_),
    )


def ofa_macs(data: OfaTable) -> AdditiveTerms:
    """Millions of MACs as a sum over (block, kernel, expand), solved from the published rows.

    Raises:
        ValueError: The rows are not additive to a millionth.
    """
    space = data.space
    groups = []
    for block in range(20):
        depth = space.choices[block].needs
        own = (block, 20 + block)
        groups.append(own if depth is None else (space.index(depth[0]), *own))
    shapes = [tuple(int(space.cardinalities[c]) for c in group) for group in groups]

    def feature(rows: Rows) -> NDArray[np.float64]:
        active = space.active(rows)
        columns = []
        for block in range(20):
            code = rows[:, block] * 3 + rows[:, 20 + block]
            columns.append(np.eye(9)[code] * active[:, block : block + 1])
        return np.concatenate((*columns, np.ones((len(rows), 1))), axis=1)

    weights, *_ = np.linalg.lstsq(feature(data.rows), data.macs, rcond=None)
    worst = np.abs(feature(data.rows) @ weights - data.macs).max()
    if worst > 1e-6:
        raise ValueError(f"MACs are not additive: the worst row is off by {worst:g} million")
    tables = []
    for block, shape in enumerate(shapes):
        own = weights[block * 9 : block * 9 + 9].reshape(3, 3)
        if len(shape) == 3:
            # The block exists from the depth it needs on.
            least = space.choices[block].needs
            assert least is not None
            present = np.arange(3) >= (2, 3, 4).index(int(least[1]))
            tables.append(np.where(present[:, None, None], own, 0.0))
        else:
            tables.append(own.copy())
    return AdditiveTerms(tuple(groups), tuple(tables), float(weights[-1]))


# -- NAS-Bench-201 and real devices ---------------------------------------------------------------


@dataclass(frozen=True)
class Nasbench201:
    """All cells of NAS-Bench-201: six edges of five operations.

    Args:
        space: Six choices.
        accuracy: Percent on the CIFAR-10 validation split by flat index, ``(15625,)``.
        latency_ms: By flat index and device, ``(15625, devices)``.
        devices: Names.
    """

    space: SearchSpace
    accuracy: Values
    latency_ms: Values
    devices: tuple[str, ...]

    def index(self, rows: Rows) -> NDArray[np.intp]:
        """Flat indices ``(n,)`` of rows ``(n, 6)``."""
        return np.ravel_multi_index(tuple(np.asarray(rows, np.intp).T), (5,) * 6)

    def lookup(self, column: Values) -> Callable[[Rows], Values]:
        """A column ``(15625,)`` as a function of rows."""
        return lambda rows: column[self.index(rows)]


def nasbench201() -> Nasbench201 | None:
    """NAS-Bench-201, or ``None`` where the shared data is absent."""
    data = table("nasbench201.npz")
    if data is None:
        return None
    operations = tuple(str(op) for op in data["ops"])
    edges = ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")
    space = SearchSpace(tuple(Choice(f"edge{e}", operations, "operation") for e in edges))
    order = np.ravel_multi_index(tuple(data["arch"].astype(np.intp).T), (5,) * 6)
    accuracy = np.empty(len(order))
    latency = np.empty(data["latency_ms"].shape)
    split = list(data["datasets"]).index("cifar10-val")
    accuracy[order] = data["accuracy"][:, split]
    latency[order] = data["latency_ms"]
    return Nasbench201(space, accuracy, latency, tuple(str(name) for name in data["devices"]))


_PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))  # edges of the four ways from input to output


def cell_statistics(rows: Rows) -> NDArray[np.float64]:
    """Path encoding of NAS-Bench-201 cells, ``(n, 24)``: what lies on each way through the cell.

    Cells with other genes but the same ways compute the same function; the genes alone hide it
    (path encodings: White et al., BANANAS, section 3). Per way whether it is open and how many
    3x3, 1x1 and pooling operations lie on it, then how many of each lie on open edges, the longest
    way in convolutions, and whether any way is open.
    """
    none, skip, conv1, conv3, pool = range(5)
    grid = np.asarray(rows)
    columns, used = [], np.zeros(grid.shape, dtype=bool)
    depth = np.zeros(len(grid))
    for path in _PATHS:
        ops = grid[:, path]
        open_ = (ops != none).all(axis=1)
        columns.append(open_.astype(float))
        columns.extend((ops == kind).sum(1) * open_ for kind in (conv3, conv1, pool))
        used[:, path] |= open_[:, None]
        depth = np.maximum(depth, ((ops == conv3) | (ops == conv1)).sum(1) * open_)
    columns.extend(((grid == kind) & used).sum(1) for kind in (conv3, conv1, pool, skip))
    # Edges that are never reached still cost time on most devices.
    columns.extend((grid == kind).sum(1) for kind in (conv3, conv1))
    columns.extend((depth, used.any(axis=1)))
    return np.stack(columns, axis=1).astype(np.float64)


# -- HW-GPT-Bench, small scale --------------------------------------------------------------------


@dataclass(frozen=True)
class HwGpt:
    """10,000 GPT subnetworks of a trained supernet with latencies and energies.

    Args:
        space: Width, depth, bias, and heads and MLP ratio of every layer.
        rows: ``(n, len(space))``, distinct.
        perplexity: ``(n,)``.
        params: ``(n,)``.
        latency_ms: Median by device, ``(n,)`` each.
        energy_kwh: By GPU, ``(n,)`` each.
    """

    space: SearchSpace
    rows: Rows
    perplexity: Values
    params: Values
    latency_ms: dict[str, Values]
    energy_kwh: dict[str, Values]

    def lookup(self, column: Values) -> Callable[[Rows], Values]:
        """A column ``(n,)`` as a function of rows; every row must be one of ``rows``."""
        place = {row.tobytes(): i for i, row in enumerate(self.rows)}
        return lambda rows: column[[place[row.tobytes()] for row in np.asarray(rows, np.int16)]]


def hw_gpt() -> HwGpt | None:
    """HW-GPT-Bench at its small scale, or ``None`` where the shared data is absent."""
    data = table("hwgpt_s.npz")
    if data is None:
        return None
    layers = data["n_head"].shape[1]
    legal = {
        name: tuple(int(v) for v in np.unique(data[name]))
        for name in ("embed_dim", "n_layer", "n_head", "mlp_ratio")
    }
    depth, least = legal["n_layer"], legal["n_layer"][0]
    choices = [
        Choice("embed_dim", legal["embed_dim"], "width"),
        Choice("n_layer", depth, "depth"),
        Choice("bias", (0, 1), "bias"),
    ]
    for kind, name in (("heads", "n_head"), ("expand", "mlp_ratio")):
        for layer in range(layers):
            needs = None if layer < least else ("n_layer", layer + 1)
            choices.append(Choice(f"layer{layer}.{kind}", legal[name], kind, needs))
    space = SearchSpace(tuple(choices))
    columns = [
        np.searchsorted(legal["embed_dim"], data["embed_dim"])[:, None],
        np.searchsorted(depth, data["n_layer"])[:, None],
        data["bias"].astype(np.int64)[:, None],
        np.searchsorted(legal["n_head"], np.maximum(data["n_head"], legal["n_head"][0])),
        np.searchsorted(legal["mlp_ratio"], np.maximum(data["mlp_ratio"], legal["mlp_ratio"][0])),
    ]
    rows = space.canonical(np.concatenate(columns, axis=1).astype(np.int16))
    _, first = np.unique(rows, axis=0, return_index=True)
    first = np.sort(first)

    def columns_of(names: str, values: str) -> dict[str, Values]:
        return {
            str(name): data[values][first, i].astype(np.float64)
            for i, name in enumerate(data[names])
        }

    return HwGpt(
        space,
        rows[first],
        data["perplexity"][first].astype(np.float64),
        data["params"][first].astype(np.float64),
        columns_of("latency_devices", "latency_ms_median"),
        columns_of("energy_devices", "energy_kwh_gpu"),
    )
