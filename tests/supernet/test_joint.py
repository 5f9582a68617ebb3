"""Architecture and recipe in one space: there and back again, and searched together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from supernet.space import Choice, SearchSpace
from supernet.training.joint_space import (
    extract_architecture_positions,
    extract_architecture_space,
    join_member,
    make_joint_space,
    split_member,
)

ROOT = Path(__file__).resolve().parents[2]
SPACE = SearchSpace(
    (
        Choice("depth", (1, 2), "depth"),
        Choice("b1.width", (8, 16), "width"),
        Choice("b2.width", (8, 16, 24), "width", ("depth", 2)),
    )
)
RECIPE = {"learning_rate": (0.01, 0.1), "augment": ("none", "shift", "affine")}
JOINT = make_joint_space(SPACE, RECIPE)


def test_the_joint_space_holds_every_pair_and_travels_as_json():
    assert JOINT.size == SPACE.size * 6
    assert JOINT.names[-2:] == ("recipe.learning_rate", "recipe.augment")
    assert {JOINT.choice(name).kind for name in JOINT.names[-2:]} == {"recipe"}
    assert extract_architecture_space(JOINT) == SPACE
    assert extract_architecture_space(JOINT).digest == SPACE.digest
    again = SearchSpace.from_json(json.loads(json.dumps(JOINT.to_json())))
    assert again == JOINT


def test_members_split_and_join_to_themselves():
    rows = JOINT.sample(np.random.default_rng(0), 40)
    for member in JOINT.decode(rows):
        architecture, recipe = split_member(JOINT, member)
        assert set(recipe) == set(RECIPE)
        assert architecture.space_digest == SPACE.digest
        assert join_member(JOINT, architecture, recipe) == member
    columns = extract_architecture_positions(JOINT, rows)
    assert SPACE.decode(columns) == [
        split_member(JOINT, member)[0] for member in JOINT.decode(rows)
    ]


def test_what_does_not_belong_is_refused():
    with pytest.raises(ValueError, match="the space already has a recipe"):
        make_joint_space(JOINT, RECIPE)
    with pytest.raises(ValueError, match="at least one hyper-parameter"):
        make_joint_space(SPACE, {})
    with pytest.raises(ValueError, match=r"recipe\.augment' has no values"):
        make_joint_space(SPACE, {"augment": ()})
    with pytest.raises(ValueError, match="belongs to space"):
        split_member(JOINT, SPACE.smallest)
    with pytest.raises(ValueError, match=r"recipe\.augment = 'flip' is not a legal value"):
        join_member(JOINT, SPACE.smallest, {"learning_rate": 0.1, "augment": "flip"})
    with pytest.raises(ValueError, match=r"'recipe\.augment' is missing"):
        join_member(JOINT, SPACE.smallest, {"learning_rate": 0.1})


def test_the_example_searches_both_together():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    budget = ("--evaluations", "4", "--epochs", "1", "--pilots", "3")
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "joint_recipe.py"), *budget],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "144 architectures x recipes = 62,208 candidates" in lines[0]
    assert "after 4 evaluations of 1 epochs" in lines[2]
    points = [json.loads(line) for line in lines[3:]]
    assert points
    for point in points:
        assert set(point["recipe"]) >= {"learning_rate", "weight_decay", "ema_decay"}
        assert 0 <= point["test"] <= 1
    assert [p["macs"] for p in points] == sorted(p["macs"] for p in points)
