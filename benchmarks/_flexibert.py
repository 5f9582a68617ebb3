"""The 500 published FlexiBERT encoders as a search space with GLUE scores and proxies."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from supernet.space import Choice, SearchSpace

FILE = "flexibert_glue.npz"
# (kind of operation, its parameter) as stored, in the order of the choice's values.
OPERATIONS = {
    "sa-wma": (0, 0),
    "sa-sdp": (0, 2),
    "lt-dct": (1, 1),
    "lt-dft": (1, 3),
    "dsc-5": (2, 5),
    "dsc-9": (2, 4),
}


@dataclass(frozen=True)
class FlexiBert:
    """Encoders trained alone (FlexiBERT; scores and proxies of Serianni and Kalita 2023).

    Args:
        space: Hidden size, depth and, for each of four layers, operation, heads and FFN.
        rows: ``(500, len(space))``, canonical.
        scores: ``(500, tasks)``, GLUE metrics in percent.
        tasks: Names; the last is the GLUE average.
        proxies: ``(500, 15)`` zero-cost numbers at initialisation.
        names: Of the proxies.
    """

    space: SearchSpace
    rows: NDArray[np.int16]
    scores: NDArray[np.float64]
    tasks: tuple[str, ...]
    proxies: NDArray[np.float64]
    names: tuple[str, ...]

    def task(self, name: str) -> NDArray[np.float64]:
        """Scores ``(500,)`` of one task."""
        return self.scores[:, self.tasks.index(name)]

    def proxy(self, name: str) -> NDArray[np.float64]:
        """One proxy ``(500,)``."""
        return self.proxies[:, self.names.index(name)]

    @property
    def depth(self) -> NDArray[np.float64]:
        """Number of layers ``(500,)``."""
        return np.where(self.rows[:, self.space.index("depth")] == 1, 4.0, 2.0)


def load() -> FlexiBert | None:
    """The table, or ``None`` where the shared data folder is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("SUPERNET_SHARED_DATA", beside))
    for path in (folder / "bench" / FILE, folder / "data" / "bench" / FILE):
        if path.is_file():
            with np.load(path) as arrays:
                return _table({key: arrays[key] for key in arrays.files})
    return None


def _table(data: dict[str, NDArray]) -> FlexiBert:
    layers, codes = data["layers"].astype(np.intp), list(OPERATIONS.values())
    choices = [Choice("hidden", (128, 256), "width"), Choice("depth", (2, 4), "depth")]
    columns = [data["hidden_size"] == 256, data["n_layers"] == 4]
    for i in range(layers.shape[1]):
        needs = ("depth", 4) if i >= 2 else None
        found = [codes.index((int(a), int(b))) if a >= 0 else 0 for a, b in layers[:, i, :2]]
        choices.append(Choice(f"layer{i}.operation", tuple(OPERATIONS), "operation", needs))
        columns.append(np.array(found))
        for field, name, values in ((2, "heads", (2, 4)), (3, "ffn", (512, 1024)),
                                    (4, "ffn_depth", (1, 3))):  # fmt: skip
            choices.append(Choice(f"layer{i}.{name}", values, name, needs))
            columns.append(layers[:, i, field] == values[1])
    space = SearchSpace(tuple(choices))
    return FlexiBert(
        space,
        space.canonical(np.stack(columns, 1).astype(np.int16)),
        data["scores"].astype(np.float64),
        tuple(map(str, data["tasks"])),
        data["zero_cost"].astype(np.float64),
        tuple(map(str, data["proxies"])),
    )
