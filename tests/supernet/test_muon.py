"""Muon: steps of matrices are orthogonal, everything else moves as under SGD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from supernet.data import open_data
from supernet.families import ofa_mobilenetv3
from supernet.testing.toy_supernets import build_toy_supernet
from supernet.training import Recipe
from supernet.training.muon import Muon, find_matrices, orthogonalise
from supernet.training.optimizer import build_optimizer, list_undecayed, set_learning_rate


def polar(matrix: Tensor) -> Tensor:
    """The orthogonal matrix nearest to one, by its singular values."""
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return left @ right


@pytest.mark.parametrize("shape", [(3, 8, 20), (3, 20, 8), (1, 1, 9), (2, 6, 6)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, ...]) -> None:
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for matrix, made in zip(given, orthogonalise(given), strict=True):
        values = torch.linalg.svdvals(made)
        assert values.min() > 0.3
        assert values.max() < 1.3
        torch.testing.assert_close(polar(made), polar(matrix), rtol=0, atol=5e-3)


def test_the_size_of_a_matrix_does_not_matter_and_zeros_stay() -> None:
    given = torch.randn((1, 5, 7), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(orthogonalise(given), orthogonalise(given * 1e4), rtol=1e-3, atol=0)
    assert not orthogonalise(torch.zeros(1, 5, 7)).any()


def test_depthwise_filters_and_embeddings_are_no_matrices() -> None:
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(4, 3),
            "stem": nn.Conv2d(1, 8, 3),
            "depthwise": nn.Conv2d(8, 8, 3, groups=8),
            "embedding": nn.Embedding(5, 4),
            "tied": nn.Linear(4, 5, bias=False),
        }
    )
    model["tied"].weight = model["embedding"].weight
    assert find_matrices(model) == {model["linear"].weight, model["stem"].weight}


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_what_is_no_matrix_moves_as_under_sgd(decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    muon = Muon([{"params": [ours], "weight_decay": decay}], 0.1, 0.9)
    sgd = torch.optim.SGD([theirs], 0.1, momentum=0.9, nesterov=True, weight_decay=decay)
    for step in range(5):
        # One step trains nothing: neither weights nor momentum may move.
        gradient = None if step == 2 else torch.randn(6, generator=generator)
        ours.grad, theirs.grad = gradient, gradient
        muon.step()
        sgd.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (12, 4), (4, 12)])
def test_a_step_of_a_matrix_is_orthogonal_whatever_its_gradient(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(shape, generator=generator))
    before = parameter.detach().clone()
    optimizer = Muon([{"params": [parameter], "matrices": True, "weight_decay": 0.5}], 0.1, 0.9)
    gradient = torch.randn(shape, generator=generator)
    parameter.grad = 1e-3 * gradient
    optimizer.step()
    moved = (before * (1 - 0.1 * 0.5) - parameter.detach()).flatten(1)
    rows, columns = moved.shape
    torch.testing.assert_close(polar(moved), polar(gradient.flatten(1)), rtol=0, atol=5e-3)
    sizes = torch.linalg.svdvals(moved) / (0.1 * max(1.0, rows / columns) ** 0.5)
    assert sizes.min() > 0.3
    assert sizes.max() < 1.3


def test_every_parameter_of_a_family_is_in_one_group_with_its_own_rate() -> None:
    shape = open_data("clutter").shape
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.configure("clutter", shape))
    recipe = Recipe(optimizer="muon", learning_rate=0.2, matrix_rate=0.5, weight_decay=1e-2)
    optimizer = build_optimizer(supernet, recipe)
    set_learning_rate(optimizer, 0.2)
    groups = {
        id(p): (group["lr"], group["matrices"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    undecayed = list_undecayed(supernet)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(groups)
    for name, parameter in supernet.named_parameters():
        if name in undecayed:
            expected = (0.2, False, 0.0)
        elif "depthwise" in name:
            expected = (0.2, False, 1e-2)
        else:
            expected = (0.1, True, 1e-2)
        assert groups[id(parameter)] == expected, name


def test_other_optimisers_have_no_matrices() -> None:
    for name in ("sgd", "adamw"):
        optimizer = build_optimizer(build_toy_supernet(0), Recipe(optimizer=name))
        assert not any(group.get("matrices") for group in optimizer.param_groups)
