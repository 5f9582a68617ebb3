"""Engines by name."""

from __future__ import annotations

import pytest

from search.engines.array_nsga2 import optimise
from search.engines.choice import ENGINES, find_engine


def test_the_array_engine_is_the_default():
    assert ENGINES[0] == "array"
    assert find_engine("array") is optimise


def test_an_unknown_engine_is_refused_with_the_nearest_name_and_the_list():
    with pytest.raises(ValueError, match=r"unknown engine 'aray'; did you mean 'array'\?.* array"):
        find_engine("aray")
