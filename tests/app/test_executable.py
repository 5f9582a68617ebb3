"""Formats that a network or a runtime has nothing for: one sentence with what to use instead."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from app.runs.executable import check_executable
from hardware.fusion_probe import probe_contract
from supernet.errors import InputError
from supernet.families import matlm, resnet
from supernet.testing.precision_networks import build_elastic


@pytest.mark.parametrize(
    ("family", "policy", "where", "remedy"),
    [
        (resnet, "w4a4", "unit stem cannot be executed in w4a4: ", "w4a8, or w4a32 with"),
        (resnet, "w8a6-tensor", "unit stem cannot be executed in w8a6-tensor", "int8, or w8a32"),
        (resnet, "w32a4", "unit stem cannot be executed in w32a4: ", "executes int8, or fp32"),
        (resnet, "w32a8", "unit stem cannot be executed in w32a8: ", "; use int8 or fp32"),
        (resnet, "layer:w4a4", "layer stem.conv cannot be executed in w4a4", "w4a8, or w4a32"),
        (resnet, "research", "unit stem cannot be executed in w2a4: ", "w2a8, or w2a32 with"),
        (resnet, "w4a8-group7", "layer head.classifier has ", "can be w4a8-group16, or w4a8 with"),
        (resnet, "weights4", "layer head.classifier has ", "can be w4a32-group16, or w4a32 with"),
        (matlm, "w4a8-group32", "unit layers.0 cannot be executed in w4a8-", "; use int8 or fp32"),
    ],
)
def test_a_refusal_says_where_why_and_what_instead(
    family: ModuleType, policy: str, where: str, remedy: str
) -> None:
    with pytest.raises(InputError) as error:
        check_executable(build_elastic(family, policy), probe_contract())
    sentence = str(error.value)
    assert sentence.startswith(where)
    assert remedy in sentence
    assert not re.search(r"\?;|\.$|\n|\b(\w+) \1\b", sentence)


@pytest.mark.parametrize("policy", ["w8a8-asym", "w2a32-asym", "w4a8-tensor", "int8-dynamic"])
def test_what_can_be_executed_is_let_through(policy: str) -> None:
    check_executable(build_elastic(resnet, policy), probe_contract())


def test_a_network_of_convolutions_has_no_choice_among_formats_of_products() -> None:
    with pytest.raises(InputError, match=r"has a choice among weights4,int8-dynamic: .* alone$"):
        build_elastic(_without_products(), "weights4,int8-dynamic")


def _without_products() -> ModuleType:
    """The residual family with pooled channels as its answer."""
    module = ModuleType("somewhere.pooled")
    module.__dict__.update({k: v for k, v in vars(resnet).items() if not k.startswith("__")})

    def build(config: resnet.Config) -> object:
        supernet = resnet.build(config)
        kept = [unit for unit in supernet.units if unit != "head"]
        return type(supernet)(
            supernet.model, supernet.space, supernet.edits, units=kept, inputs=supernet.inputs
        )

    module.build = build  # type: ignore[attr-defined]
    return module
