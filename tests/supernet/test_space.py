"""Spaces and architectures: canonical forms, exact size, vectorised operators, JSON and errors."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.space import Choice, SearchSpace
from tests.timing import saved_by_batching


def small_space() -> SearchSpace:
    return SearchSpace(
        (
            Choice("depth", (1, 2, 3), "depth"),
            Choice("block1.kernel", (3, 5), "kernel"),
            Choice("block2.kernel", (3, 5, 7), "kernel", ("depth", 2)),
            Choice("block2.bits", (4, 8), "precision", ("block2.kernel", 5)),
            Choice("block3.kernel", (3, 5), "kernel", ("depth", 3)),
        )
    )


def ofa_space() -> SearchSpace:
    choices = []
    for s in range(5):
        depth = Choice(f"stage{s}.depth", (2, 3, 4), "depth")
        choices.append(depth)
        for b in range(4):
            needs = (depth.name, b + 1) if b >= 2 else None
            choices.append(Choice(f"stage{s}.block{b}.kernel", (3, 5, 7), "kernel", needs))
            choices.append(Choice(f"stage{s}.block{b}.expand", (3, 4, 6), "expand", needs))
    return SearchSpace(tuple(choices))


def everything(space: SearchSpace) -> np.ndarray:
    ranges = [range(len(choice.values)) for choice in space.choices]
    return np.array(list(itertools.product(*ranges)), dtype=np.int16)


def test_size_equals_brute_force_and_the_closed_form() -> None:
    space = small_space()
    assert space.size == len(np.unique(space.canonical(everything(space)), axis=0))
    # Nine block variants; two, three or four blocks; five stages.
    assert ofa_space().size == (9**2 + 9**3 + 9**4) ** 5


def test_canonical_forms_are_unique_and_stable() -> None:
    space = small_space()
    raw = everything(space)
    canonical = space.canonical(raw)
    assert np.array_equal(space.canonical(canonical), canonical)
    networks = {}
    for row, architecture in zip(canonical.tolist(), space.decode(raw), strict=True):
        networks.setdefault(tuple(architecture.to_dict().items()), set()).add(tuple(row))
    assert all(len(rows) == 1 for rows in networks.values())
    assert len(networks) == space.size


def test_a_choice_of_an_inert_choice_is_inert() -> None:
    space = small_space()
    row = np.array([[0, 1, 2, 1, 1]], dtype=np.int16)
    assert space.active(row).tolist() == [[True, True, False, False, False]]
    assert space.canonical(row).tolist() == [[0, 1, 0, 0, 0]]
    # The dependency looks at the canonical state: a kernel of a missing block does not count.
    assert space.active(np.array([[1, 0, 0, 1, 0]]))[0, 3] == False  # noqa: E712


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_round_trips(seed: int) -> None:
    space = ofa_space()
    positions = space.sample(np.random.default_rng(seed), 20)
    architectures = space.decode(positions)
    assert np.array_equal(space.encode(architectures), positions)
    for architecture in architectures[:5]:
        assert space.architecture(architecture.to_dict()) == architecture
        assert space.architecture_from_json(architecture.to_json()) == architecture
        assert hash(space.architecture(architecture.to_dict())) == hash(architecture)


def test_sampling_is_uniform_per_choice_and_a_function_of_the_seed() -> None:
    space = small_space()
    first = space.sample(np.random.default_rng(7), 30_000)
    assert np.array_equal(first, space.sample(np.random.default_rng(7), 30_000))
    counts = np.bincount(first[:, 0], minlength=3)
    assert np.all(np.abs(counts - 10_000) < 400)  # five standard deviations


def test_mutation_changes_at_the_asked_rate_and_never_to_the_same_value() -> None:
    space = SearchSpace(tuple(Choice(f"c{i}", (0, 1, 2), "width") for i in range(20)))
    parents = space.sample(np.random.default_rng(0), 20_000)
    rng = np.random.default_rng(1)
    assert abs((space.mutate(parents, rng) != parents).mean() - 1 / 20) < 0.0025
    assert (space.mutate(parents, rng, rate=1.0) != parents).all()
    single = SearchSpace((Choice("only", (5,), "width"), Choice("two", (1, 2), "width")))
    assert single.mutate(np.zeros((4, 2), dtype=np.int16), rng, rate=1.0)[:, 0].tolist() == [0] * 4


def test_crossover_takes_every_gene_from_a_parent() -> None:
    space = ofa_space()
    rng = np.random.default_rng(0)
    a, b = space.sample(rng, 500), space.sample(rng, 500)
    child = space.crossover(a, b, rng)
    active = space.active(child)
    assert np.all(((child == a) | (child == b))[active])
    assert 0.3 < (child == a)[active & (a != b)].mean() < 0.7


def test_neighbours_are_all_networks_one_choice_away() -> None:
    space = small_space()
    row = space.encode([space.largest])[0]
    expected = {
        tuple(space.canonical(np.array([[*row[:i], p, *row[i + 1 :]]], dtype=np.int16))[0].tolist())
        for i in range(len(space))
        for p in range(len(space.choices[i].values))
    } - {tuple(row.tolist())}
    assert {tuple(r) for r in space.neighbours(row).tolist()} == expected


def test_restrict_counts_and_carries_over() -> None:
    space = small_space()
    part = space.restrict({"depth": [1, 3]})
    assert part.choice("block2.kernel").needs == ("depth", 3)
    members = {
        tuple(space.architecture(a.to_dict()).to_dict().items())
        for a in part.decode(everything(part))
    }
    assert len(members) == part.size
    assert "block3.kernel" not in space.restrict({"depth": [1]}).names


def test_digest_depends_on_content_only() -> None:
    assert small_space().digest == small_space().digest
    assert small_space().digest != small_space().restrict({"depth": [1, 2]}).digest
    assert small_space().largest.digest != small_space().smallest.digest


def test_diff_names_what_differs() -> None:
    space = small_space()
    difference = space.largest.diff(space.architecture({"depth": 1, "block1.kernel": 5}))
    assert difference == {
        "depth": (3, 1),
        "block2.kernel": (7, None),
        "block2.bits": (8, None),
        "block3.kernel": (5, None),
    }


def test_json_round_trip_and_damage() -> None:
    space = small_space()
    payload = space.to_json()
    assert SearchSpace.from_json(payload) == space
    payload["choices"][1]["values"] = [3, 5, 9]
    with pytest.raises(ValueError, match="edited or damaged"):
        SearchSpace.from_json(payload)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 1}, r"'block1.kernel' is missing; legal values are \[3, 5\]"),
        ({"depth": 9, "block1.kernel": 3}, r"depth = 9 is not a legal value.*\[1, 2, 3\]"),
        ({"depht": 1, "block1.kernel": 3}, "unknown choice 'depht'.*did you mean 'depth'"),
        ({"depth": True, "block1.kernel": 3}, "depth = True is not a legal value"),
        ({"depth": 2, "block1.kernel": 3}, "'block2.kernel' is missing"),
    ],
)
def test_bad_architectures_are_one_clear_sentence(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_space().architecture(values)


def test_architecture_of_another_space_is_refused() -> None:
    other = small_space().restrict({"depth": [1, 2]})
    with pytest.raises(ValueError, match="belongs to space"):
        small_space().encode([other.smallest])
    with pytest.raises(ValueError, match="belongs to space"):
        small_space().architecture_from_json(other.smallest.to_json())


def test_bad_spaces() -> None:
    with pytest.raises(ValueError, match="circle"):
        SearchSpace((Choice("a", (1,), "x", ("b", 1)), Choice("b", (1,), "x", ("a", 1))))
    with pytest.raises(ValueError, match=r"not in the space.*did you mean 'depth'"):
        SearchSpace((Choice("depth", (1,), "x"), Choice("b", (1,), "x", ("dept", 1))))
    with pytest.raises(ValueError, match="unique"):
        SearchSpace((Choice("a", (1,), "x"), Choice("a", (1,), "x")))
    with pytest.raises(ValueError, match="twice"):
        Choice("a", (1, 1), "x")


def test_many_architectures_are_made_canonical_at_once() -> None:
    space = ofa_space()
    rows = space.sample(np.random.default_rng(0), 100_000)
    assert saved_by_batching(space.canonical, rows) > 15  # measured 70


def test_the_space_needs_no_torch() -> None:
    code = "import supernet.space, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
