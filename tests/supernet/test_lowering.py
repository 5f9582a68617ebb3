"""Lowered graphs run in ONNX Runtime and give the module's own outputs, for every batch size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.graph.onnx_model import to_onnx
from tests.timing import least_seconds

ort = pytest.importorskip("onnxruntime")


def session(model: bytes, optimized: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def check(module: nn.Module, *inputs: torch.Tensor, tolerance: float = 1e-5) -> Graph:
    """Parity at the traced batch size and at 1, and proof that outputs follow inputs."""
    graph, weights = lower(module, inputs)
    runner = session(to_onnx(graph, weights).SerializeToString())
    for size in (len(inputs[0]), 1):
        part = [i[:size] for i in inputs]
        with torch.no_grad():
            expected = module(*part)
        got = runner.run(None, {s.name: i.numpy() for s, i in zip(graph.inputs, part, strict=True)})
        assert got[0].shape == tuple(expected.shape)
        assert np.abs(got[0] - expected.numpy()).max() <= tolerance
    with torch.no_grad():
        rows = module(*inputs)
    assert (rows[0] - rows[1]).abs().max() > 1e-3, "the output does not depend on the input"
    return graph


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random affine parameters and running statistics, so that BatchNorm is not the identity."""
    generator = torch.Generator().manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for tensor, low in ((child.weight, 0.5), (child.running_var, 0.5),
                                (child.bias, -0.5), (child.running_mean, -0.5)):  # fmt: skip
                tensor.data = torch.rand(tensor.shape, generator=generator) + low
    return module.eval()


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(width, width // 4, 1)
        self.expand = nn.Conv2d(width // 4, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(self.pool(x)))))


class MBConv(nn.Module):
    def __init__(self, cin: int = 8, cout: int = 8, kernel: int = 5, stride: int = 1) -> None:
        super().__init__()
        mid = cin * 3
        self.body = nn.Sequential(
            nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.Hardswish(),
            nn.Conv2d(mid, mid, kernel, stride, kernel // 2, groups=mid, bias=False),
            nn.BatchNorm2d(mid), nn.Hardswish(), SqueezeExcite(mid),
            nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout),
        )  # fmt: skip
        self.residual = cin == cout and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class Decoder(nn.Module):
    def __init__(self, width: int = 16, heads: int = 2, vocabulary: int = 11) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 32), nn.Linear(32, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight
        self.heads = heads

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        x = x + self.down(F.silu(self.up(F.rms_norm(x, (c,)))))
        return self.head(x)


def images(count: int = 3, channels: int = 8, size: int = 10) -> torch.Tensor:
    scale = torch.arange(1, count + 1).view(-1, 1, 1, 1) * 2.0  # samples that differ clearly
    generator = torch.Generator().manual_seed(1)
    return scale * torch.rand(count, channels, size, size, generator=generator)


def test_mbconv_with_squeeze_excite_matches_torch() -> None:
    torch.manual_seed(0)
    graph = check(randomise(MBConv()), images())
    assert graph.outputs[0].shape == ("batch", 8, 10, 10)
    assert {n.scope for n in graph.nodes} >= {"body.0", "body.6.pool", "body.6.reduce"}


def test_costs_are_counted_for_one_sample() -> None:
    graph, _ = lower(MBConv(8, 12, 3, 2).eval(), (images(),))
    at_10, at_5 = 10 * 10, 5 * 5
    convolutions = at_10 * 24 * 8 + at_5 * 24 * 9 + 24 * 6 * 2 + at_5 * 12 * 24
    assert graph.macs == convolutions
    module = MBConv(8, 12, 3, 2)
    assert graph.parameters == sum(p.numel() for p in module.parameters())


def test_strided_block_and_classifier_match_torch() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        MBConv(8, 12, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(12, 20), nn.Hardswish(), nn.Linear(20, 10),
    )  # fmt: skip
    check(randomise(network), images())


def test_mlp_matches_torch() -> None:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(32, 24), nn.GELU(), nn.LayerNorm(24), nn.Linear(24, 16),
              nn.GELU(approximate="tanh"), nn.Linear(16, 8), nn.Tanh(),
              nn.Softmax(dim=-1)]  # fmt: skip
    check(nn.Sequential(*layers).eval(), torch.randn(4, 2, 16))


def test_causal_decoder_matches_torch_and_is_causal() -> None:
    torch.manual_seed(0)
    decoder = Decoder().eval()
    tokens = torch.randint(0, 11, (3, 6))
    graph = check(decoder, tokens)
    names = [w.name for w in graph.weights]
    assert len(names) == len(set(names))
    assert "head.weight" not in names  # tied: stored once
    later = tokens.clone()
    later[:, -1] = (later[:, -1] + 1) % 11
    runner = session(to_onnx(*lower(decoder, (tokens,))).SerializeToString())
    first, second = (runner.run(None, {"input": t.numpy()})[0] for t in (tokens, later))
    assert np.array_equal(first[:, :-1], second[:, :-1])
    assert not np.allclose(first[:, -1], second[:, -1])


def test_attention_macs_count_both_products() -> None:
    graph, _ = lower(Decoder().eval(), (torch.zeros(2, 6, dtype=torch.int64),))
    linear = 6 * (16 * 48 + 16 * 16 + 16 * 32 * 2 + 16 * 11)
    assert graph.macs == linear + 2 * (6 * 6 * 16)


OPERATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "masked": lambda x: x.masked_fill(torch.ones(6, 6).triu(1).bool(), -1e4).softmax(-1),
    "where": lambda x: torch.where(x > 0.5, x, 2.0 - x) * (x != 0.25),
    "scalars": lambda x: (3.0 - x) / 2 + x.pow(2) * x.rsqrt() - 1,
    "clamp": lambda x: torch.round(x * 9).clamp(2, 7) + F.relu6(x * 8) + x.clamp_min(0.3),
    "shapes": lambda x: x.permute(0, 2, 1).unsqueeze(1).expand(-1, 4, -1, -1).flatten(1, 2),
    "split": lambda x: torch.cat([p * (i + 1) for i, p in enumerate(x.split([1, 2, 3], 1))], 1),
    "slices": lambda x: torch.stack([x[:, 0], x[:, -1, :], x[:, 1::2].sum(1)], dim=1),
    "positions": lambda x: x + torch.arange(6, device=x.device).float().expand(len(x), 6, 6),
    "class token": lambda x: torch.cat([torch.ones(1, 1, 6, device=x.device)
                                        .expand(len(x), -1, -1), x], 1),
    "batched products": lambda x: x @ x.transpose(1, 2) + torch.bmm(x, x),
    "in place": lambda x: F.relu_((x - 0.5).mul_(3.0).add_(x)),
    "einsum": lambda x: torch.einsum("bij,bkj->bik", x, x),
    "means": lambda x: x.mean(-1, keepdim=True) + x.amax(1, keepdim=True)
    + x.mean((1, 2))[:, None, None],
    "fold batch": lambda x: x.reshape(-1, 6).mul(2).view(len(x), 6, 6),
    "zeros": lambda x: torch.cat([x.new_zeros(len(x), 1, 6), torch.zeros_like(x), x], 1),
}  # fmt: skip


