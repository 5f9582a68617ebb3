"""Names of number formats and policies, and what is wrong with others."""

from __future__ import annotations

import pytest

from supernet.errors import InputError
from supernet.quantization.formats import (
    FP32,
    INT8,
    INT8_DYNAMIC,
    WEIGHTS4,
    find_format,
    make_format,
    parse_policy,
)


@pytest.mark.parametrize("name", ["fp32", "int8", "int8-dynamic", "weights4", "w4a8", "w2a32",
                                  "w3a6-tensor", "w4a32-group32", "w8a8-asym"])  # fmt: skip
def test_a_format_is_found_by_the_name_it_has(name: str) -> None:
    assert find_format(name).name == name


def test_one_format_has_one_name() -> None:
    assert find_format("w8a8") is INT8
    assert make_format(32, 32) is FP32


@pytest.mark.parametrize(
    ("text", "said"),
    [("w7a8", "7 bits for weights are not offered; there are 2, 3, 4, 5, 6, 8, 32"),
     ("w4a5", "5 bits for activations are not offered; there are 4, 6, 8, 32"),
     ("int9", "unknown precision 'int9'; did you mean 'int8'?"),
     ("fp32", "leaves nothing to choose"),
     ("int8,int8", "names a format twice"),
     ("block:int8", "unit or layer, not 'block'"),
     ("", "unknown precision ''")],
)  # fmt: skip
def test_a_policy_that_is_none_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("?", "\\?")):
        parse_policy(text)


def test_policies_list_formats_of_fewer_bits_first() -> None:
    assert parse_policy("fp32,int8").formats == (INT8, FP32)
    assert parse_policy("int8").formats == (INT8, FP32)
    assert parse_policy("int8-dynamic,weights4,fp32").formats == (WEIGHTS4, INT8_DYNAMIC, FP32)
    assert len(parse_policy("research").formats) == 7 * 4
    assert parse_policy("layer:int8").per == "layer"
