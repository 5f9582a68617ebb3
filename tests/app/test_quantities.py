"""The table of quantities, and that one entry and one function reach everything that is shown."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from app.commands.quantity_help import describe_limits, describe_objectives
from app.records import numbers
from app.records.quantities import (
    LATENCY,
    PARAMETERS,
    QUANTITIES,
    Quantity,
    find_quantity,
    find_stored_quantity,
    list_counted,
    name_latency,
)
from app.records.searches.front import parse_front
from app.searching.objectives import ANALYTIC, Analytic, BuiltNetwork, Network, sum_over_units
from search.problem import DIRECTIONS
from supernet.costs.cost_model import CostUnit
from supernet.families import ofa_mobilenetv3
from supernet.space import SearchSpace
from tests.app.conftest import Command

Refused = Callable[..., str]
RANDOM = ["--strategy", "random_search", "--evaluations", "12", "--seed", "3"]

# What the tests add: one entry and one function.
ACTIVATIONS = replace(
    PARAMETERS, name="activations", unit="elements", title="activation volume", aliases=("acts",)
)


def output_elements(unit: CostUnit) -> float:
    """Elements that a unit puts out for one sample."""
    shapes = (spec.shape[1:] for spec in unit.graph.outputs)
    return float(sum(math.prod(int(size) for size in shape) for shape in shapes))


def activations(network: Network) -> Analytic:
    return sum_over_units(network, output_elements)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Quantity:
    """The table with one quantity more."""
    monkeypatch.setitem(QUANTITIES, ACTIVATIONS.name, ACTIVATIONS)
    monkeypatch.setitem(ANALYTIC, ACTIVATIONS.name, activations)
    return ACTIVATIONS


# -- the table -------------------------------------------------------------------------------------


def test_every_entry_is_complete_and_its_names_are_its_own() -> None:
    names = [name for q in QUANTITIES.values() for name in (q.name, *q.aliases)]
    assert len(set(names)) == len(names)
    for key, quantity in QUANTITIES.items():
        assert key == quantity.name
        assert quantity.direction in DIRECTIONS
        assert not {".", "@", ":"} & set("".join((quantity.name, *quantity.aliases)))
        assert quantity.unit
        assert quantity.title
        assert quantity.show(None) == numbers.MISSING
        assert any(digit in quantity.show(0.5) for digit in "0123456789")
        assert quantity.is_quality + quantity.of_tables + quantity.counted == 1


def test_exactly_what_is_counted_has_a_function() -> None:
    assert {q.name for q in list_counted()} == set(ANALYTIC)


@pytest.mark.parametrize(
    ("written", "name", "title"),
    [
        ("accuracy", "accuracy", "accuracy"),
        ("latency", "latency_ms", "latency"),
        ("latency@phone", "latency_ms@phone", "latency on phone"),
        ("latency_ms@my.phone", "latency_ms@my.phone", "latency on my.phone"),
        ("size", "size_bytes", "size"),
        ("size_bytes", "size_bytes", "size"),
    ],
)
def test_names_aliases_and_devices(written: str, name: str, title: str) -> None:
    found = find_quantity(written)
    assert (found.name, found.title) == (name, title)
    assert found.device == name.partition("@")[2]
    assert find_quantity(found.name) == found, "the name in files means the same"
    assert find_stored_quantity(found.name) == found


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("acuracy", "unknown objective 'acuracy'.*did you mean 'accuracy'.*; objectives are accur"),
        ("latencies@cpu", "unknown objective 'latencies@cpu'.*did you mean 'latency'"),
        ("size@cpu", "'size@cpu' is impossible; only latency has a device: latency@cpu"),
        ("latency@", "'latency@' is impossible"),
        ("worst_latency@cpu", "only latency has a device"),
    ],
)
def test_names_that_are_none(written: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        find_quantity(written)


def test_the_latency_has_its_device_in_its_name_where_there_are_several() -> None:
    assert name_latency("cpu", ("cpu",)) == "latency_ms"
    assert name_latency("cpu", ("cpu", "phone")) == LATENCY.on_device("cpu").name
    assert name_latency("cpu", ("cpu", "phone")) == "latency_ms@cpu"


def test_a_quantity_of_another_release_is_as_its_file_describes_it() -> None:
    share = find_stored_quantity("my.robust_share", "fraction", "maximize")
    assert share.is_quality
    assert (share.axis_label, share.show(0.25)) == ("robust share (%)", "25.00 %")
    energy = find_stored_quantity("energy_mj", "mJ", "minimize")
    assert not energy.is_quality
    assert (energy.axis_label, energy.show(0.25), energy.scale) == (
        "energy mj (mJ)", "0.2500 mJ", 1.0
    )  # fmt: skip


def test_help_is_there_without_numerical_libraries() -> None:
    code = (
        "import sys, app.commands.quantity_help as h; h.describe_objectives()\n"
        "assert not {'numpy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- one entry and one function --------------------------------------------------------------------


def test_help_names_an_added_quantity_and_its_suffixes(added: Quantity) -> None:
    assert "acts" in describe_objectives()
    assert "parameters, macs, bitops, acts K M G T" in describe_limits("size<=50%")
    assert "latency us ms s" in describe_limits("size<=50%")


def test_an_added_quantity_is_searched_limited_stored_picked_and_reported(
    command: Command, refused: Refused, a_run: Path, added: Quantity
) -> None:
    outcome = command(
        "search", "--run", a_run, "--name", "toy", *RANDOM, "--limit", "acts<=95%",
        "--limit", "acts<=1M", "--objectives", "accuracy,latency,acts",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    folder = a_run / "searches" / "toy"
    front = json.loads((folder / "front.json").read_text())
    space = SearchSpace.from_json(json.loads((a_run / "space.json").read_text()))
    values = counted_again(space, front["points"])

    # Files.
    assert front["objectives"][2] == {
        "name": "activations", "unit": "elements", "direction": "minimize"
    }  # fmt: skip
    assert [p["activations"] for p in front["points"]] == values
    assert [p["objectives"]["activations"]["value"] for p in front["points"]] == values
    assert len(set(values)) > 1
    shares, absolute = (c["at_most"] for c in front["constraints"])
    assert absolute == 1e6
    assert max(values) <= shares == pytest.approx(0.95 * counted_largest(space))
    with (folder / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["activations"]) for row in rows] == values
    assert [float(row["activations_value"]) for row in rows] == values

    # Tables: what was searched for is a column, and once only.
    assert outcome.out.count("activation volume") == 1
    best = front["points"][0]
    assert numbers.format_count(best["activations"]) in outcome.out
    limit = sorted(p["activations"] for p in front["points"] if p["verified"])[0]
    picking = ("pick", "--run", a_run, "--search", "toy", "--limit")
    picked = command(*picking, f"acts<={limit}", "--json")
    assert json.loads(picked.out)["costs"]["activations"] == limit
    in_thousands = command(*picking, f"acts<={limit / 1000}K").out
    assert f"activation volume {numbers.format_count(limit)}" in in_thousands
    assert "has no suffix 'ms'; it has 'K'" in refused(*picking, "acts<=5ms")
    assert "no largest architecture" in refused(*picking, "acts<=50%")
    by_weight = command(*picking[:-1], "--weights", "acts=1", "--json")
    assert json.loads(by_weight.out)["weights"] == {"activations": 1.0}

    # Report and explorer.
    assert command("report", "--run", a_run, "--search", "toy", "--no-baseline").code == 0
    assert "activation volume (thousand)" in (a_run / "report/toy/report.md").read_text()
    axes = parse_front(front, "front.json", "toy").axes
    assert "activation volume (thousand)" in [axis.axis_label for axis in axes]

    # The study.
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    study = optuna.load_study(study_name="toy", storage=storage)
    assert study.metric_names == [
        "accuracy [fraction]",
        "latency_ms [ms]",
        "activations [elements]",
    ]
    assert [t.user_attrs["activations"] for t in study.trials] == [
        trial.values[2] for trial in study.trials
    ]


def test_an_added_quantity_is_counted_where_it_was_not_asked_for(
    command: Command, a_run: Path, added: Quantity
) -> None:
    outcome = command("search", "--run", a_run, "--name", "plain", *RANDOM)
    assert outcome.code == 0, outcome.err
    assert "activation volume" in outcome.out
    front = json.loads((a_run / "searches/plain/front.json").read_text())
    assert all(p["activations"] > 0 for p in front["points"])
    axes = parse_front(front, "front.json", "plain").axes
    assert axes[-1] == added
    described = command("describe", "ofa_mobilenetv3", "--json")
    assert described.code == 0, described.err
    assert set(json.loads(described.out)["costs"]["activations"]) == {
        "smallest", "median", "largest"
    }  # fmt: skip


def test_its_sum_over_units_is_known_to_exact_selection(added: Quantity) -> None:
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS["tiny"])
    found = ANALYTIC[added.name](BuiltNetwork(supernet, supernet.cost_model()))
    rows = supernet.space.sample(np.random.default_rng(0), 50)
    assert found.additive is not None
    np.testing.assert_allclose(found.additive()(rows), found.evaluate(rows), rtol=1e-12)
    assert np.ptp(found.evaluate(rows)) > 0


def counted_again(space: SearchSpace, points: list[dict[str, Any]]) -> list[float]:
    """The added quantity of stored points, unit by unit."""
    costs = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS["tiny"]).cost_model()
    rows = space.encode([space.architecture(p["architecture"]) for p in points])
    return [
        sum(
            output_elements(unit.variants[i])
            for unit, i in zip(costs.units, variants, strict=True)
            if unit.variants[i] is not None
        )
        for variants in costs.variant(rows)
    ]


def counted_largest(space: SearchSpace) -> float:
    """The added quantity of the largest architecture."""
    return counted_again(space, [{"architecture": space.largest.to_dict()}])[0]


# -- a module of a user's own ----------------------------------------------------------------------

DOCS = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The dotted path of the module of the documentation, outside the project."""
    folder = tmp_path / "mine_of_quantities"
    folder.mkdir()
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    example = next(block for block in blocks if "QUANTITY = " in block)
    (folder / "energy.py").write_text(example)
    (folder / "empty.py").write_text("QUANTITY = 3\n")
    (folder / "wrong.py").write_text(example + "\nQUANTITY = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "mine_of_quantities.energy"


def test_the_documented_quantity_of_ones_own(
    command: Command, refused: Refused, a_run: Path, own: str
) -> None:
    search = ("search", "--run", a_run, "--name", "own", *RANDOM, "--objectives", f"accuracy,{own}")
    outcome = command(*search, "--limit", f"{own}<=90%")
    assert outcome.code == 0, outcome.err
    front = json.loads((a_run / "searches/own/front.json").read_text())
    assert front["objectives"][1] == {"name": own, "unit": "uJ", "direction": "minimize"}
    for point in front["points"]:
        energy = 4.6e-6 * point["macs"] + 640e-6 * point["parameters"]
        assert point["objectives"][own]["value"] == pytest.approx(energy)
    assert "energy" in outcome.out
    assert "already complete" in command(*search, "--limit", f"{own}<=90%").err
    picked = command("pick", "--run", a_run, "--search", "own", "--limit", f"{own}<=1000", "--json")
    assert json.loads(picked.out)["costs"][own] <= 1000
    assert "--trust" in refused("report", "--run", a_run, "--search", "own")
    trusted = command("report", "--run", a_run, "--search", "own", "--trust", own)
    assert trusted.code == 0, trusted.err
    assert "energy (uJ)" in (a_run / "report/own/report.md").read_text()


def test_modules_that_are_no_objective(refused: Refused, finished_run: Path, own: str) -> None:
    package = own.rpartition(".")[0]
    cases = {
        "none": f"there is no module '{package}.none' for the objective",
        "empty": f"module '{package}.empty' is no objective: it lacks obtain",
        "wrong": "QUANTITY of the module must be a Quantity",
    }
    for name, expected in cases.items():
        flags = ("--objectives", f"accuracy,{package}.{name}")
        assert expected in refused("search", "--run", finished_run, "--name", "x", *RANDOM, *flags)