class Operation(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return OPERATIONS[self.name](x)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_match_torch(name: str) -> None:
    check(Operation(name).eval(), torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_interpolation_matches_torch(mode: str, align: bool) -> None:
    class Resize(nn.Module):
        def __init__(self, *size: int) -> None:
            super().__init__()
            self.size = size

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.interpolate(x, size=self.size, mode=mode, align_corners=align)

    for size in ((7, 7), (20, 20), (5, 13), (1, 1)):
        graph = check(Resize(*size).eval(), images(channels=2))
        assert graph.macs == 0
        assert "Resize" in {node.op for node in graph.nodes}


def test_mask_argument_of_attention_matches_torch() -> None:
    class Masked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            keep = torch.ones(6, 6, dtype=torch.bool, device=x.device).tril()
            bias = torch.linspace(0, 1, 36, device=x.device).view(6, 6)
            first = F.scaled_dot_product_attention(x, x, x, attn_mask=keep)
            return first + F.scaled_dot_product_attention(x, x, x, attn_mask=bias, scale=0.3)

    check(Masked().eval(), torch.rand(3, 2, 6, 4))


def test_meta_module_gives_the_same_graph_without_values() -> None:
    module = randomise(MBConv())
    real, values = lower(module, (images(),))
    meta, nothing = lower(module.to("meta"), (images().to("meta"),))
    assert meta.digest == real.digest
    assert set(values) == set(nothing)
    assert all(v is None for v in nothing.values())
    assert session(to_onnx(meta, batch=1).SerializeToString())


def test_lowering_leaves_the_module_alone() -> None:
    module = randomise(MBConv())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    lower(module, (images(),))
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    module(images())


def test_unsupported_operator_is_named_with_its_module() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(x)

    network = nn.Sequential(nn.Identity(), Odd()).eval()
    with pytest.raises(ValueError, match=r"aten\.linalg_inv.* in module '1' \(Odd\)"):
        lower(network, (torch.rand(2, 3, 3),))


def test_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training mode; call \.eval\(\)"):
        lower(MBConv(), (images(),))


def test_block_histogram_equals_torch_export(tmp_path: Path) -> None:
    """The optimised graph has the operators torch's own exporter leads to, so it costs the same."""
    torch.manual_seed(0)
    module = randomise(MBConv())
    graph, weights = lower(module, (images(),))
    exported = tmp_path / "torch.onnx"
    torch.onnx.export(module, (images(1),), str(exported), dynamo=False, opset_version=17)
    histograms, outputs = [], []
    for name, data in (("ours", to_onnx(graph, weights, batch=1).SerializeToString()),
                       ("theirs", exported.read_bytes())):  # fmt: skip
        runner = session(data, tmp_path / f"{name}.onnx")
        feed = {runner.get_inputs()[0].name: images(1).numpy()}
        outputs.append(runner.run(None, feed)[0])
        onnx = pytest.importorskip("onnx")
        nodes = onnx.load(tmp_path / f"{name}.onnx").graph.node
        histograms.append(Counter(n.op_type for n in nodes))
    assert histograms[0] == histograms[1]
    assert np.abs(outputs[0] - outputs[1]).max() <= 1e-5


def test_lowering_a_block_is_fast() -> None:
    module, example = randomise(MBConv()).to("meta"), images().to("meta")
    lower(module, (example,))
    module(example)
    lowering = least_seconds(lambda: lower(module, (example,)))
    assert lowering < 3 * least_seconds(lambda: module(example))  # measured a third


@pytest.mark.hf
def test_hugging_face_bert_matches_torch() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=16, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertModel(config).eval()
    check(model.encoder.layer[0], torch.randn(3, 7, 32))

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = model

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=tokens).last_hidden_state

    check(Hidden().eval(), torch.randint(0, 50, (3, 7)))
