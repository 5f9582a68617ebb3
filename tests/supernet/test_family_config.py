"""Configurations survive JSON as they always did; what cannot be one is refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from supernet.dataclass_json import INLINE, decode_dataclass, encode_dataclass
from supernet.families import attentivenas, resnet
from supernet.family_config import decode_config, encode_config, find_config_class

# As written by the release before the codec, when every family had functions of its own.
RESNET = (
    '{"classes": 10, "channels": 1, "size": 8, "stem_width": 16, "widths": [[8, 16], [16, 24, 32], '
    '[32, 48, 64]], "depths": [[1, 2], [1, 2], [1, 2]], "mean": [0.3], "std": [0.37], "seed": 0}'
)
ATTENTIVENAS = (
    '{"classes": 10, "channels": 1, "resolutions": [5, 6, 8], "stem_widths": [8, 16], '
    '"stem_stride": 1, "stages": [{"widths": [8, 16], "depths": [1, 2], "kernels": [3, 5], '
    '"expands": [1], "stride": 1, "squeeze": false}, {"widths": [16, 24], "depths": [1, 2], '
    '"kernels": [3, 5], "expands": [2, 4], "stride": 2, "squeeze": false}, {"widths": '
    '[24, 32, 40], "depths": [1, 2], "kernels": [3, 5], "expands": [3], "stride": 2, "squeeze": '
    'true}], "last_widths": [64, 96], "head_expand": 3, "dropout": 0.1, "mean": [0.3], "std": '
    '[0.37], "seed": 0}'
)


@pytest.mark.parametrize(
    ("family", "text"),
    [(resnet, RESNET), (attentivenas, ATTENTIVENAS)],
    ids=["resnet", "attentivenas"],
)
def test_records_are_those_of_older_runs(family: ModuleType, text: str) -> None:
    config = family.PRESETS["tiny"]
    assert json.dumps(encode_config(family, config)) == text
    assert decode_config(family, json.loads(text)) == config


@dataclass(frozen=True)
class Part:
    width: int
    name: str = "part"


@dataclass(frozen=True)
class Other:
    height: float


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    pair: tuple[int, float] = (1, 2.0)
    rate: float = 0.5
    limit: int | None = None
    mixed: Part | Other | None = None
    exact: bool = False
    nested: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Framed:
    title: str
    part: Part = field(default=Part(3), metadata=INLINE)
    depth: int = 1


WHOLE = Whole((Part(1), Part(2, "x")), (3, 4.5), 2, None, Other(1.5), True, ((1,), (), (2, 3)))


def test_nested_dataclasses_tuples_and_unions_come_back_as_they_were() -> None:
    payload = json.loads(json.dumps(encode_dataclass(WHOLE)))
    back = decode_dataclass(Whole, payload, "the whole")
    assert back == WHOLE
    # A digest of a space tells 2 from 2.0, so a whole number among floats has to stay one.
    assert type(back.rate) is int
    assert decode_dataclass(Whole, {"parts": []}, "the whole") == Whole(())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratee": 1}, r"unknown field 'ratee'.*did you mean 'rate'\?\) in the whole"),
        (
            {"parts": [{"widht": 1}]},
            r"field 'widht' .*mean 'width'\?\) in parts\[0\]",
        ),
        ({"parts": [{}]}, r"field 'width' is missing in parts\[0\] of the whole"),
        ({"parts": [3]}, r"parts\[0\] of the whole is 3; it must be an object"),
        ({"parts": "abc"}, "parts = 'abc' in the whole is impossible; it must be a list"),
        ({"rate": "fast"}, "rate = 'fast' in the whole is impossible; it must be a finite number"),
        ({"rate": float("nan")}, "rate = nan in the whole is impossible"),
        ({"pair": [1]}, r"pair = \[1\] in the whole is impossible; it must be a list of 2"),
        ({"limit": True}, "limit = True in the whole is impossible; it must be a whole number"),
        ({"exact": 1}, "exact = 1 in the whole is impossible; it must be true or false"),
        ({"nested": [[1.5]]}, r"nested\[0\]\[0\] = 1.5 in the whole is impossible"),
        (
            {"mixed": {"depth": 1}},
            "unknown field 'depth'.* in mixed of the whole; or unknown field",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_dataclass(Whole, {"parts": [], **change}, "the whole")


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="the family config is 'tiny'; it must be an object"):
        decode_config(resnet, "tiny")  # type: ignore[arg-type]


def test_an_annotation_that_json_cannot_hold_is_named() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: complex = 1j

    with pytest.raises(ValueError, match="value of the config is annotated <class 'complex'>"):
        decode_dataclass(Odd, {"value": 1}, "the config")


def test_a_family_of_ones_own_may_bring_its_own_functions() -> None:
    own = ModuleType("own")
    own.to_json = lambda config: {"secret": config}  # type: ignore[attr-defined]
    own.from_json = lambda payload: payload["secret"]  # type: ignore[attr-defined]
    assert decode_config(own, encode_config(own, 7)) == 7


def test_a_family_that_does_not_say_what_its_configuration_is() -> None:
    silent = ModuleType("silent")
    silent.build = lambda config: None  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="module 'silent' does not say what its configuration is"):
        find_config_class(silent)
    assert find_config_class(resnet) is resnet.Config


def test_fields_of_an_inline_dataclass_stand_among_those_of_the_whole() -> None:
    framed = Framed("a", Part(5, "x"))
    payload = encode_dataclass(framed)
    assert list(payload.items()) == [("title", "a"), ("width", 5), ("name", "x"), ("depth", 1)]
    assert decode_dataclass(Framed, payload, "the whole") == framed
    # What is missing is as in the default of the whole, which need not be that of the part.
    assert decode_dataclass(Framed, {"title": "b", "name": "y"}, "the whole").part == Part(3, "y")
    for change, message in (
        ({"part": {"width": 1}}, "unknown field 'part'"),
        ({"width": "x"}, "width = 'x' in part of the whole is impossible"),
        ({"widht": 1}, "did you mean 'width'"),
    ):
        with pytest.raises(ValueError, match=message):
            decode_dataclass(Framed, {"title": "a", **change}, "the whole")
    with pytest.raises(ValueError, match="field 'title' is missing in the whole"):
        decode_dataclass(Framed, {"width": 1}, "the whole")
