"""Tables of several precisions: mixtures are drawn, borders are priced, and parts are served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hardware.mixed_precision import HOMOGENEOUS, mix_precisions
from hardware.network_calibration import (
    BORDER_TERM,
    TERMS,
    Calibration,
    collect_unit_features,
    drop_borders,
    fit_calibration,
)
from hardware.profile import (
    NETWORKS_PER_PRECISION,
    Budget,
    check_anchors,
    choose_budget,
    profile,
)
from hardware.table import LatencyTable, list_precisions
from supernet.costs.cost_model import BORDER
from supernet.errors import InputError
from tests.toys.mixed_precision import PRECISIONS, MixedToy

pytest.importorskip("onnx")
SMALL = Budget(passes=4, visits=3, calibration=14, validation=16, unit_ms=1.0)
CALL, NODE, WEIGHT = 5000, 3000, 2


@pytest.fixture(scope="module")
def mixed() -> MixedToy:
    return MixedToy()


@pytest.fixture
def table(mixed, imaginary, tmp_path) -> LatencyTable:
    folder = tmp_path / "cpu"
    profile(mixed.cost_model(), mixed.graph, imaginary(), folder=folder, budget=SMALL)
    return LatencyTable.load(folder)


def find_true_ms(mixed: MixedToy, architecture) -> float:
    graph = mixed.graph(architecture)
    weights = sum(int(np.prod(w.shape)) for w in graph.weights)
    return (CALL + NODE * len(graph.nodes) + WEIGHT * weights) / 1e6


def test_mixed_networks_are_predicted_with_borders_and_worse_without(mixed, table) -> None:
    compiled = table.compile(mixed.cost_model())
    rows = mixed.space.sample(np.random.default_rng(3), 60)
    true = np.array([find_true_ms(mixed, a) for a in mixed.space.decode(rows)])
    assert np.abs(compiled.predict(rows) / true - 1).mean() < 0.03
    assert table.report["trustworthy"]
    without = table.report["without_borders"]
    assert without["mape"] > 1.5 * table.report["mape"]
    assert without["kendall_tau"] < table.report["kendall_tau"]


def test_table_holds_its_precisions_and_is_read_again(table, tmp_path) -> None:
    assert table.precisions == ("fp32", "int8")
    terms = table.calibration.to_json()["terms"]
    assert set(terms) == {name for name, _ in (*TERMS, BORDER_TERM)}
    assert Calibration.from_json(table.calibration.to_json()) == table.calibration
    again = tmp_path / "again"
    table.save(again)
    assert LatencyTable.load(again) == table


def test_table_of_several_precisions_serves_the_float_space(mixed, table) -> None:
    whole, part = mixed.cost_model(), mixed.cost_model(("fp32",))
    compiled, of_all = table.compile(part), table.compile(whole)
    for architecture in part.space.decode(part.space.sample(np.random.default_rng(0), 20)):
        names = dict(zip(part.space.names, architecture.values, strict=True))
        layers = {f"layer{i}.precision": "fp32" for i in range(4)}
        same = mixed.space.architecture({**names, **layers})
        expected = of_all.predict(whole.space.encode([same]))
        assert compiled.predict(part.space.encode([architecture])) == pytest.approx(expected)


def test_anchors_are_checked_in_the_space_they_are_of(mixed, table) -> None:
    with pytest.raises(InputError, match="anchors of the latency table are networks of space"):
        check_anchors(table, mixed.cost_model(("fp32",)), mixed.graph, table.device)
    drift = check_anchors(table, mixed.cost_model(), mixed.graph, table.device)
    assert abs(drift.ratio - 1) < 0.05


def test_formats_of_layers_are_listed_one_by_one(mixed) -> None:
    unit = mixed.cost_model().distinct[0]
    border = replace(unit, precision=BORDER)
    layers = [replace(unit, precision=name) for name in ("int8+w4a8", "int8", "fp32")]
    assert list_precisions([*layers, border]) == ("fp32", "int8", "w4a8")


def test_table_without_a_precision_says_what_to_profile(mixed, table) -> None:
    poorer = replace(table, precisions=("fp32",))
    expected = "holds fp32 and the space needs fp32,int8; profile the device for all of these"
    with pytest.raises(InputError, match=expected):
        poorer.compile(mixed.cost_model())


def test_breakdown_names_conversions_between_units(mixed, table) -> None:
    compiled = table.compile(mixed.cost_model())
    values = {"depth": 3, **{f"width{i}": 32 for i in range(4)}}
    for i, precision in enumerate(("fp32", "int8", "fp32", "int8")):
        values[f"layer{i}.precision"] = precision
    architecture = mixed.space.architecture(values)
    parts = compiled.break_down(architecture)
    assert [part["unit"] for part in parts] == [
        "input",
        "layer0",
        "layer1",
        "layer2",
        "conversion between layer0 and layer1",
        "conversion between layer1 and layer2",
        "fixed overhead",
    ]
    total = compiled.predict(mixed.space.encode([architecture]))[0]
    assert sum(part["latency_ms"] for part in parts) == pytest.approx(total, rel=1e-12)
    values |= {f"layer{i}.precision": "int8" for i in range(4)}
    names = [part["unit"] for part in compiled.break_down(mixed.space.architecture(values))]
    assert [name for name in names if name.startswith("conversion")] == [
        "conversion between input and layer0"
    ]


def test_mixtures_of_every_share_follow_networks_of_one_precision(mixed) -> None:
    space = mixed.space
    drawn = space.decode(space.sample(np.random.default_rng(0), 300))
    found = mix_precisions(space, drawn, PRECISIONS, np.random.default_rng(1))
    rows = space.encode(found)
    columns = [space.index(f"layer{i}.precision") for i in range(4)]
    deep = np.array([a["depth"] == 4 for a in found])
    shares = rows[:, columns].mean(axis=1)
    ends = HOMOGENEOUS * len(PRECISIONS)
    assert set(shares[:HOMOGENEOUS]) == {0.0}
    floats = [
        {a.to_dict()[f"layer{i}.precision"] for i in range(a["depth"])}
        for a in found[HOMOGENEOUS:ends]
    ]
    assert floats == [{"fp32"}] * HOMOGENEOUS
    # Mixtures of any share are alike likely; drawn unit by unit, 1 of 8 would be of one precision.
    mixtures = shares[ends:][deep[ends:]]
    assert np.isin(mixtures, (0.0, 1.0)).mean() == pytest.approx(2 / 5, abs=0.15)
    others = [c.name for c in space.choices if c.kind != "precision"]
    for before, after in zip(drawn, found, strict=True):
        old, new = before.to_dict(), after.to_dict()
        assert all(old.get(name) == new.get(name) for name in others)
    again = mix_precisions(space, drawn, PRECISIONS, np.random.default_rng(1))
    assert again == found


def test_borders_have_a_part_of_their_own_and_never_cost_less_than_nothing() -> None:
    rng = np.random.default_rng(6)
    units = np.column_stack([rng.uniform(0.1, 1, 12), np.ones(12), np.zeros((12, 3))])
    borders = np.column_stack([rng.uniform(0.05, 0.1, 6), np.zeros((6, 3)), np.ones(6)])
    features = np.vstack([units, borders])
    membership = rng.integers(0, 2, (30, 18)).astype(float)
    truth = np.array([1.1, -0.02, 0.0, 0.0, -0.04])
    target = membership @ features @ truth + 0.3
    found = fit_calibration(features, membership, target)
    assert np.allclose(found.coefficients, truth, atol=1e-6)
    without = fit_calibration(drop_borders(features), membership, target)
    assert len(without.coefficients) == len(TERMS)
    assert without.unit_ms(drop_borders(features))[12:].tolist() == [0.0] * 6
    free = membership[:, :12] @ units @ truth + 0.3
    assert fit_calibration(features, membership, free).unit_ms(features).min() >= 0


def test_calibration_of_one_precision_is_written_as_before() -> None:
    payload = {
        "version": 1,
        "terms": {
            "scale": 1.1,
            "per_unit_ms": -0.02,
            "per_million_weights_ms": 0.0,
            "per_million_values_ms": 0.0,
        },
        "fixed_ms": 0.3,
        "leave_one_out_error": 0.01,
        "networks": 20,
    }
    read = Calibration.from_json(payload)
    assert read.coefficients == (1.1, -0.02, 0.0, 0.0)
    assert read.to_json() == payload


def test_features_of_one_precision_are_those_of_releases_without_borders(mixed) -> None:
    plain = mixed.cost_model(("fp32",))
    features = collect_unit_features(plain, np.arange(1.0, 1.0 + len(plain.distinct)))
    assert features.shape == (len(plain.distinct), len(TERMS))
    for row, unit in zip(features, plain.distinct, strict=True):
        assert row[1:].tolist() == [1.0, unit.parameters / 1e6, 2 * 16 / 1e6]


def test_integers_count_by_their_bytes_and_borders_have_a_column(mixed) -> None:
    cost_model = mixed.cost_model()
    features = collect_unit_features(cost_model, np.ones(len(cost_model.distinct)))
    assert features.shape == (len(cost_model.distinct), len(TERMS) + 1)
    for row, unit in zip(features, cost_model.distinct, strict=True):
        if unit.precision == BORDER:
            assert row.tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]
        elif unit.precision == "int8":
            assert row[2] == pytest.approx(unit.parameters / 4e6)
            assert row[3] == pytest.approx(2 * 16 / 4e6)


def test_more_precisions_are_calibrated_on_more_networks() -> None:
    for units in (100, 500, 2000):
        one, two = choose_budget(units), choose_budget(units, 2)
        assert choose_budget(units, 1) == one
        assert two == replace(one, calibration=one.calibration + NETWORKS_PER_PRECISION)
