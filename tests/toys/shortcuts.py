"""What tests of commands need not compute again and again: all of it has tests of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

import supernet.supernet
from predictors import measure_learning_curve
from supernet.costs.cost_model import CostModel
from supernet.costs.unit_tracing import _describe
from supernet.costs.workloads import Workload
from supernet.supernet import Supernet


@contextmanager
def count_once() -> Iterator[None]:
    """Within it, supernets of the same modules, table, units and inputs share their cost model.

    Weights have no part in it. Tests of commands open the same few networks hundreds of times, and
    tracing every variant of every unit is most of what opening them takes.
    """
    build = supernet.supernet.build_cost_model
    known: dict[object, tuple[CostModel, Supernet]] = {}

    def count(network: Supernet, workload: Workload | None = None) -> CostModel:
        # Classes of modules by identity: two tests may each write a module of one name.
        kinds = tuple(type(module) for module in network.model.modules())
        shared = tuple((name, tuple(tensor.shape)) for name, tensor in network.shared.items())
        parts = (network.edits, network.space, network.units, network.inputs)
        key = (_describe(network.model), kinds, shared, repr(parts), workload)
        if key not in known:
            # The network is kept, too, so that no other object gets an address that is in its key.
            known[key] = build(network, workload), network
        return known[key][0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supernet.supernet, "build_cost_model", count)
        yield


@contextmanager
def measure_short_curves() -> Iterator[None]:
    """Within it, the learning curve of a search's predictor has three points of one fit each.

    By default it has six of three, which take longer than the search itself.
    """
    short = partial(measure_learning_curve, shares=(0.4, 0.7), repeats=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.searching.results.report_cards.measure_learning_curve", short)
        yield


@contextmanager
def take_shortcuts() -> Iterator[None]:
    """Within it, commands in this process take all of them."""
    with count_once(), measure_short_curves():
        yield
