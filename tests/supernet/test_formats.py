"""Names of number formats and policies, and what is wrong with others."""

from __future__ import annotations

import re

import pytest

from supernet.errors import InputError
from supernet.quantization.formats import (
    FP32,
    INT8,
    INT8_DYNAMIC,
    NAMED,
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
    [("w7a8", "w7a8 has weights of 7 bits; they can have 2, 3, 4, 5, 6, 8, or 32 for float"),
     ("w1a8", "w1a8 has weights of 1 bit; they can have 2, 3, 4, 5, 6, 8, or 32 for float"),
     ("w4a5", "w4a5 has activations of 5 bits; they can have 4, 6, 8, or 32 for float"),
     ("int9", "unknown precision 'int9' (did you mean 'int8'?); there are weights4, int8,"),
     ("w4a8-group0", "granularity 'group0' is not offered; there are channel, tensor, and groups"),
     (f"w{'9' * 5000}a8", "unknown precision 'w999"),
     ("fp32", "precision 'fp32' leaves nothing to choose; name another format beside float"),
     ("layer:w32a32", "precision 'layer:w32a32' leaves nothing to choose"),
     ("int8,int8", "precision 'int8,int8' names int8 twice; name every format once"),
     ("int8,fp32,w8a8", "names int8 twice (int8 and w8a8 are one); name every format once"),
     ("block:int8", "precision 'block:int8' has 'block' in front of the colon; write layer: for"),
     ("layer:unit:int8", "has 'layer:unit' in front of the colon; write layer: for a format of"),
     (":int8", "precision ':int8' has '' in front of the colon"),
     ("research,int8", "precision 'research,int8' names research beside other formats; research"),
     ("", "precision '' names no format; give one or several, such as int8 or fp32,int8"),
     (" ", "precision ' ' names no format"),
     (",", "precision ',' names no format"),
     ("layer:", "precision 'layer:' names no format"),
     ("fp32,,int8", "has a comma with no format beside it; write fp32,int8"),
     ("fp32,int8,", "has a comma with no format beside it; write fp32,int8")],
)  # fmt: skip
def test_a_policy_that_is_none_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_policy(text)
    sentence = str(error.value)
    assert said in sentence
    assert not re.search(r"\?;|[;,:]\s*$|\.$|\n", sentence), "one sentence that goes on to a remedy"
    assert not re.search(r"\b(\w+) \1\b", sentence), "no word twice"


@pytest.mark.parametrize("name", [*NAMED, "w4a8", "w2a32", "w4a4", "w3a6-tensor-asym", "w32a8"])
@pytest.mark.parametrize("place", ["", "unit:", "layer:", " layer : "])
def test_a_single_format_has_float_beside_it(name: str, place: str) -> None:
    if name == "fp32":
        name = "w8a32"
    policy = parse_policy(f"{place} {name} ")
    assert set(policy.formats) == {FP32, find_format(name)}
    assert policy.per == ("layer" if "layer" in place else "unit")


def test_several_formats_have_float_where_it_is_named() -> None:
    assert FP32 not in parse_policy("int8,w4a8").formats
    assert FP32 in parse_policy("int8,fp32").formats
    assert FP32 in parse_policy(" research ").formats


def test_policies_list_formats_of_fewer_bits_first() -> None:
    assert parse_policy("fp32,int8").formats == (INT8, FP32)
    assert parse_policy("int8").formats == (INT8, FP32)
    assert parse_policy("int8-dynamic,weights4,fp32").formats == (WEIGHTS4, INT8_DYNAMIC, FP32)
    assert len(parse_policy("research").formats) == 7 * 4
    assert parse_policy("layer:int8").per == "layer"
