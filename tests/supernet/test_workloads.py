"""Costs of reading a prompt and of a single token, beside those of whole inputs."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from supernet.costs.workloads import Workload, make_inputs, parse_workload
from supernet.families import matlm, resnet, shell_elastic
from supernet.graph.onnx_model import to_onnx
from supernet.precision.elastic import make_precision_elastic
from supernet.quantization.formats import parse_policy
from tests.toys.networks import draw_members

CONFIG = matlm.Config(
    vocabulary=31, context=40, widths=(32,), heads=(2, 4), ffn=(32, 64), depths=(1, 2)
)


def test_names_are_read_and_written() -> None:
    assert parse_workload("") is None
    for name, workload in (("prefill:16", Workload(16)), ("decode:7", Workload(1, 7))):
        assert parse_workload(name) == workload
        assert workload.name == name
    for wrong in ("prefill", "decode:0", "decode:-1", "train:3", "prefill:1.5", "decode:07"):
        with pytest.raises(ValueError, match=f"workload '{wrong}' is unknown; use prefill:128"):
            parse_workload(wrong)


def count_macs(architecture, tokens: int, seen: int) -> int:
    """By hand: projections of every token, and attention to as many as are multiplied with."""
    values, w, size, groups = architecture.to_dict(), 32, 16, 2
    total = tokens * CONFIG.vocabulary * w
    for i in range(1, values["depth"] + 1):
        heads, m = values[f"layer{i}.heads"], values[f"layer{i}.ffn"]
        total += tokens * (2 * heads * size * w + 2 * groups * size * w + 3 * m * w)
        total += 2 * tokens * seen * heads * size
    return total


@pytest.mark.parametrize(
    ("name", "tokens", "seen"), [("", 40, 40), ("prefill:8", 8, 8), ("decode:20", 1, 21)]
)
def test_units_add_up_to_the_network(name: str, tokens: int, seen: int) -> None:
    net = matlm.build(CONFIG)
    workload = parse_workload(name)
    model = net.cost_model(workload)
    chosen = draw_members(net, 6)
    positions = net.space.encode(chosen)
    expected = [count_macs(architecture, tokens, seen) for architecture in chosen]
    assert model.macs(positions).tolist() == expected
    assert [net.graph(architecture, workload).macs for architecture in chosen] == expected
    assert model.parameters(positions).tolist() == [net.parameter_count(a) for a in chosen]


def test_the_graph_of_a_token_is_what_the_network_computes() -> None:
    net = matlm.build(CONFIG).eval()
    network = net.extract(net.space.smallest).eval()
    graph = net.graph(net.space.smallest, Workload(1, 9))
    assert [i.shape for i in graph.inputs] == [("batch", 1), *[("batch", 2, 9, 16)] * 2]
    assert graph.outputs[1].shape == ("batch", 2, 10, 16)
    values = {
        spec.name: network.state_dict()[spec.name.removeprefix("network.")].numpy()
        for spec in graph.weights
    }
    session = ort.InferenceSession(
        to_onnx(graph, values).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    key, value = (rng.standard_normal((1, 2, 9, 16)).astype(np.float32) for _ in range(2))
    ids = np.array([[5]])
    names = [given.name for given in session.get_inputs()]
    found = session.run(None, dict(zip(names, (ids, key, value), strict=True)))[0]
    with torch.no_grad():
        expected, _ = network(
            torch.from_numpy(ids), [(torch.from_numpy(key), torch.from_numpy(value))]
        )
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_units_differ_by_workload_and_by_what_is_known() -> None:
    net = matlm.build(CONFIG)
    digests = [
        {unit.digest for unit in net.cost_model(parse_workload(name)).distinct}
        for name in ("", "prefill:8", "decode:8", "decode:9")
    ]
    layers = [found & other for i, found in enumerate(digests) for other in digests[i + 1 :]]
    # Embedding and output layer read one token whatever is known of those before it.
    assert [len(both) for both in layers] == [0, 0, 0, 0, 0, 2]


def test_number_formats_have_units_of_a_token() -> None:
    net = make_precision_elastic(matlm.build(CONFIG), parse_policy("weights4,int8-dynamic,fp32"))
    model = net.cost_model(Workload(1, 8))
    assert {u.precision for u in model.distinct} == {"fp32", "int8-dynamic", "weights4"}


@pytest.mark.parametrize(
    ("family", "name", "message"),
    [
        (matlm, "prefill:65", "workload prefill:65 needs 65 tokens, and the context has 64"),
        (matlm, "decode:64", "workload decode:64 needs 65 tokens, and the context has 64"),
        (resnet, "prefill:8", "workload prefill:8 is for language models"),
    ],
)
def test_workloads_that_cannot_be_done(family, name: str, message: str) -> None:
    net = family.build(family.PRESETS["tiny"])
    with pytest.raises(ValueError, match=message):
        net.cost_model(parse_workload(name))


def test_a_network_without_keys_and_values_decodes_nothing() -> None:
    ids = torch.zeros((1, 9), dtype=torch.int64)
    with pytest.raises(ValueError, match="needs a network that keeps keys and values, such as a"):
        make_inputs(torch.nn.Embedding(3, 4), ids, Workload(1, 8))


def test_shells_have_a_table_for_single_tokens() -> None:
    net = shell_elastic.build(shell_elastic.PRESETS["tiny"])
    whole, decode = net.cost_model(), net.cost_model(Workload(1, 8))
    rows = net.space.encode([net.space.smallest, net.space.largest])
    assert (decode.macs(rows) < whole.macs(rows)).all()
    assert (decode.parameters(rows) == whole.parameters(rows)).all()
