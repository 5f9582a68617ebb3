"""How marks, colours and numbers are written for the script of the chart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.reporting.charts import palette
from app.reporting.scatter.view import KNEE, Look

Json = dict[str, Any]


def describe_look(kind: str, look: Look) -> Json:
    """A group of points without its points."""
    return {
        "kind": kind,
        "name": look.name,
        "color": pair_colors(look.color),
        "shape": look.shape,
        "radius": look.radius,
        "filled": look.filled,
        "opacity": look.opacity,
        "front": False,
        # Rings and frames mark what is seen anyway; they say something else by their colour.
        "marks": kind in ("chosen", "compared", KNEE),
    }


def pair_colors(color: str) -> list[str]:
    """The colour on a light and on a dark page."""
    return [color, palette.ON_DARK.get(color, color)]


def shorten(values: NDArray[np.float64]) -> list[float | None]:
    """Numbers as :func:`shorten_one` writes them, ``(n,)``; None for NaN."""
    return [shorten_one(None if v != v else v) for v in values.tolist()]


def shorten_one(value: float | None) -> float | None:
    """A number with seven significant digits, which no screen can show more of."""
    return None if value is None else float(f"{value:.7g}")
