"""Progressive shrinking: which options when, at which rate, from which teacher; and resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from supernet.families import matlm, ofa_mobilenetv3
from supernet.space import Choice, SearchSpace
from supernet.supernet import Supernet
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Progress, find_recipe, train
from supernet.training.compose import compose
from supernet.training.guides import Teacher
from supernet.training.method import TrainingMethod
from supernet.training.schedules.progressive import ProgressiveShrinking, plan_phases

STEPS = 30
RECIPE = replace(
    find_recipe("digits+progressive"), steps=STEPS, batch_size=16, checkpoint_every=3, log_every=1
)
CONFIG = replace(
    ofa_mobilenetv3.PRESETS["tiny"],
    depths=(1, 2, 3),
    expands=(1, 2, 4),
    stages=ofa_mobilenetv3.PRESETS["tiny"].stages[:1],
    final_width=16,
    feature_width=16,
    dropout=0.0,
)


def network(seed: int = 0) -> Supernet:
    return ofa_mobilenetv3.build(replace(CONFIG, seed=seed))


def no_score(_: object) -> list[float]:
    raise AssertionError("progressive shrinking compares no architectures")


# -- which options when ------------------------------------------------------------------------


def test_phases_and_lengths_are_the_published_ones() -> None:
    phases = plan_phases(ofa_mobilenetv3.make_space(ofa_mobilenetv3.Config()), 590)
    assert [(p.name, p.end - p.start, p.length.count) for p in phases] == [
        ("largest", 180, 1),
        ("kernel", 120, 1),
        ("depth-1", 25, 2),
        ("depth-2", 120, 2),
        ("expand-1", 25, 4),
        ("expand-2", 120, 4),
    ]
    # Peaks per 64 samples and architecture, as released.
    peaks = [max(p.compute_rate(s) for s in range(p.start, p.end)) for p in phases]
    counts = [p.length.count for p in phases]
    released = [2.6 / 32, 3e-2, 2.5e-3, 7.5e-3, 2.5e-3, 7.5e-3]
    for peak, count, rate in zip(peaks, counts, released, strict=True):
        assert peak / count * 2.6 / 32 == pytest.approx(rate)
    # Every phase ends near zero, and those with warm-up begin below their peak.
    assert all(p.compute_rate(p.end - 1) < 0.01 * q for p, q in zip(phases, peaks, strict=True))
    assert phases[1].compute_rate(180) < 0.2 * peaks[1]


def test_options_unlock_from_the_largest_down_and_resolution_is_always_elastic() -> None:
    net = network()
    shrinking = ProgressiveShrinking(net, 600)
    seen: dict[str, dict[str, set[Any]]] = {}
    for step in range(600):
        phase = seen.setdefault(shrinking.find_phase(step).name, {})
        drawn = shrinking.draw(step, no_score)
        assert drawn == shrinking.draw(step, no_score)
        assert len(set(drawn)) == len(drawn)
        assert net.space.largest not in drawn[1:]
        assert len({a["resolution"] for a in drawn}) == 1
        for architecture in drawn:
            for name, value in architecture.to_dict().items():
                phase.setdefault(net.space.choice(name).kind, set()).add(value)
    whole = {"resolution": {5, 6, 8}, "kernel": {3, 5}, "depth": {1, 2, 3}, "expand": {1, 2, 4}}
    largest = {"resolution": {5, 6, 8}, "kernel": {5}, "depth": {3}, "expand": {4}}
    expected = {"largest": dict(largest)}
    for name, kind, values in [
        ("kernel", "kernel", {3, 5}),
        ("depth-1", "depth", {2, 3}),
        ("depth-2", "depth", {1, 2, 3}),
        ("expand-1", "expand", {2, 4}),
        ("expand-2", "expand", {1, 2, 4}),
    ]:
        largest[kind] = values
        expected[name] = dict(largest)
    assert seen == expected
    assert seen["expand-2"] == whole


def test_kinds_a_space_lacks_have_no_phase_and_others_come_last() -> None:
    names = [p.name for p in plan_phases(matlm.make_space(matlm.PRESETS["tiny"]), 100)]
    assert names[0] == "largest"
    assert not any(name.startswith("kernel") for name in names)
    space = SearchSpace((Choice("bits", (4, 8), "precision"), Choice("ffn", (1, 2), "ffn")))
    assert [p.name for p in plan_phases(space, 100)] == ["largest", "expand", "precision"]


def test_every_phase_has_a_step_and_too_few_steps_are_refused() -> None:
    space = network().space
    for steps in (6, 7, 13):
        phases = plan_phases(space, steps)
        assert [p.start for p in phases[1:]] == [p.end for p in phases[:-1]]
        assert phases[-1].end == steps
        assert all(p.end > p.start for p in phases)
    with pytest.raises(ValueError, match="5 steps are too few for the 6 phases"):
        plan_phases(space, 5)


def test_a_family_with_nothing_to_shrink_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs choices .*kernel.*; this space has width"):
        ProgressiveShrinking(build_toy_supernet(), 100)
    with pytest.raises(ValueError, match="cannot go with distill = 'inplace'"):
        compose(network(), make_toy_data(), replace(RECIPE, distill="inplace"), 100)


# -- what is learnt ----------------------------------------------------------------------------


def shrinking_strategy() -> tuple[Supernet, ProgressiveShrinking, TrainingMethod]:
    net = network().train()
    shrinking = ProgressiveShrinking(net, STEPS)
    return net, shrinking, TrainingMethod(net, shrinking, shrinking, phases=shrinking)


def test_the_teacher_is_the_largest_at_the_end_of_the_first_phase_by_batch_statistics() -> None:
    net, shrinking, method = shrinking_strategy()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    inputs, targets = make_toy_data(classes=10).train.batch(slice(0, 30), torch.device("cpu"))
    entered = []
    for step in range(12):
        if method.begin(step, optimizer):
            entered.append(step)
            assert not optimizer.state
            if len(entered) == 1:
                with torch.no_grad():
                    expected = net(net.prepare(inputs, net.space.largest), net.space.largest)
        assert (shrinking.teacher is not None) == bool(entered)
        method.backward(step, inputs, targets)
        optimizer.step()
    assert entered[0] == shrinking.phases[1].start
    assert shrinking.teacher is not None
    remembered = {k: t.clone() for k, t in shrinking.state_dict().items()}
    shrinking.begin(inputs, targets)
    student = torch.zeros(30, 10)
    loss = shrinking.loss(net.space.largest, student, targets, {})
    # A student that knows nothing: log 10 from the labels, and from any teacher's probabilities.
    assert loss.item() == pytest.approx(2 * 2.302585, rel=1e-5)
    assert torch.allclose(shrinking._teach(net.space.largest), expected, atol=1e-5)
    assert all(p.grad is None and not p.requires_grad for p in shrinking.teacher.parameters())
    assert all(torch.equal(t, remembered[k]) for k, t in shrinking.state_dict().items())
    assert not torch.equal(remembered["model.head.mix.weight"], net.model.head.mix.weight)


def test_channels_are_sorted_when_expansions_unlock_and_trained_widths_stay() -> None:
    net, shrinking, method = shrinking_strategy()
    net.eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    first, second = (p for p in shrinking.phases if p.name.startswith("expand"))
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    values = net.space.largest.to_dict()
    halved = {n: 2 if n.endswith("expand") else v for n, v in values.items()}
    half = net.space.architecture(halved)

    def logits() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return net(x, net.space.largest), net(x, half)

    def importance() -> Tensor:
        weight = dict(net.named_parameters())["model.stages.0.0.project.conv.weight"]
        return weight.detach().abs().sum((0, 2, 3))

    disturb(net, 1)
    before = logits()
    assert method.begin(first.start, optimizer)
    after = logits()
    assert torch.allclose(after[0], before[0], atol=1e-5)
    assert not torch.allclose(after[1], before[1], atol=1e-2)
    assert (importance().diff() <= 1e-6).all()
    disturb(net, 2)
    before = logits()
    assert method.begin(second.start, optimizer)
    after = logits()
    assert torch.allclose(after[0], before[0], atol=1e-5)
    assert torch.allclose(after[1], before[1], atol=1e-5)
    assert (importance()[:32].diff() <= 1e-6).all()
    assert not (importance().diff() <= 1e-6).all()


def disturb(net: Supernet, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def test_an_external_teacher_takes_the_place_of_the_frozen_largest() -> None:
    outside = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 10))
    method = compose(network(), make_toy_data(classes=10), RECIPE, STEPS, outside)
    assert isinstance(method.guide, Teacher)
    assert isinstance(method.sampler, ProgressiveShrinking)
    assert method.sampler is method.phases
    optimizer = torch.optim.SGD(method.supernet.parameters(), lr=0.1)
    assert method.begin(method.sampler.phases[1].start, optimizer)
    assert method.state_dict() == {}
    with pytest.raises(ValueError, match="distill = 'inplace' would not listen"):
        compose(network(), make_toy_data(classes=10), find_recipe("digits+inplace"), STEPS, outside)


# -- resuming ----------------------------------------------------------------------------------


def run(folder: Path, seed: int = 0, **options: Any) -> dict[str, Tensor]:
    net = network(seed)
    train(net, make_toy_data(classes=10), RECIPE, folder, **options)
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@pytest.mark.exactness
def test_a_killed_run_ends_with_the_same_weights_inside_a_phase_and_at_its_boundary(
    tmp_path: Path,
) -> None:
    assert [p.end for p in plan_phases(network().space, STEPS)] == [9, 15, 17, 23, 24, 30]
    whole = run(tmp_path / "whole")
    for stop in (9, 21, 24):

        def stopped(progress: Progress, at: int = stop) -> None:
            if progress.step > at:
                raise KeyboardInterrupt

        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder, progress=stopped)
        # Other initial weights prove that everything, the teacher too, comes from the checkpoint.
        parts = run(folder, seed=1)
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
