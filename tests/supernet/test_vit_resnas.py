"""ViT-ResNAS against independent references: a written-out formula, masks, closed forms."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.families import vit_resnas as family
from supernet.families._pixels import PixelStatistics
from supernet.families.vit_resnas import Stage
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import Labels, TrainingMethod, Uniform
from tests.toys.networks import (
    assert_gradients_agree,
    assert_images_are_refused,
    assert_onnx_runtime_agrees,
    describe_images,
    draw_members,
    shake,
)

FIRST = Stage(widths=(6, 10), heads=(1, 3), head_size=4, ffn=(5, 9, 14), depths=(1, 2, 4))
SECOND = Stage(widths=(4, 12), heads=(2, 3), head_size=3, ffn=(7, 11), depths=(1, 3))
THIRD = Stage(widths=(9, 16), heads=(1, 2), head_size=5, ffn=(8, 13), depths=(1, 2))
CONFIG = family.Config(
    classes=7,
    channels=2,
    size=16,
    patch=2,
    stem_width=3,
    stages=(FIRST, SECOND, THIRD),
    # Kept in single precision, which holds these exactly.
    pixels=PixelStatistics((0.5, 0.25), (0.25, 0.5)),
)
IMAGES = torch.rand(3, 2, 16, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
EPS = 1e-5


def build_shaken() -> Supernet:
    """Every weight and statistic random, in float64."""
    net = shake(family.build(CONFIG))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("running_mean"):
                buffer.normal_(0, 0.2, generator=generator)
    return net


def list_blocks(stage: int, architecture: Architecture) -> list[tuple[int, int]]:
    """Heads and hidden units of the blocks of a stage, which is counted from 0."""
    name = f"stage{stage + 1}"
    return [
        (int(architecture[f"{name}.block{i}.heads"]), int(architecture[f"{name}.block{i}.ffn"]))
        for i in range(1, int(architecture[f"{name}.depth"]) + 1)
    ]


# -- the written-out formula -----------------------------------------------------------------------


def normalise(x: Tensor, w: dict[str, Tensor], path: str) -> Tensor:
    """LayerNorm over as many channels as there are, by its definition."""
    n = x.shape[-1]
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt()
    return scaled * w[f"{path}.weight"][:n] + w[f"{path}.bias"][:n]


def convolve(x: Tensor, w: dict[str, Tensor], path: str, stride: int) -> Tensor:
    """3x3 convolution, normalised by running statistics; ReLU."""
    x = F.conv2d(x, w[f"{path}.conv.weight"], None, stride, 1)
    mean, var, gain, bias = (
        w[f"{path}.bn.{n}"].view(-1, 1, 1)
        for n in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / (var + EPS).sqrt() * gain + bias).relu()


def attend(x: Tensor, w: dict[str, Tensor], path: str, heads: int, size: int) -> Tensor:
    """One head after the other."""
    width = x.shape[-1]
    total = w[f"{path}.out.bias"][:width]
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        q, k, v = (
            x @ w[f"{path}.{n}.weight"][part, :width].T + w[f"{path}.{n}.bias"][part]
            for n in ("query", "key", "value")
        )
        mixed = (q @ k.transpose(1, 2) / size**0.5).softmax(-1) @ v
        total = total + mixed @ w[f"{path}.out.weight"][:width, part].T
    return total


def reduce(x: Tensor, w: dict[str, Tensor], path: str, side: int, width: int) -> Tensor:
    """Token by token: nine neighbours by the filter's nine matrices, four tokens averaged."""
    inputs, half = x.shape[-1], side // 2
    filters = w[f"{path}.conv.weight"][:width, :inputs]
    normal = normalise(x, w, f"{path}.norm")
    tokens = []
    for row in range(half):
        for column in range(half):
            token = w[f"{path}.conv.bias"][:width] + w[f"{path}.shortcut.bias"][:width]
            for i in range(3):
                for j in range(3):
                    y, z = 2 * row + i - 1, 2 * column + j - 1
                    if 0 <= y < side and 0 <= z < side:
                        token = token + normal[:, y * side + z] @ filters[:, :, i, j].T
            corner = 2 * row * side + 2 * column
            pooled = sum(x[:, corner + d] for d in (0, 1, side, side + 1)) / 4
            token = token + pooled @ w[f"{path}.shortcut.weight"][:width, :inputs].T
            tokens.append(token + w[f"{path}.positions"][row * half + column, :width])
    return torch.stack(tokens, 1)


