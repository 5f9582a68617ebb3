"""Recalibration against exact statistics; evaluation independent of what happened before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from supernet.data import DataSource, Split, open_data
from supernet.families import ofa_mobilenetv3
from supernet.quality.batch_statistics import recalibrate
from supernet.quality.evaluate import (
    BatchCache,
    StatisticsCache,
    compute_wilson_interval,
    evaluate,
    recalibrate_extracted,
    score_samples,
)
from supernet.supernet import Supernet
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Recipe, train


def test_one_full_batch_gives_its_exact_statistics() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(50, 3, 4, 4, generator=generator) * 2 + 1
    layer = nn.BatchNorm2d(3, momentum=0.3)
    layer.running_mean.fill_(9.0)
    model = nn.Sequential(layer, nn.Dropout(0.9)).train()
    recalibrate(model, [batch])
    torch.testing.assert_close(layer.running_mean, batch.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, batch.var((0, 2, 3), correction=1))
    assert layer.momentum == 0.3
    assert not any(module.training for module in model.modules())


def test_several_batches_count_the_same() -> None:
    batches = [torch.randn(20, 3, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    layer = nn.BatchNorm1d(3)
    recalibrate(nn.Sequential(layer), iter(batches))
    torch.testing.assert_close(layer.running_mean, torch.cat(batches).mean(0))
    variances = torch.stack([batch.var(0) for batch in batches]).mean(0)
    torch.testing.assert_close(layer.running_var, variances)


def test_dropout_sleeps_during_recalibration() -> None:
    first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    batch = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) + 5
    recalibrate(nn.Sequential(nn.Dropout(0.5), first), [batch])
    recalibrate(nn.Sequential(second), [batch])
    assert torch.equal(first.running_var, second.running_var)


def test_nothing_to_recalibrate_is_fine_but_no_batches_are_not() -> None:
    linear = nn.Sequential(nn.Linear(2, 2)).train()
    recalibrate(linear, [])
    assert not linear.training
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate(nn.Sequential(nn.BatchNorm1d(2)), [])


def test_evaluation_equals_a_calculation_by_hand() -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    smallest = supernet.space.smallest
    result = evaluate(supernet, smallest, data, "val")
    model = supernet.extract(smallest)
    # All 60 training images in one batch: the statistics of training mode are the calibrated
    # ones, up to the correction for the number of samples.
    recalibrate(model, [data.train.inputs])
    with torch.no_grad():
        right = model(data.val.inputs).argmax(1) == data.val.targets
    assert result.value == pytest.approx(float(right.float().mean()))
    assert (result.objective, result.unit, result.split) == ("accuracy", "fraction", "val")
    assert (result.samples, result.calibration_samples) == (20, 60)
    assert result.low < result.value < result.high or result.value in (0, 1)


def test_result_does_not_depend_on_what_was_evaluated_before(tmp_path: Path) -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    train(supernet, data, Recipe(steps=40, batch_size=20, log_every=40), tmp_path)
    architectures = supernet.space.decode(
        torch.arange(3)[:, None].numpy()  # widths 2, 4, 8
    )
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    forward = [evaluate(supernet, a, data).value for a in architectures]
    backward = [evaluate(supernet, a, data).value for a in reversed(architectures)]
    assert forward == backward[::-1]
    assert max(forward) > 0.8
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_calibration_repairs_ruined_statistics(tmp_path: Path) -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    train(supernet, data, Recipe(steps=40, batch_size=20, log_every=40), tmp_path)
    expected = evaluate(supernet, supernet.space.smallest, data)
    supernet.model.bn.running_mean.fill_(100.0)
    supernet.model.bn.running_var.fill_(1e-3)
    assert evaluate(supernet, supernet.space.smallest, data).value == expected.value


def test_validation_and_test_images_do_not_reach_the_statistics() -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    expected = evaluate(supernet, supernet.space.largest, data, "val").value
    data.test.inputs.fill_(1e6)
    assert evaluate(supernet, supernet.space.largest, data, "val").value == expected


def test_batch_size_does_not_change_what_is_seen() -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    whole = evaluate(supernet, supernet.space.largest, data, batch_size=60)
    parts = evaluate(supernet, supernet.space.largest, data, batch_size=7)
    assert (whole.samples, parts.samples) == (20, 20)
    # 60 training images hold 8 batches of 7; the last 4 images are left out.
    assert (whole.calibration_samples, parts.calibration_samples) == (60, 56)


def test_unknown_split_is_refused() -> None:
    supernet = build_toy_supernet()
    with pytest.raises(ValueError, match="unknown split 'valid'"):
        evaluate(supernet, supernet.space.largest, make_toy_data(), "valid")


def test_wilson_interval_known_values() -> None:
    # 50 of 100, and none of 10: standard textbook values.
    assert compute_wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert compute_wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_kept_batches_change_no_value() -> None:
    supernet, data = ofa_digits()
    rng = np.random.default_rng(3)
    architectures = supernet.space.decode(supernet.space.sample(rng, 6))
    assert len({supernet.input_shape(a) for a in architectures}) > 1, "several input sizes"
    cache = BatchCache()
    for architecture in (*architectures, *architectures):
        kept = evaluate(supernet, architecture, data, cache=cache)
        plain = evaluate(supernet, architecture, data)
        assert replace(kept, seconds=0.0) == replace(plain, seconds=0.0)
    assert 0 < cache.bytes < 10**6


def test_cache_stays_within_its_limit() -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    largest = supernet.space.largest
    # 60 calibration images and 20 to judge, 36 float32 pixels and an int64 class each.
    whole = BatchCache()
    expected = evaluate(supernet, largest, data, cache=whole).value
    assert whole.bytes == 80 * (36 * 4 + 8)
    none, one = BatchCache(0), BatchCache(60 * (36 * 4 + 8))
    for cache in (none, one, one):
        assert evaluate(supernet, largest, data, cache=cache).value == expected
    assert none.bytes == 0
    # The calibration batches made room for those that were used last.
    assert one.bytes == 20 * (36 * 4 + 8)


def test_kept_statistics_are_those_of_a_calibration() -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    kept = StatisticsCache()
    for architecture in (supernet.space.largest, supernet.space.smallest):
        plain, first, again = (supernet.extract(architecture) for _ in range(3))
        recalibrate_extracted(plain, supernet, architecture, data)
        assert recalibrate_extracted(first, supernet, architecture, data, statistics=kept) == 60
        # Other training images would give other statistics, were they looked at.
        moved = replace(data, train=Split(data.train.inputs + 5, data.train.targets))
        assert recalibrate_extracted(again, supernet, architecture, moved, statistics=kept) == 60
        for name, tensor in plain.state_dict().items():
            assert torch.equal(first.state_dict()[name], tensor), name
            assert torch.equal(again.state_dict()[name], tensor), name
        assert not any(module.training for module in again.modules())
    # Eight channels and two: mean and variance in float32, and a counter.
    assert kept.bytes == (8 + 2) * 2 * 4 + 2 * 8
    tight = StatisticsCache(8 * 2 * 4 + 8)
    for architecture in (supernet.space.smallest, supernet.space.largest):
        recalibrate_extracted(
            supernet.extract(architecture), supernet, architecture, data, statistics=tight
        )
    assert tight.bytes == 8 * 2 * 4 + 8, "the first made room for the second"


def test_chosen_samples_are_scored_in_the_order_asked() -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    smallest = supernet.space.smallest
    model = supernet.extract(smallest)
    recalibrate_extracted(model, supernet, smallest, data)
    whole = score_samples(model, supernet, smallest, data, "val")
    rows = np.array([7, 3, 19])
    cache = BatchCache()
    for _ in range(2):
        some = score_samples(model, supernet, smallest, data, "val", rows=rows, cache=cache)
        assert np.array_equal(some, whole[rows])
    other = score_samples(model, supernet, smallest, data, "val", rows=rows[::-1], cache=cache)
    assert np.array_equal(other, whole[rows[::-1]])


def test_an_evaluated_network_can_still_be_trained() -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    largest = supernet.space.largest
    evaluate(supernet, largest, data, cache=BatchCache())
    supernet.train()
    supernet(data.train.inputs, largest).sum().backward()
    assert supernet.model.conv.weight.grad is not None


def ofa_digits() -> tuple[Supernet, DataSource]:
    """The smallest Once-for-All space on the digits, with weights that are not trained."""
    data = open_data("digits")
    config = ofa_mobilenetv3.configure("tiny", data.shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ofa_mobilenetv3.build(config).eval(), data
