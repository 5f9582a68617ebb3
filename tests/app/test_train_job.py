"""What a training is refused for before anything is written."""

from __future__ import annotations

import pytest

from app.jobs.train import check_batch
from supernet.data import open_data
from supernet.testing.toy_supernets import build_toy_supernet
from supernet.training import find_recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batches": 5}, "64 samples cannot be cut into 5 equal micro-batches"),
        ({"batch_size": 10**6}, "is larger than the training split of digits"),
        ({"batch_size": 1}, "batch normalisation needs at least 2 samples"),
        ({"micro_batches": 64}, "sees 1 in each of 64 micro-batches; .* at least 128"),
        (
            {"split": True, "distill": "none", "batch_size": 5, "random_architectures": 9},
            "5 samples are too few for 3 architectures",
        ),
    ],
)
def test_impossible_batches_are_explained(changes: dict[str, object], message: str) -> None:
    recipe = find_recipe("digits")
    supernet = build_toy_supernet()
    check_batch(recipe.replace({"micro_batches": 4}), open_data("digits"), supernet)
    with pytest.raises(ValueError, match=message):
        check_batch(recipe.replace(changes), open_data("digits"), supernet)
