"""What screens work out of a front, kept while its points and what was selected stay the same."""

from __future__ import annotations

import hashlib

import numpy as np
import streamlit as st

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


def encode_points(context: Context, front: Front, space: SearchSpace) -> Encoded:
    """The architectures of all points as positions, in the order of the points."""
    return _encode(context.content_key, space.digest, front, space)


def find_effects(
    context: Context, front: Front, space: SearchSpace, quantity: Quantity
) -> MainEffects | None:
    """What choices do to a quantity, among the points that pass region and filters."""
    return _find_effects((*name_selection(context), quantity.name), context, front, space, quantity)


def find_common(context: Context, front: Front, space: SearchSpace) -> tuple[Prevalence, ...]:
    """What front points have in common, among the points that pass region and filters."""
    return _find_common(name_selection(context), context, front, space)


def name_selection(context: Context) -> tuple[str, str]:
    """The content of a front, and which of its points pass region and filters."""
    mask = hashlib.sha256(np.packbits(context.kept).tobytes()).hexdigest()[:16]
    return context.content_key, mask


@st.cache_resource(max_entries=_MOST_ENCODED, show_spinner=False)
def _encode(key: str, space_digest: str, _front: Front, _space: SearchSpace) -> Encoded:
    return encode_choices(_space, [point.choices for point in _front.points])


@st.cache_resource(max_entries=_MOST_DERIVED, show_spinner=False)
def _find_effects(
    key: tuple[str, ...], _context: Context, _front: Front, _space: SearchSpace, _quantity: Quantity
) -> MainEffects | None:
    column = _front.column(_quantity.name)
    kept = _context.kept
    selected = encode_points(_context, _front, _space).select(kept)
    errors = (column.high - column.low)[kept] / (2 * _WIDE)
    return fit_main_effects(_space, selected, column.best[kept], errors)


@st.cache_resource(max_entries=_MOST_DERIVED, show_spinner=False)
def _find_common(
    key: tuple[str, ...], _context: Context, _front: Front, _space: SearchSpace
) -> tuple[Prevalence, ...]:
    kept = _context.kept
    selected = encode_points(_context, _front, _space).select(kept)
    return compare_prevalence(_space, selected, _front.on_front[kept])
