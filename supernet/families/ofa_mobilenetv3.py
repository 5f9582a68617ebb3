"""OFA-MobileNetV3: elastic kernel, depth, expansion and resolution (Cai et al. 2020, section 3)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.config import known_fields
from supernet.data import DataShape
from supernet.edits import Cut, Derive, Drop, Edit, Resize, Rule, Set, follow
from supernet.quantize import weight_bits
from supernet.space import Architecture, Choice, SearchSpace, Value, nearest
from supernet.supernet import InputSpec, Supernet

TASK = "image-classification"
SUMMARY = "MobileNetV3 with elastic kernel, depth, expand ratio and resolution (Once-for-All)"
DEFAULT_PRESET = "tiny"
CONTRACT_PRESETS = ("tiny", "tiny-bits")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: output width before the multiplier, stride, squeeze-excite and activation."""

    width: int
    stride: int
    squeeze: bool
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one OFA-MobileNetV3 supernet.

    ``stages`` are the elastic ones; the stem and the first, fixed block come before them. Widths
    are those before ``width_multiplier``. ``weight_bits`` left empty keeps weights in float.
    """

    classes: int = 1000
    channels: int = 3
    resolutions: tuple[int, ...] = (128, 160, 192, 224)
    kernels: tuple[int, ...] = (3, 5, 7)
    expands: tuple[int, ...] = (3, 4, 6)
    depths: tuple[int, ...] = (2, 3, 4)
    weight_bits: tuple[int, ...] = ()
    width_multiplier: float = 1.0
    stem_width: int = 16
    stem_stride: int = 2
    first_width: int = 16
    stages: tuple[Stage, ...] = (
        Stage(24, 2, False, "relu"),
        Stage(40, 2, True, "relu"),
        Stage(80, 2, False, "hswish"),
        Stage(112, 1, True, "hswish"),
        Stage(160, 2, True, "hswish"),
    )
    final_width: int = 960
    feature_width: int = 1280
    dropout: float = 0.1
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        for name in ("resolutions", "kernels", "expands", "depths", "stages"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; a supernet needs at least one value")
        for name in ("resolutions", "kernels", "expands", "depths", "weight_bits"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} = {list(values)} must be rising, without repeats")
        if min(self.depths) < 1:
            raise ValueError(f"depths = {list(self.depths)} gives a stage without blocks")
        if any(kernel % 2 == 0 or kernel < 1 for kernel in self.kernels):
            raise ValueError(f"kernels = {list(self.kernels)} must be odd")
        if self.total_stride > min(self.resolutions):
            raise ValueError(
                f"resolution {min(self.resolutions)} is below the total stride "
                f"{self.total_stride}; nothing would be left of the image"
            )

    @property
    def total_stride(self) -> int:
        """Pixels of the input for one position of the last feature map, per axis."""
        stride = self.stem_stride
        for stage in self.stages:
            stride *= stage.stride
        return stride


_SMALL_IMAGE = Config(
    classes=10,
    resolutions=(24, 28, 32),
    stem_stride=1,
    stages=(
        Stage(24, 1, False, "relu"),
        Stage(40, 2, True, "relu"),
        Stage(80, 2, False, "hswish"),
        Stage(112, 1, True, "hswish"),
        Stage(160, 2, True, "hswish"),
    ),
)
_TINY = Config(
    classes=10,
    channels=1,
    resolutions=(5, 6, 8),
    kernels=(3, 5),
    expands=(1, 2, 4),
    depths=(1, 2),
    stem_stride=1,
    stages=(
        Stage(16, 1, False, "relu"),
        Stage(24, 2, True, "hswish"),
        Stage(32, 2, True, "hswish"),
    ),
    final_width=96,
    feature_width=128,
    mean=(0.3,),
    std=(0.37,),
)
PRESETS: dict[str, Config] = {
    "imagenet": Config(),
    "small-image": _SMALL_IMAGE,
    "tiny": _TINY,
    "tiny-bits": replace(_TINY, weight_bits=(4, 8, 32)),
}


def configure(preset: str, shape: DataShape) -> Config:
    """The preset with the classes, channels, resolution and statistics of a data set.

    Resolutions above what the data offers are scaled down with it, keeping their ratios.

    Raises:
        ValueError: Unknown preset, or images too small for its strides.
    """
    if preset not in PRESETS:
        raise ValueError(
            f"unknown preset {preset!r}{nearest(preset, list(PRESETS))}; "
            f"presets are {', '.join(PRESETS)}"
        )
    base = PRESETS[preset]
    channels, height, width = shape.input
    if height != width:
        raise ValueError(f"images are {height}x{width}; this family takes square ones")
    largest = base.resolutions[-1]
    resolutions = tuple(sorted({max(1, round(r * height / largest)) for r in base.resolutions}))
    return replace(
        base,
        classes=shape.classes,
        channels=channels,
        resolutions=resolutions,
        mean=tuple(shape.mean),
        std=tuple(shape.std),
    )


def from_json(payload: Mapping[str, Any]) -> Config:
    """The configuration that ``dataclasses.asdict`` and JSON made a record of.

    Raises:
        ValueError: A field is unknown.
    """
    values = known_fields(Config, payload)
    if "stages" in values:
        values["stages"] = tuple(
            stage if isinstance(stage, Stage) else Stage(**stage) for stage in values["stages"]
        )
    return Config(**values)


def to_json(config: Config) -> dict[str, Any]:
    """A JSON-able record of a configuration."""
    return asdict(config)


# -- the plain network ---------------------------------------------------------------------------


def make_divisible(width: float, divisor: int = 8) -> int:
    """Round a width to a multiple of ``divisor``, never losing more than a tenth."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


