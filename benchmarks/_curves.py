"""Curves of hypervolume over evaluations: over seeds, and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One method's traces over seeds, ``(seeds, evaluations)``."""

    name: str
    traces: Values


def over_seeds(
    method: Callable[[int, int], Values], evaluations: int, seeds: int
) -> NDArray[np.float64]:
    """Traces ``(seeds, evaluations)``; a search that ended early keeps its last value."""
    rows = []
    for seed in range(seeds):
        trace = method(evaluations, seed)
        short = evaluations - len(trace)
        rows.append(np.concatenate((trace, np.full(max(short, 0), trace[-1])))[:evaluations])
    return np.stack(rows)


def draw(
    path: Path, curves: Sequence[Curve], x_title: str, y_title: str, ceiling: float | None = None
) -> None:
    """An SVG of the mean and the range over seeds of every curve."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "supernet", "svg.fonttype": "none", "font.size": 10}):
        figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        for curve in curves:
            # A point for every fourth evaluation keeps the file small.
            steps = np.arange(0, curve.traces.shape[1], 4) + 1
            traces = curve.traces[:, steps - 1]
            style = "--" if "published" in curve.name else "-"
            (line,) = axes.plot(steps, traces.mean(0), style, label=curve.name, lw=1.6)
            if len(traces) > 1:
                low, high = traces.min(0), traces.max(0)
                axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.15, lw=0)
        if ceiling is not None:
            axes.axhline(ceiling, color="0.5", lw=0.8, ls=":", label="long-run ideal")
        tops = np.concatenate([curve.traces.mean(0) for curve in curves])
        top = max(float(tops.max()), ceiling or 0.0)
        axes.set_ylim(float(np.quantile(tops, 0.02)), top + 0.02 * (top - float(tops.min())))
        axes.set_xlabel(x_title)
        axes.set_ylabel(y_title)
        axes.grid(alpha=0.2)
        axes.legend(frameon=False, fontsize=9)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
