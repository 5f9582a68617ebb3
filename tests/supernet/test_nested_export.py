"""Subnetworks that share one file of weights compute what they compute alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from supernet.families import matlm, resnet
from supernet.generation.onnx_decoder import OnnxModel, write_decoder
from supernet.graph.lowering import lower
from supernet.graph.onnx_model import to_onnx
from supernet.nested_export import SHARED_WEIGHTS, share_weights
from supernet.precision.elastic import make_precision_elastic
from supernet.quantization.formats import parse_policy
from supernet.supernet import Supernet
from tests.toys.networks import draw_members, draw_tokens, shake_statistics

TEXT = matlm.Config(
    vocabulary=31, context=40, widths=(32, 64), heads=(2, 4), ffn=(32, 64, 128), depths=(2, 3)
)


def name_arrays(supernet: Supernet, prefix: str = "") -> dict[str, np.ndarray]:
    return {prefix + n: t.numpy() for n, t in supernet.model.state_dict().items()}


def write(
    folder: Path, models: dict[str, bytes], weights: bytes
) -> dict[str, ort.InferenceSession]:
    (folder / SHARED_WEIGHTS).write_bytes(weights)
    sessions = {}
    for name, content in models.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(content)
        sessions[name] = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return sessions


def test_decoders_share_every_weight_and_change_no_bit(tmp_path: Path) -> None:
    """Every width, number of heads, FFN size and depth, in the bytes of the largest alone."""
    net = shake_statistics(matlm.build(TEXT), 0.2)
    members = {a.digest: a for a in draw_members(net, 4)}
    networks = {digest: net.extract(a).eval() for digest, a in members.items()}
    alone = {digest: write_decoder(network) for digest, network in networks.items()}
    models, weights = share_weights(alone, name_arrays(net, "network."))
    sessions = write(tmp_path, models, weights)
    ids = draw_tokens(TEXT.vocabulary, 2, 9)
    for digest, session in sessions.items():
        ours = OnnxModel(session, TEXT.context)
        theirs = ort.InferenceSession(alone[digest], providers=["CPUExecutionProvider"])
        expected = OnnxModel(theirs, TEXT.context)
        found, past = ours.score(ids, ours.start(2))
        assert torch.equal(found, expected.score(ids, expected.start(2))[0])
        again, _ = ours.score(ids[:, :1], past)
        with torch.no_grad():
            whole = networks[digest](torch.cat((ids, ids[:, :1]), 1))
        torch.testing.assert_close(again, whole[:, -1:], rtol=1e-4, atol=1e-4)
    assert len(weights) < 1.02 * sum(p.numel() * 4 for p in net.model.parameters())
    without = sum(len(model) for model in models.values()) / len(models)
    assert without < 60_000, "models hold operators alone"


def test_only_what_is_used_is_stored(tmp_path: Path) -> None:
    net = matlm.build(TEXT).eval()
    digest = net.space.smallest.digest
    small = {digest: write_decoder(net.extract(net.space.smallest).eval())}
    _, weights = share_weights(small, name_arrays(net, "network."))
    assert len(weights) < 1.05 * 4 * net.parameter_count(net.space.smallest)


def test_what_is_no_corner_stays_in_the_model(tmp_path: Path) -> None:
    """Statistics of normalisation belong to one subnetwork; its weights are still shared."""
    net = shake_statistics(resnet.build(resnet.PRESETS["tiny"]), 0.1)
    members = {a.digest: a for a in draw_members(net, 2)}
    alone = {}
    for place, (digest, architecture) in enumerate(members.items()):
        network = net.extract(architecture).eval()
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer += place
        graph, found = lower(network, (net.example(architecture, 1),))
        values = {name: value for name, value in found.items() if value is not None}
        alone[digest] = to_onnx(graph, values).SerializeToString()
    models, weights = share_weights(alone, name_arrays(net))
    sessions = write(tmp_path, models, weights)
    outputs = []
    for digest, session in sessions.items():
        shape = net.input_shape(members[digest])
        x = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
        theirs = ort.InferenceSession(alone[digest], providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, {"input": x})[0])
        assert np.array_equal(outputs[-1], theirs.run(None, {"input": x})[0])
    assert len(weights) > 0.8 * 4 * net.parameter_count(net.space.largest)
    assert sum(map(len, alone.values())) > 1.5 * (len(weights) + sum(map(len, models.values())))


def test_integers_are_refused() -> None:
    net = make_precision_elastic(matlm.build(TEXT), parse_policy("w4a32-group16,fp32"))
    values = net.space.largest.to_dict()
    coarse = {n: "w4a32-group16" if n.endswith("precision") else v for n, v in values.items()}
    network = net.extract(net.space.architecture(coarse)).eval()
    with pytest.raises(ValueError, match="some computes in integers"):
        share_weights({"some": write_decoder(network)}, name_arrays(net, "network."))
