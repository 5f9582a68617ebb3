"""What screens work out of a front, kept while its points and what was selected stay the same."""

from __future__ import annotations

import hashlib

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.analysis.common_choices import Prevalence, compare_prevalence
from app.analysis.importance import MainEffects, fit_main_effects
from app.analysis.positions import Encoded, encode_choices
from app.explorer.context import Context
from app.records.front import Front
from app.records.quantities import Quantity
from supernet.space import SearchSpace

# Positions of 50,000 architectures are megabytes, what follows from them kilobytes.
_MOST_ENCODED, _MOST_DERIVED = 4, 64
# Half a 95 % interval of a normal distribution, in standard errors.
_WIDE = 1.96

Kept = NDArray[np.bool_]

# The content of a front, and which of its points pass region and filters.
Selection = tuple[str, str]


def name_selection(context: Context) -> Selection:
    """Names what a screen shows of a front, for what is kept of it."""
    mask = hashlib.sha256(np.packbits(context.kept).tobytes()).hexdigest()[:16]
    return context.content_key, mask


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
    column = _front.column(name)
    encoded = encode_points(selection[0], _front, _space).select(_kept)
    errors = (column.high - column.low)[_kept] / (2 * _WIDE)
    return fit_main_effects(_space, encoded, column.best[_kept], errors)


@st.cache_resource(max_entries=_MOST_DERIVED, show_spinner=False)
def _find_common(
    selection: Selection, _kept: Kept, _front: Front, _space: SearchSpace
) -> tuple[Prevalence, ...]:
    encoded = encode_points(selection[0], _front, _space).select(_kept)
    return compare_prevalence(_space, encoded, _front.on_front[_kept])
