"""The one loop trains real families: a language model unchanged, images at several resolutions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from supernet.data import open_data
from supernet.families import matlm, ofa_mobilenetv3
from supernet.quality.evaluate import evaluate
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Progress, Recipe, train


def test_language_model_learns_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("abcdefgh" * 400, encoding="utf-8")
    data = open_data(f"text:{tmp_path / 't.txt'}", context=8)
    config = replace(
        matlm.configure("tiny", data.shape), widths=(16,), heads=(2,), ffn=(8, 32), depths=(1, 2)
    )
    supernet = matlm.build(config)
    recipe = Recipe(
        steps=80,
        batch_size=16,
        optimizer="adamw",
        learning_rate=1e-2,
        warmup_steps=5,
        ema_decay=0.9,
        random_architectures=1,
    )
    train(supernet, data, recipe, tmp_path / "run")
    for architecture in (supernet.space.largest, supernet.space.smallest):
        result = evaluate(supernet, architecture, data)
        assert (result.objective, result.unit) == ("loss", "nats/token")
        assert result.calibration_samples == 0
        # Every next character follows from the one before; guessing costs log 8 = 2.1 nats.
        assert result.value < 0.5 * math.log(8)
        assert result.low <= result.value <= result.high


@pytest.mark.exactness
def test_resolutions_differ_and_resuming_is_exact(tmp_path: Path) -> None:
    data = open_data("digits")
    config = ofa_mobilenetv3.configure("tiny", data.shape)
    recipe = Recipe(steps=4, batch_size=16, warmup_steps=1, checkpoint_every=2, log_every=1)
    whole = ofa_mobilenetv3.build(config)
    train(whole, data, recipe, tmp_path / "whole")

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    parts = ofa_mobilenetv3.build(config)
    try:
        train(parts, data, recipe, tmp_path / "parts", progress=stop)
    except KeyboardInterrupt:
        parts = ofa_mobilenetv3.build(replace(config, seed=1))
    result = train(parts, data, recipe, tmp_path / "parts")
    assert result.resumed_from == 2
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    shapes = {whole.input_shape(a) for a in (whole.space.largest, whole.space.smallest)}
    assert len(shapes) == 2


def test_bfloat16_trains_float32_weights(tmp_path: Path) -> None:
    supernet = build_toy_supernet()
    reports: list[Progress] = []
    recipe = Recipe(steps=40, batch_size=20, precision="bf16", augment="none", log_every=5)
    train(supernet, make_toy_data(), recipe, tmp_path, progress=reports.append)
    assert all(p.dtype == torch.float32 for p in supernet.parameters())
    first, last = reports[0].loss_largest, reports[-1].loss_largest
    assert first is not None
    assert last is not None
    assert last < 0.7 * first