def formula(w: dict[str, Tensor], architecture: Architecture) -> Tensor:
    mean, std = (
        torch.tensor(part, dtype=torch.float64).view(2, 1, 1)
        for part in (CONFIG.pixels.mean, CONFIG.pixels.std)
    )
    stem = convolve((IMAGES - mean) / std, w, "embedding.first", 2)
    again = convolve(convolve(stem, w, "embedding.second", 1), w, "embedding.third", 1)
    x, side = (stem + again).flatten(2).transpose(1, 2), 8
    for s, stage in enumerate(CONFIG.stages):
        width = int(architecture[f"stage{s + 1}.width"])
        if s == 0:
            x = x @ w["embedding.patches.weight"][:width, :, 0, 0].T
            x = x + w["embedding.patches.bias"][:width] + w["embedding.positions"][:, :width]
        else:
            x = reduce(x, w, f"reductions.{s - 1}", side, width)
            side //= 2
        for i, (heads, hidden) in enumerate(list_blocks(s, architecture)):
            path = f"stages.{s}.{i}"
            normal = normalise(x, w, f"{path}.norm1")
            x = x + attend(normal, w, f"{path}.attention", heads, stage.head_size)
            normal = normalise(x, w, f"{path}.norm2")
            up = normal @ w[f"{path}.ffn.up.weight"][:hidden, :width].T
            up = F.gelu(up + w[f"{path}.ffn.up.bias"][:hidden])
            x = x + up @ w[f"{path}.ffn.down.weight"][:width, :hidden].T
            x = x + w[f"{path}.ffn.down.bias"][:width]
    pooled = normalise(x, w, "head.norm").mean(1)
    return pooled @ w["head.classifier.weight"][:, :width].T + w["head.classifier.bias"]


def name_weights(net: Supernet) -> dict[str, Tensor]:
    weights = {n: p.detach().clone().requires_grad_() for n, p in net.model.named_parameters()}
    return weights | dict(net.model.named_buffers())


@pytest.mark.exactness
def test_subnetworks_equal_the_written_out_formula() -> None:
    net = build_shaken()
    weights = name_weights(net)
    with torch.no_grad():
        for architecture in draw_members(net, 12):
            expected = formula(weights, architecture)
            assert (net(IMAGES, architecture) - expected).abs().max() < 1e-11
            assert (net.extract(architecture)(IMAGES) - expected).abs().max() < 1e-11
            assert expected.std(0).min() > 1e-4


@pytest.mark.exactness
def test_gradients_equal_autograd_through_the_written_out_formula() -> None:
    net = build_shaken()
    for architecture in draw_members(net, 2):
        net.zero_grad()
        net(IMAGES, architecture).square().sum().backward()
        weights = name_weights(net)
        formula(weights, architecture).square().sum().backward()
        assert_gradients_agree(net.model, weights, 1e-8)


def masked(net: Supernet, architecture: Architecture) -> nn.Module:
    """The full network in which whatever is not kept adds nothing; its widths are whole."""
    model = copy.deepcopy(net.model)
    with torch.no_grad():
        for s, stage in enumerate(model.stages):
            kept = list_blocks(s, architecture)
            for i, layer in enumerate(stage):
                heads, hidden = kept[i] if i < len(kept) else (0, 0)
                layer.attention.out.weight[:, heads * CONFIG.stages[s].head_size :] = 0
                layer.ffn.down.weight[:, hidden:] = 0
                if i >= len(kept):
                    layer.attention.out.bias.zero_()
                    layer.ffn.down.bias.zero_()
    return model


@pytest.mark.exactness
def test_heads_hidden_units_and_blocks_equal_the_masked_full_network() -> None:
    net = build_shaken()
    whole = {f"stage{s}.width": stage.widths[-1] for s, stage in enumerate(CONFIG.stages, 1)}
    with torch.no_grad():
        for member in draw_members(net, 10):
            architecture = net.space.architecture({**member.to_dict(), **whole})
            expected = masked(net, architecture)(IMAGES)
            assert (net(IMAGES, architecture) - expected).abs().max() < 1e-11


