"""Limits as people write them, relative ones included, and clear refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from search import Constraint
from search.limits import (
    Amount,
    check_compatible,
    evaluate_largest,
    parse_bound,
    parse_limit,
    resolve_limit,
)
from tests.toys.problems import tradeoff


@dataclass(frozen=True)
class Limited:
    """What limits ask of a quantity."""

    name: str = "size_bytes"
    unit: str = "bytes"
    direction: str = "minimize"
    suffixes: Mapping[str, float] = field(default_factory=lambda: {"B": 1.0, "KB": 1e3})
    limited_by_share: bool = True


ACCURACY = Limited("accuracy", "fraction", "maximize", {}, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60%", Amount(0.6, relative=True)),
        (" 60 % ", Amount(0.6, relative=True)),
        ("0.8", Amount(0.8)),
        (0.8, Amount(0.8)),
        (3, Amount(3.0)),
        ("300M", Amount(300.0, suffix="M")),
        ("1e6", Amount(1e6)),
        (".5ms", Amount(0.5, suffix="ms")),
    ],
)
def test_amounts(text, expected):
    found = parse_bound(text)
    assert found.value == pytest.approx(expected.value)
    assert (found.relative, found.suffix) == (expected.relative, expected.suffix)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sixty", "budget 'sixty' cannot be read; write a number.*or a share.*60%"),
        ("", "budget '' cannot be read"),
        ("60%%", "cannot be read"),
        ("1 2", "cannot be read"),
        ("-3", "budget '-3' is impossible"),
        ("1e999", "budget '1e999' is impossible"),
        ("nan", "budget 'nan' cannot be read"),
    ],
)
def test_amounts_that_are_none(text, expected):
    with pytest.raises(ValueError, match=expected):
        parse_bound(text, "budget")


@pytest.mark.parametrize(
    ("text", "suffixes", "expected"),
    [
        ("size<=50%", {}, {"at_most": 100.0}),
        ("size <= 2KB", {"KB": 1e3}, {"at_most": 2000.0}),
        ("size>=25%", {}, {"at_least": 50.0}),
        ("macs<=300M", {"K": 1e3, "M": 1e6}, {"at_most": 3e8}),
        ("latency<=1500us", {"us": 1e-3}, {"at_most": 1.5}),
        ("size<=7", {"KB": 1e3}, {"at_most": 7.0}),
    ],
)
def test_limits_become_constraints_in_the_stored_unit(text, suffixes, expected):
    limit = parse_limit(text)
    found = resolve_limit(limit, Limited("q", "u", suffixes=suffixes), lambda: 200.0)
    assert found == Constraint("q", **expected)


def test_an_absolute_limit_does_not_ask_for_the_largest():
    def largest():
        raise AssertionError("not needed")

    assert resolve_limit(parse_limit("accuracy>=0.9"), ACCURACY, largest).at_least == 0.9


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        ("size", None, "limit 'size' cannot be read; write a quantity, <= or >="),
        ("size<50", None, "cannot be read"),
        ("size==50", None, "cannot be read"),
        ("<=50", None, "cannot be read"),
        ("size<=", None, "amount '' cannot be read"),
        (
            "size<=50ms",
            Limited(),
            "size_bytes has no suffix 'ms'; it has 'B', 'KB', or % of the largest architecture",
        ),
        ("size<=50ms", Limited(suffixes={}), "no suffix 'ms'; it has % of the largest"),
        ("accuracy>=1M", ACCURACY, "accuracy has no suffix 'M'; it has none"),
        ("accuracy>=90%", ACCURACY, "share of the largest.*write accuracy.*such as 0.9"),
        ("accuracy>=90", ACCURACY, "fraction between 0 and 1"),
        ("size<=0", Limited(), "limit 'size<=0' cannot be met"),
    ],
)
def test_limits_that_are_none(text, what, expected):
    with pytest.raises(ValueError, match=expected):
        resolve_limit(parse_limit(text), what, lambda: 1.0)


def test_contradictory_limits_are_both_named():
    low, high = Constraint("size_bytes", at_least=9.0), Constraint("size_bytes", at_most=5.0)
    with pytest.raises(ValueError, match="size_bytes >= 9 and size_bytes <= 5 exclude each other"):
        check_compatible([high, low])
    check_compatible(
        [Constraint("size_bytes", at_most=9.0), Constraint("size_bytes", at_least=9.0)]
    )
    check_compatible([low, Constraint("macs", at_most=5.0)])


def test_the_largest_architecture_or_the_most_similar_one_of_a_pool():
    problem = tradeoff()
    latency = problem.objectives[1]
    assert evaluate_largest(problem, latency) == 5 + 2 * np.arange(1, 13).sum()
    from dataclasses import replace

    row = problem.space.encode([problem.space.largest])
    row[0, 0] = 0
    pool = np.concatenate((np.zeros_like(row), row))
    assert (
        evaluate_largest(replace(problem, pool=pool), latency) == 5 + 2 * np.arange(1, 13).sum() - 2
    )