class Normalize(nn.Module):
    """Pixels in 0...1 to zero mean and unit deviation per channel; shape ``(N, C, H, W)``."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


class SqueezeExcite(nn.Module):
    """Channel attention with a quarter of the channels inside (MobileNetV3, section 5.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = make_divisible(channels // 4)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(pooled))))


def conv_block(
    inputs: int, outputs: int, kernel: int, stride: int, activation: str | None, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch normalisation and activation (``relu``, ``hswish`` or ``None``)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        ),
        bn=nn.BatchNorm2d(outputs),
    )
    if activation is not None:
        layers["act"] = {"relu": nn.ReLU, "hswish": nn.Hardswish}[activation]()
    return nn.Sequential(layers)


class InvertedResidual(nn.Module):
    """Expand, depthwise, squeeze-excite, project; with a shortcut when shapes allow."""

    def __init__(
        self, inputs: int, outputs: int, hidden: int, kernel: int, stride: int, stage: Stage
    ) -> None:
        super().__init__()
        act = stage.activation
        self.expand = None if hidden == inputs else conv_block(inputs, hidden, 1, 1, act)
        self.depthwise = conv_block(hidden, hidden, kernel, stride, act, groups=hidden)
        self.squeeze = SqueezeExcite(hidden) if stage.squeeze else None
        self.project = conv_block(hidden, outputs, 1, 1, None)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project(y)
        return x + y if self.shortcut else y


class Head(nn.Module):
    """Expand, pool, mix features, classify."""

    def __init__(
        self, inputs: int, final: int, features: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.expand = conv_block(inputs, final, 1, 1, "hswish")
        self.mix = nn.Conv2d(final, features, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x).mean((2, 3), keepdim=True)
        x = F.hardswish(self.mix(x)).flatten(1)
        logits: Tensor = self.classifier(self.dropout(x))
        return logits


class MobileNetV3(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        stem, first, widths, final, features = _widths(config)
        self.normalize = Normalize(config.mean, config.std)
        self.stem = conv_block(config.channels, stem, 3, config.stem_stride, "hswish")
        plain = Stage(first, 1, False, "relu")
        self.first = InvertedResidual(stem, first, stem, 3, 1, plain)
        self.stages = nn.ModuleList()
        inputs = first
        for stage, width in zip(config.stages, widths, strict=True):
            blocks = nn.Sequential()
            for index in range(max(config.depths)):
                hidden = make_divisible(round(inputs * max(config.expands)))
                stride = stage.stride if index == 0 else 1
                blocks.append(
                    InvertedResidual(inputs, width, hidden, max(config.kernels), stride, stage)
                )
                inputs = width
            self.stages.append(blocks)
        self.head = Head(inputs, final, features, config.classes, config.dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.first(self.stem(self.normalize(pixels)))
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def _widths(config: Config) -> tuple[int, int, list[int], int, int]:
    def scaled(width: int) -> int:
        return make_divisible(width * config.width_multiplier)

    return (
        scaled(config.stem_width),
        scaled(config.first_width),
        [scaled(stage.width) for stage in config.stages],
        scaled(config.final_width),
        scaled(config.feature_width),
    )


# -- the table -----------------------------------------------------------------------------------


def transform_kernel(weight: Tensor, values: tuple[Value, ...], *matrices: Tensor) -> Tensor:
    """Shrink depthwise filters step by step: crop the centre, then mix its entries.

    Each step has one learned matrix that all channels of a layer share (OFA, section 3.2,
    "elastic kernel size"); at identity the result is the plain crop.

    Args:
        weight: ``(channels, 1, K, K)`` at the largest kernel.
        values: ``(kernel,)``.
        matrices: One ``(k*k, k*k)`` per smaller kernel, from the largest ``k`` down.

    Returns:
        ``(channels, 1, kernel, kernel)``.
    """
    kernel = int(values[0])
    if weight.shape[-1] == kernel:
        return weight
    # The chain of steps is linear, so it is one matrix: only the rows that the next, smaller
    # crop looks at are carried along.
    mixing = matrices[0]
    first = size = isqrt(mixing.shape[0])
    for matrix in matrices[1:]:
        if size == kernel:
            break
        smaller = isqrt(matrix.shape[0])
        mixing = matrix.mm(mixing.index_select(0, _centre(size, smaller, matrix.device)))
        size = smaller
    crop = weight.flatten(1).index_select(1, _centre(weight.shape[-1], first, weight.device))
    return F.linear(crop, mixing).view(-1, 1, size, size)


@cache
def _centre(size: int, smaller: int, device: torch.device) -> Tensor:
    """Flat indices of the middle ``smaller x smaller`` of a ``size x size`` square."""
    margin = (size - smaller) // 2
    # Kept across calls, so it must not be born as an inference tensor.
    with torch.inference_mode(False):
        square = torch.arange(size * size, device=device).view(size, size)
        return square[margin : margin + smaller, margin : margin + smaller].flatten()


def make_space(config: Config) -> SearchSpace:
    """All choices: resolution, then depth and blocks of each stage in network order."""
    choices = [Choice("resolution", config.resolutions, "resolution")]
    for s in range(1, len(config.stages) + 1):
        depth = Choice(f"stage{s}.depth", config.depths, "depth")
        choices.append(depth)
        for b in range(1, max(config.depths) + 1):
            later = b > min(config.depths)
            least = min(d for d in config.depths if d >= b)
            needs = (depth.name, least) if later else None
            prefix = f"stage{s}.block{b}"
            choices.append(Choice(f"{prefix}.kernel", config.kernels, "kernel", needs))
            choices.append(Choice(f"{prefix}.expand", config.expands, "expand", needs))
            if config.weight_bits:
                bits = Choice(f"{prefix}.weight_bits", config.weight_bits, "weight_bits", needs)
                choices.append(bits)
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """The supernet with freshly initialised weights, a function of ``config.seed``.

    The last normalisation of every block with a shortcut starts at zero, so that deep
    subnetworks start as shallow ones (BigNAS, section 3.1).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = MobileNetV3(config)
        _initialise(model)
    space = make_space(config)
    edits: list[Edit] = [Resize("resolution")]
    shared: dict[str, nn.Parameter] = {}
    units = ["normalize", "stem", "first"]
    for s, stage in enumerate(model.stages, start=1):
        assert isinstance(stage, nn.Sequential)
        edits.append(Drop(f"stages.{s - 1}", follow(space.choice(f"stage{s}.depth"), int)))
        for b, block in enumerate(stage, start=1):
            assert isinstance(block, InvertedResidual)
            path = f"stages.{s - 1}.{b - 1}"
            units.append(path)
            shared.update(_matrices(config, f"stage{s}_block{b}"))
            edits += _block_rows(path, f"stage{s}.block{b}", block, space, config)
    return Supernet(
        model,
        space,
        edits,
        units=[*units, "head"],
        inputs=InputSpec((config.channels, *[max(config.resolutions)] * 2), torch.float32),
        shared=shared,
        # Decay would pull the matrices from the identity to zero.
        no_decay=[f"shared.{name}" for name in shared],
    )


def _matrices(config: Config, prefix: str) -> dict[str, nn.Parameter]:
    smaller = sorted(config.kernels)[:-1]
    return {f"{prefix}_kernel{k}": nn.Parameter(torch.eye(k * k)) for k in reversed(smaller)}


def _block_rows(
    path: str, prefix: str, block: InvertedResidual, space: SearchSpace, config: Config
) -> list[Edit]:
    expand, kernel = space.choice(f"{prefix}.expand"), space.choice(f"{prefix}.kernel")
    assert block.expand is not None
    convolution = block.expand[0]
    assert isinstance(convolution, nn.Conv2d)
    inputs = convolution.in_channels
    hidden = follow(expand, lambda e: make_divisible(round(inputs * e)))
    matrices = tuple(_matrices(config, prefix.replace(".", "_")))
    rows: list[Edit] = [
        *_output_rows(f"{path}.expand", hidden),
        *_output_rows(f"{path}.depthwise", hidden),
        Set(f"{path}.depthwise.conv", "in_channels", hidden),
        Set(f"{path}.depthwise.conv", "groups", hidden),
        Derive(f"{path}.depthwise.conv.weight", (kernel.name,), transform_kernel, matrices),
        Set(f"{path}.depthwise.conv", "kernel_size", follow(kernel, lambda k: (k, k))),
        Set(f"{path}.depthwise.conv", "padding", follow(kernel, lambda k: (k // 2, k // 2))),
        Cut(f"{path}.project.conv.weight", 1, hidden),
        Set(f"{path}.project.conv", "in_channels", hidden),
    ]
    weights = [f"{path}.{part}.conv.weight" for part in ("expand", "depthwise", "project")]
    if block.squeeze is not None:
        rows += _squeeze_rows(f"{path}.squeeze", hidden)
        weights += [f"{path}.squeeze.{part}.weight" for part in ("reduce", "expand")]
    if config.weight_bits:
        rows += weight_bits(space.choice(f"{prefix}.weight_bits"), weights)
    return rows


def _output_rows(path: str, width: Rule) -> list[Edit]:
    names = ("weight", "bias", "running_mean", "running_var")
    return [
        Cut(f"{path}.conv.weight", 0, width),
        Set(f"{path}.conv", "out_channels", width),
        *(Cut(f"{path}.bn.{name}", 0, width) for name in names),
        Set(f"{path}.bn", "num_features", width),
    ]


def _squeeze_rows(path: str, width: Rule) -> list[Edit]:
    inner = Rule(
        width.choices, {key: make_divisible(size // 4) for key, size in width.values.items()}
    )
    return [
        Cut(f"{path}.reduce.weight", 0, inner),
        Cut(f"{path}.reduce.weight", 1, width),
        Cut(f"{path}.reduce.bias", 0, inner),
        Set(f"{path}.reduce", "in_channels", width),
        Set(f"{path}.reduce", "out_channels", inner),
        Cut(f"{path}.expand.weight", 0, width),
        Cut(f"{path}.expand.weight", 1, inner),
        Cut(f"{path}.expand.bias", 0, width),
        Set(f"{path}.expand", "in_channels", inner),
        Set(f"{path}.expand", "out_channels", width),
    ]


def _initialise(model: MobileNetV3) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, InvertedResidual) and module.shortcut:
            norm = module.project[1]
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.zeros_(norm.weight)


# -- the familiar dictionary form ----------------------------------------------------------------


def to_ofa(config: Config, architecture: Architecture) -> dict[str, Any]:
    """``{"ks", "e", "d", "r"}`` as in the ``ofa`` package; inert blocks hold the first option."""
    stages = range(1, len(config.stages) + 1)
    blocks = [(s, b) for s in stages for b in range(1, max(config.depths) + 1)]
    return {
        "ks": [architecture[f"stage{s}.block{b}.kernel"] for s, b in blocks],
        "e": [architecture[f"stage{s}.block{b}.expand"] for s, b in blocks],
        "d": [architecture[f"stage{s}.depth"] for s in stages],
        "r": [architecture["resolution"]],
    }


def from_ofa(config: Config, space: SearchSpace, record: Mapping[str, Any]) -> Architecture:
    """Read ``{"ks", "e", "d", "r"}``; ``r`` may be a number or a list of one.

    Raises:
        ValueError: A list is missing, has the wrong length or holds an illegal value.
    """
    stages, depth = len(config.stages), max(config.depths)
    resolution = record.get("r", [max(config.resolutions)])
    values: dict[str, Value] = {
        "resolution": resolution[0] if isinstance(resolution, (list, tuple)) else resolution
    }
    for key, count in (("ks", stages * depth), ("e", stages * depth), ("d", stages)):
        if len(record.get(key, ())) != count:
            raise ValueError(f"{key!r} must list {count} values, one per block or stage")
    for s in range(stages):
        values[f"stage{s + 1}.depth"] = record["d"][s]
        for b in range(depth):
            prefix = f"stage{s + 1}.block{b + 1}"
            values[f"{prefix}.kernel"] = record["ks"][s * depth + b]
            values[f"{prefix}.expand"] = record["e"][s * depth + b]
    for name in space.names:
        if name.endswith(".weight_bits"):
            values[name] = record.get("weight_bits", 32)
    return space.architecture(values)