# -- counts ----------------------------------------------------------------------------------------


def count_by_hand(architecture: Architecture, config: family.Config) -> int:
    stem, patches = config.stem_width, (config.size // config.patch) ** 2
    total = 9 * config.channels * stem + 2 * 9 * stem * stem + 3 * 2 * stem
    before = 0
    for s, stage in enumerate(config.stages):
        width = int(architecture[f"stage{s + 1}.width"])
        if s == 0:
            total += stem * (config.patch // 2) ** 2 * width + width
        else:
            patches //= 4
            total += 2 * before + 9 * before * width + width + before * width + width
        total += patches * width
        for heads, hidden in list_blocks(s, architecture):
            inner = heads * stage.head_size
            total += 3 * (width * inner + inner) + inner * width + width
            total += width * hidden + hidden + hidden * width + width + 4 * width
        before = width
    return total + 2 * before + before * config.classes + config.classes


def test_parameters_equal_the_closed_form() -> None:
    config = replace(CONFIG, stages=(FIRST, SECOND))
    net = family.build(config)
    chosen = draw_members(net, 6)
    expected = [count_by_hand(architecture, config) for architecture in chosen]
    positions = net.space.encode(chosen)
    assert net.cost_model().parameters(positions).tolist() == expected
    assert [net.parameter_count(architecture) for architecture in chosen] == expected


def test_macs_equal_the_closed_form() -> None:
    net = family.build(CONFIG)
    for architecture in draw_members(net, 4):
        expected = 64 * 9 * (2 * 3 + 2 * 3 * 3)
        tokens, before = 64, 3
        for s, stage in enumerate(CONFIG.stages):
            width = int(architecture[f"stage{s + 1}.width"])
            if s == 0:
                expected += tokens * before * width
            else:
                tokens //= 4
                expected += tokens * (9 + 1) * before * width
            for heads, hidden in list_blocks(s, architecture):
                inner = heads * stage.head_size
                expected += tokens * (4 * width * inner + 2 * width * hidden)
                expected += 2 * tokens * tokens * inner
            before = width
        assert net.macs(architecture) == expected + before * CONFIG.classes


@pytest.mark.parametrize("preset", ["sr_tiny", "sr_tiny_mh"])
def test_the_published_spaces_are_built(preset: str) -> None:
    config = family.PRESETS[preset]
    with torch.device("meta"):
        net = family.build(config)
    held = sum(p.numel() for p in net.model.parameters())
    assert held == count_by_hand(net.space.largest, config)
    assert net.parameter_count(net.space.smallest) == count_by_hand(net.space.smallest, config)


def test_the_space_counts_blocks_that_are_there() -> None:
    space = family.make_space(CONFIG)
    first, second = (sum(6**d for d in (1, 2, 4)), sum(4**d for d in (1, 3)))
    assert space.size == 2 * first * 2 * second * 2 * (4 + 16)
    assert space.choice("stage1.block1.heads").needs is None
    # Depths are 1, 2 and 4: the third block comes together with the fourth.
    assert space.choice("stage1.block3.ffn").needs == ("stage1.depth", 4)
    assert space.choice("stage2.block2.heads").needs == ("stage2.depth", 3)


def test_every_unit_is_counted_and_belongs_to_its_choices() -> None:
    net = family.build(CONFIG)
    assert set(net.units) == {
        "normalize", "embedding", "reductions.0", "reductions.1", "head",
        *(f"stages.0.{i}" for i in range(4)), *(f"stages.1.{i}" for i in range(3)),
        *(f"stages.2.{i}" for i in range(2)),
    }  # fmt: skip


# -- training --------------------------------------------------------------------------------------


class Drawn:
    """A sampler of given architectures."""

    def __init__(self, architectures: tuple[Architecture, ...]) -> None:
        self.architectures = architectures

    def draw(self, step: int, score: object) -> tuple[Architecture, ...]:
        return self.architectures


@pytest.mark.exactness
def test_a_batch_of_groups_has_the_mean_gradient_of_separate_passes() -> None:
    """Multi-architectural sampling (Liao et al. 2021), as the ``multi`` recipe has it."""
    net = build_shaken().eval()
    targets = torch.tensor([0, 3, 6, 2, 2, 5])
    inputs = torch.cat((IMAGES, IMAGES.flip(0) * 0.7))
    drawn = tuple(draw_members(net, 1))
    method = TrainingMethod(net, Drawn(drawn), Labels(), split=True)
    assert len(method.backward(0, inputs, targets)) == len(drawn)
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for group, architecture in enumerate(drawn):
        net.zero_grad()
        part = slice(2 * group, 2 * group + 2)
        # Losses are taken in single precision, also of networks in double.
        F.cross_entropy(net(inputs[part], architecture).float(), targets[part]).backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad / len(drawn)
    assert set(found) <= set(total)
    largest = max(gradient.abs().max() for gradient in total.values())
    for name, gradient in total.items():
        error = (found.get(name, torch.zeros_like(gradient)) - gradient).abs().max()
        assert error <= 1e-6 * largest, name


def test_the_recipe_of_several_architectures_a_batch_learns() -> None:
    net = family.build(family.Config(size=4, classes=4)).train()
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(4).repeat(8)
    bright = F.one_hot(targets, 4).view(-1, 1, 2, 2).float()
    x = 0.3 * torch.rand(32, 1, 4, 4, generator=generator)
    x = x + 0.7 * bright.repeat_interleave(2, 2).repeat_interleave(2, 3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    method = TrainingMethod(net, Uniform(net.space, count=4), split=True)
    for step in range(30):
        optimizer.zero_grad()
        order = torch.randperm(32, generator=generator)
        method.backward(step, x[order], targets[order])
        optimizer.step()
    with torch.no_grad():
        for architecture in draw_members(net, 2):
            # Statistics of the stem are everyone's: no network needs its own.
            loss = F.cross_entropy(net.eval()(x, architecture), targets)
            assert loss < 0.7, architecture


# -- the rest --------------------------------------------------------------------------------------


def test_onnx_runtime_agrees_for_any_batch() -> None:
    net = family.build(CONFIG).eval()
    for architecture in draw_members(net, 2):
        network = net.extract(architecture)
        outputs = assert_onnx_runtime_agrees(network, IMAGES.float(), rtol=1e-5)
        assert_onnx_runtime_agrees(network, IMAGES[:1].float(), rtol=1e-5)
        assert outputs.std(0).min() > 1e-4


def test_positions_do_not_decay() -> None:
    net = family.build(CONFIG)
    expected = {f"model.{p}.positions" for p in ("embedding", "reductions.0", "reductions.1")}
    assert net.no_decay == expected <= {name for name, _ in net.named_parameters()}


def test_patches_of_an_odd_side_are_cut_at_full_resolution() -> None:
    net = family.build(replace(CONFIG, size=12, patch=3)).eval()
    with torch.no_grad():
        assert net(IMAGES[..., :12, :12].float(), net.space.smallest).shape == (3, 7)


def test_configure_follows_the_data() -> None:
    config = family.configure("tiny", describe_images(3, 20, 20))
    assert (config.size, config.patch, config.classes, config.channels) == (20, 5, 7, 3)
    assert config.pixels.mean == (0.5, 0.5, 0.5)
    message = "not for images of 9x9 pixels: size = 9 is not a multiple of 4"
    assert_images_are_refused(family, "tiny", 9, message)


def change_first(**values: object) -> dict[str, object]:
    return {"stages": (replace(FIRST, **values), SECOND)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ()}, "stages is empty"),
        ({"patch": 0}, "patch = 0 must be at least 1"),
        ({"stem_width": 0}, "stem_width = 0 must be at least 1"),
        ({"size": 20}, "size = 20 is not a multiple of 8, .* token of stage 3 .* patch = 2"),
        ({"dropout": 1.0}, "dropout = 1.0 must be at least 0 and below 1"),
        (change_first(widths=(10, 6)), r"widths of stage 1 = \[10, 6\] must be rising"),
        (change_first(heads=()), "heads of stage 1 is empty"),
        (change_first(heads=(0, 1)), "heads of stage 1 = 0 must be at least 1"),
        (change_first(head_size=0), "head_size of stage 1 = 0 must be at least 1"),
        (change_first(depths=(0, 1)), r"depths = \[0, 1\] of stage 1 gives a stage without blocks"),
    ],
)
def test_impossible_configurations(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)
