"""The fusion contract says what the installed runtime does, and is kept between runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from hardware import fusion_probe
from hardware.fusion_probe import probe_contract
from supernet.errors import InputError
from supernet.graph.fusion.contract import FusionContract, PatternOutcome


@pytest.fixture(scope="module")
def contract() -> FusionContract:
    return probe_contract()


def test_contract_names_the_runtime_and_survives_json(contract: FusionContract) -> None:
    import onnxruntime

    assert (contract.runtime, contract.version) == ("ONNX Runtime", onnxruntime.__version__)
    text = json.dumps(contract.to_json())
    assert FusionContract.from_json(json.loads(text)) == contract


def test_what_stays_in_int8_is_known_from_the_optimised_model(contract: FusionContract) -> None:
    kept = ["conv", "depthwise", "conv_relu", "add", "mul", "hard_swish_sum", "gemm_q", "max_pool"]
    kept += ["hard_swish_clip"]
    assert all(contract.keeps(pattern) for pattern in kept)
    lost = ["hard_sigmoid", "hard_swish", "gelu", "layer_norm", "reduce_mean", "conv_clip_beyond"]
    assert not any(contract.keeps(pattern) for pattern in lost)
    assert dict(contract.find("conv").operators)["QLinearConv"] == 1
    assert contract.find_kernel("add") == "QLinearAdd"
    assert contract.find_kernel("block4_matmul") == "MatMulNBits"


def test_cache_is_used_until_the_runtime_or_the_patterns_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contract: FusionContract
) -> None:
    cache = tmp_path / "contract.json"
    assert probe_contract(cache=cache) == contract
    known = {outcome.pattern: outcome for outcome in contract.outcomes}
    probed: list[str] = []

    def probe(name: str, *rest: object) -> PatternOutcome:
        probed.append(name)
        return known[name]

    monkeypatch.setattr(fusion_probe, "_probe_pattern", probe)
    assert probe_contract(cache=cache) == contract
    assert not probed
    other: list[dict[str, str]] = [
        {"version": "0.1"},
        {"patterns_digest": "0" * 12},
        {"machine": "other"},
    ]
    for change in other:
        cache.write_text(json.dumps({**contract.to_json(), **change}))
        assert probe_contract(cache=cache) == contract
        assert probed == sorted(known)
        assert FusionContract.from_json(json.loads(cache.read_text())) == contract
        probed.clear()
    cache.write_text("{")
    assert probe_contract(cache=cache) == contract
    assert probed
    assert [p.name for p in tmp_path.iterdir()] == ["contract.json"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fp32", "conv"),
        ("int8", "conv"),
        ("int8", "linear"),
        ("int8", "matmul"),
        ("int8-dynamic", "linear"),
        ("weights4", "linear"),
        ("w4a8", "conv"),
        ("w2a8-tensor", "linear"),
        ("w32a32", "conv"),
    ],
)
def test_formats_that_the_runtime_executes(contract: FusionContract, name: str, kind: str) -> None:
    assert contract.explain_refusal(name, kind) is None


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("int8-dynamic", "conv", "has no kernel for a convolution in int8-dynamic"),
        (
            "weights4",
            "conv",
            "does not keep a convolution in weights4 in integers: it executes 1 Conv",
        ),
        ("w4a32", "conv", "1 DequantizeLinear"),
        ("w4a4", "linear", "does not keep a linear layer in w4a4 in integers: it executes 1 Clip"),
        ("w32a8", "conv", "quantizes float weights"),
        ("w4a8-group32", "conv", "does not keep a convolution in w4a8-group32 in integers"),
        ("weights4", "matmul", "has no kernel for a product of two activations"),
    ],
)
def test_refusals_name_runtime_version_and_layer(
    contract: FusionContract, name: str, kind: str, words: str
) -> None:
    sentence = contract.explain_refusal(name, kind)
    assert sentence is not None
    assert words in sentence
    assert f"ONNX Runtime {contract.version}" in sentence


def test_unknown_names_are_refused(contract: FusionContract) -> None:
    with pytest.raises(InputError, match="there is no format 'int7'"):
        contract.explain_refusal("int7", "conv")
    with pytest.raises(InputError, match="there is no kind of layer 'pool'"):
        contract.explain_refusal("int8", "pool")
    with pytest.raises(InputError, match=r"has no pattern 'convv'.*did you mean 'conv'"):
        contract.find("convv")
    with pytest.raises(InputError, match="unknown field 'more' in the fusion contract"):
        FusionContract.from_json({**contract.to_json(), "more": 1})
