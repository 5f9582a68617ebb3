"""A batch is divided among processes, micro-batches and architectures, or refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from supernet.data import DataSource
from supernet.data.source import make_image_source
from supernet.errors import InputError
from supernet.quality.evaluate import recalibrate_extracted
from supernet.space import SearchSpace
from supernet.supernet import InputSpec, Supernet
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Recipe, distributed, find_recipe, train
from supernet.training.division import divide, find_fewest


def test_parts_cover_the_batch_in_order() -> None:
    assert divide(12) == [slice(0, 12)]
    assert divide(12, micro_batches=3) == [slice(0, 4), slice(4, 8), slice(8, 12)]
    assert divide(11, fewest=2, architectures=3) == [slice(0, 3), slice(3, 7), slice(7, 11)]
    assert divide(4, fewest=2, micro_batches=2) == [slice(0, 2), slice(2, 4)]


@pytest.mark.parametrize(
    ("processes", "samples", "settings", "message"),
    [
        (1, 1, {}, "batch_size = 1 cannot work.* at least 2 samples .* sees 1; .* at least 2$"),
        (2, 1, {}, "batch_size = 2 cannot .* sees 1 in each of 2 processes; .* at least 4$"),
        (1, 4, {"micro_batches": 4}, "sees 1 in each of 4 micro-batches; .* at least 8$"),
        (3, 2, {"micro_batches": 2}, "= 6 .* 2 micro-batches in each of 3 .* at least 12$"),
        (1, 5, {"micro_batches": 4}, "5 samples cannot be .* multiple of 4, at least 8$"),
        (2, 5, {"micro_batches": 4}, "5 samples in each of 2 .* multiple of 8, at least 16$"),
        (1, 7, {"architectures": 4}, "7 samples are too few for 4 .* at least 2; .* at least 8$"),
        (2, 7, {"architectures": 4}, "in each of 2 processes are too few .* at least 16$"),
    ],
)
def test_what_cannot_be_divided_is_said_with_a_batch_size_that_can(
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    samples: int,
    settings: dict[str, int],
    message: str,
) -> None:
    monkeypatch.setattr(distributed, "get_world", lambda: (0, processes))
    with pytest.raises(InputError, match=message) as caught:
        divide(samples, fewest=2, **settings)
    named = int(str(caught.value).rsplit(" ", 1)[1])
    divide(named // processes, fewest=2, **settings)


def test_one_sample_is_enough_without_batch_normalisation() -> None:
    plain = Supernet(
        nn.Sequential(nn.Flatten(), nn.Linear(36, 3)),
        SearchSpace(()),
        (),
        units=(),
        inputs=InputSpec((1, 6, 6), torch.float32),
    )
    assert (find_fewest(plain), find_fewest(build_toy_supernet())) == (1, 2)
    assert divide(3, fewest=1, micro_batches=3) == [slice(0, 1), slice(1, 2), slice(2, 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batches": 8}, "sees 1 in each of 8 micro-batches; .* at least 16"),
        # The recipe's number of architectures plays no part for a sampler that takes its own.
        ({"split": True, "distill": "none", "sampler": "fair"}, "8 samples .* for 3"),
        ({"split": True, "distill": "none", "sampler": "sandwich"}, "8 samples .* for 3"),
    ],
)
def test_training_refuses_before_it_writes(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    size = 8 if "micro_batches" in changes else 5
    recipe = find_recipe("digits+inplace").replace({"steps": 2, "batch_size": size, **changes})
    with pytest.raises(InputError, match=message.replace("8 samples", f"{size} samples")):
        train(build_toy_supernet(), make_toy_data(), recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_step_with_more_architectures_than_the_first_is_refused_too(tmp_path: Path) -> None:
    class Growing:
        """One architecture in the first step, all three later."""

        def draw(self, step: int, score: object) -> tuple[object, ...]:
            members = supernet.space.decode(torch.arange(3).reshape(3, 1).numpy().astype("int16"))
            return tuple(members[: 1 if step == 0 else 3])

    from supernet.training import TrainingMethod

    supernet, recipe = build_toy_supernet(), Recipe(steps=2, batch_size=4, distill="none")
    method = TrainingMethod(supernet, Growing(), split=True)
    with pytest.raises(InputError, match="4 samples are too few for 3 architectures"):
        train(supernet, make_toy_data(), recipe, tmp_path, method=method)


def _pixels(count: int) -> DataSource:
    generator = torch.Generator().manual_seed(0)
    splits = {
        name: (torch.rand(size, 1, 1, 1, generator=generator), torch.arange(size) % 2)
        for name, size in (("train", count), ("val", 4), ("test", 4))
    }
    return make_image_source("pixels", splits, ("a", "b"))


def test_statistics_are_never_those_of_a_single_image() -> None:
    supernet = Supernet(
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten()),
        SearchSpace(()),
        (),
        units=(),
        inputs=InputSpec((1, 1, 1), torch.float32),
    )
    only = supernet.space.largest
    one, two = supernet.extract(only), supernet.extract(only)
    # torch refuses to normalise a layer of one pixel by a batch of one image.
    assert recalibrate_extracted(one, supernet, only, _pixels(6), batch_size=1) == 6
    recalibrate_extracted(two, supernet, only, _pixels(6), batch_size=2)
    assert torch.equal(one[1].running_var, two[1].running_var)
    with pytest.raises(InputError, match=r"pixels is too small \(1 of at least 2 images\)"):
        recalibrate_extracted(one, supernet, only, _pixels(1))
