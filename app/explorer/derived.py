"""What screens work out of a front, kept while its points and what was selected stay the same."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.analysis.common_choices import Prevalence, compare_prevalence
from app.analysis.importance import MainEffects, fit_main_effects
from app.analysis.positions import Encoded, encode_choices
from app.explorer.context import Context
from app.records.quantities import Quantity
from app.records.searches.front import Front
from app.reporting.charts.chart_style import spread_evenly
from supernet.space import SearchSpace

# Positions of 50,000 architectures are megabytes, what follows from them kilobytes.
_MOST_ENCODED, _MOST_DERIVED = 4, 64
# Half a 95 % interval of a normal distribution, in standard errors.
_WIDE = 1.96
# The noise of more evaluations than this is what it is of these.
_MOST_ERRORS = 400

Kept = NDArray[np.bool_]

# The content of a front, and which of its points pass region and filters.
Selection = tuple[str, str]


def name_selection(context: Context) -> Selection:
    """Names what a screen shows of a front, for what is kept of it."""
    return f"{context.key} {digest_front(context.front)}", _digest(np.packbits(context.kept))


def digest_front(front: Front | None) -> str:
    """What decides everything that is worked out of a front: its points, flags and figures.

    The same points may have other figures by now, where they were measured again.
    """
    if front is None:
        return ""
    columns = [front.column(axis.name) for axis in front.objectives]
    figures = [part for c in columns for part in (c.value, c.predicted, c.best, c.low, c.high)]
    return _digest(front.digests, front.on_front, front.verified, *figures)


def _digest(*arrays: NDArray[Any]) -> str:
    """16 hexadecimal digits of the content of arrays."""
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def encode_points(content: str, front: Front, space: SearchSpace) -> Encoded:
    """The architectures of all points of a front as positions.

    Args:
        content: Names the front and its points.
        front: The front.
        space: Whose architectures they are.
    """
    return _encode(content, space.digest, front, space)


def find_effects(
    selection: Selection, kept: Kept, front: Front, space: SearchSpace, quantity: Quantity
) -> MainEffects | None:
    """What choices do to a quantity, among the points that are kept.

    Args:
        selection: Names the points.
        kept: Which they are, ``(n,)``.
        front: Whose points.
        space: Whose choices.
        quantity: What they act on.
    """
    return _find_effects(selection, quantity.name, kept, front, space)


def find_common(
    selection: Selection, kept: Kept, front: Front, space: SearchSpace
) -> tuple[Prevalence, ...]:
    """What front points have in common, among the points that are kept; arguments as above."""
    return _find_common(selection, kept, front, space)


@st.cache_resource(max_entries=_MOST_ENCODED, show_spinner=False)
def _encode(content: str, space_digest: str, _front: Front, _space: SearchSpace) -> Encoded:
    return encode_choices(_space, _front.choices)


@st.cache_resource(max_entries=_MOST_DERIVED, show_spinner=False)
def _find_effects(
    selection: Selection, name: str, _kept: Kept, _front: Front, _space: SearchSpace
) -> MainEffects | None:
    encoded = encode_points(selection[0], _front, _space).select(_kept)
    # Not what all evaluations together say, which a model of the choices has smoothed already.
    values = _front.column(name).value[_kept]
    return fit_main_effects(
        _space, encoded, values, _read_errors(selection[0], name, _front)[_kept]
    )


@st.cache_resource(max_entries=_MOST_DERIVED, show_spinner=False)
def _read_errors(content: str, name: str, _front: Front) -> NDArray[np.float64]:
    """Standard errors of the evaluations, ``(n,)``; of some of many, NaN for the others."""
    errors = np.full(len(_front.points), np.nan)
    known = np.flatnonzero(~np.isnan(_front.column(name).value)).tolist()
    for place in spread_evenly(known, _MOST_ERRORS):
        estimate = _front.points[place].estimate(name)
        if estimate.low is not None and estimate.high is not None:
            errors[place] = (estimate.high - estimate.low) / (2 * _WIDE)
    return errors


@st.cache_resource(max_entries=_MOST_DERIVED, show_spinner=False)
def _find_common(
    selection: Selection, _kept: Kept, _front: Front, _space: SearchSpace
) -> tuple[Prevalence, ...]:
    encoded = encode_points(selection[0], _front, _space).select(_kept)
    return compare_prevalence(_space, encoded, _front.on_front[_kept])
