"""AttentiveNAS and BigNAS: width, depth, kernel and expansion per stage, resolution inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from supernet.dataclass_json import INLINE
from supernet.elastic.edits import Cut, Drop, Edit, Resize, Rule, Set
from supernet.errors import InputError
from supernet.families._attentive import (
    ACTIVATION,
    Block,
    Head,
    Resample,
    Stage,
    body_rows,
    choose_shortcut,
    make_block,
    shortcut_rows,
    tabulate,
)
from supernet.families._checks import (
    check_depths,
    check_filled,
    check_kernels,
    check_resolutions,
    check_rising,
)
from supernet.families._configuration import (
    describe_images,
    fit_resolutions,
    fit_to_digits,
    make_network,
)
from supernet.families._mobile import Normalize, conv_block, initialise, zero_last_norm
from supernet.families._mobile_rows import input_rows, kernel_rows, output_rows
from supernet.families._pixels import IMAGENET, PixelStatistics
from supernet.space import Architecture, Choice, SearchSpace, Value
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = (
    "Width, depth, kernel and expand ratio per stage, resolution inside (AttentiveNAS, BigNAS)"
)
DEFAULT_PRESET = "tiny"


# Wang et al. 2021, "AttentiveNAS", table 7 and the released configuration.
_ATTENTIVENAS = (
    Stage((16, 24), (1, 2), (3, 5), (1,), 1, False),
    Stage((24, 32), (3, 4, 5), (3, 5), (4, 5, 6), 2, False),
    Stage((32, 40), (3, 4, 5, 6), (3, 5), (4, 5, 6), 2, True),
    Stage((64, 72), (3, 4, 5, 6), (3, 5), (4, 5, 6), 2, False),
    Stage((112, 120, 128), (3, 4, 5, 6, 7, 8), (3, 5), (4, 5, 6), 1, True),
    Stage((192, 200, 208, 216), (3, 4, 5, 6, 7, 8), (3, 5), (6,), 2, True),
    Stage((216, 224), (1, 2), (3, 5), (6,), 1, True),
)
# Yu et al. 2020, "BigNAS", table 1; strides and squeeze-excites are those of EfficientNet-B0.
_BIGNAS = (
    Stage((16, 24), (1, 2), (3,), (1,), 1, True),
    Stage((24, 32), (2, 3), (3,), (6,), 2, True),
    Stage((40, 48), (2, 3), (3, 5), (6,), 2, True),
    Stage((80, 88), (2, 3, 4), (3, 5), (6,), 2, True),
    Stage((112, 120, 128), (2, 3, 4, 5, 6), (3, 5), (6,), 1, True),
    Stage((192, 200, 208, 216), (2, 3, 4, 5, 6), (3, 5), (6,), 2, True),
    Stage((320, 352), (1, 2), (3, 5), (6,), 1, True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one supernet of this space; the defaults are AttentiveNAS.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        resolutions: Sides in pixels to which the network brings images of the largest of them.
        stem_widths: Channels after the stem, rising.
        stem_stride: Stride of the stem.
        stages: Options of each stage.
        last_widths: Channels before the classifier, rising.
        head_expand: Channels before pooling, as a multiple of those of the last stage; the last
            layer then mixes pooled features. 0: the last layer comes before pooling.
        dropout: Share of features that training drops before the classifier.
        pixels: Statistics of pixels that images are normalised by.
        seed: Seed of the initial weights.
    """

    classes: int = 1000
    channels: int = 3
    resolutions: tuple[int, ...] = (192, 224, 256, 288)
    stem_widths: tuple[int, ...] = (16, 24)
    stem_stride: int = 2
    stages: tuple[Stage, ...] = _ATTENTIVENAS
    last_widths: tuple[int, ...] = (1792, 1984)
    head_expand: int = 6
    dropout: float = 0.2
    pixels: PixelStatistics = field(default=IMAGENET, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_filled(stages=self.stages)
        lists: dict[str, tuple[int, ...]] = {
            name: getattr(self, name) for name in ("resolutions", "stem_widths", "last_widths")
        }
        for number, stage in enumerate(self.stages, start=1):
            names = ("widths", "depths", "kernels", "expands")
            lists |= {f"{name} of stage {number}": getattr(stage, name) for name in names}
        check_filled(**lists)
        check_rising(**lists)
        for name, values in lists.items():
            if values[0] < 1 and "depths" not in name:
                raise InputError(f"{name} = {list(values)} must be at least 1")
        check_depths([stage.depths for stage in self.stages])
        for stage in self.stages:
            check_kernels(stage.kernels)
        check_resolutions(self.resolutions, self.stem_stride, stages=self.stages)


PRESETS: dict[str, Config] = {
    "attentivenas": Config(),
    "bignas": Config(
        resolutions=(192, 224, 288, 320),
        stem_widths=(32, 40),
        stages=_BIGNAS,
        last_widths=(1280, 1408),
        head_expand=0,
    ),
    "small-image": Config(
        classes=10,
        resolutions=(24, 28, 32),
        stem_stride=1,
        stages=(
            Stage((16, 24), (1, 2), (3, 5), (1,), 1, False),
            Stage((24, 32), (2, 3), (3, 5), (4, 5, 6), 1, False),
            Stage((32, 40), (2, 3, 4), (3, 5), (4, 5, 6), 2, True),
            Stage((64, 72), (2, 3, 4), (3, 5), (4, 5, 6), 2, False),
            Stage((112, 120, 128), (2, 3, 4), (3, 5), (4, 5, 6), 1, True),
            Stage((192, 200, 208, 216), (2, 3, 4), (3, 5), (6,), 2, True),
        ),
        last_widths=(1024, 1280),
    ),
    "tiny": fit_to_digits(
        Config(
            resolutions=(5, 6, 8),
            stem_widths=(8, 16),
            stem_stride=1,
            stages=(
                Stage((8, 16), (1, 2), (3, 5), (1,), 1, False),
                Stage((16, 24), (1, 2), (3, 5), (2, 4), 2, False),
                Stage((24, 32, 40), (1, 2), (3, 5), (3,), 2, True),
            ),
            last_widths=(64, 96),
            head_expand=3,
            dropout=0.1,
        )
    ),
}

configure = partial(fit_resolutions, PRESETS)


# -- the plain network ---------------------------------------------------------------------------


class AttentiveNet(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.resample = Resample(max(config.resolutions))
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        widths = config.stem_widths
        self.stem = conv_block(config.channels, widths[-1], 3, config.stem_stride, ACTIVATION)
        self.stages = nn.Sequential()
        for stage in config.stages:
            blocks = nn.Sequential()
            for index in range(stage.depths[-1]):
                inputs, stride = (stage.widths, 1) if index else (widths, stage.stride)
                blocks.append(make_block(stage, inputs, stride, follows=index > 0))
            self.stages.append(blocks)
            widths = stage.widths
        self.head = Head(
            widths[-1], config.head_expand, config.last_widths[-1], config.classes, config.dropout
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stem(self.normalize(self.resample(pixels)))
        logits: Tensor = self.head(self.stages(x))
        return logits


# -- the table -----------------------------------------------------------------------------------


def make_choices(config: Config) -> dict[str, Choice]:
    """Make all decisions by name, in the order of the space; some have one value alone."""
    choices = [
        Choice("resolution", config.resolutions, "resolution"),
        Choice("stem.width", config.stem_widths, "width"),
    ]
    for number, stage in enumerate(config.stages, start=1):
        choices += [
            Choice(f"stage{number}.width", stage.widths, "width"),
            Choice(f"stage{number}.depth", stage.depths, "depth"),
            Choice(f"stage{number}.kernel", stage.kernels, "kernel"),
            Choice(f"stage{number}.expand", stage.expands, "expand"),
        ]
    choices.append(Choice("last.width", config.last_widths, "width"))
    return {choice.name: choice for choice in choices}


def make_space(config: Config) -> SearchSpace:
    """Make the space: resolution, stem, then width, depth, kernel and expand ratio per stage."""
    return SearchSpace(tuple(c for c in make_choices(config).values() if len(c.values) > 1))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, AttentiveNet, _initialise)
    choices = make_choices(config)
    edits: list[Edit] = []
    if len(config.resolutions) > 1:
        edits.append(Resize("resolution", inside="resample"))
    before = choices["stem.width"]
    inputs = tabulate([before], int)
    edits += output_rows("stem", inputs)
    units = ["resample", "normalize", "stem"]
    for s, stage in enumerate(model.stages):
        assert isinstance(stage, nn.Sequential)
        width, depth, kernel, expand = (
            choices[f"stage{s + 1}.{part}"] for part in ("width", "depth", "kernel", "expand")
        )
        outputs = tabulate([width], int)
        if len(depth.values) > 1:
            edits.append(Drop(f"stages.{s}", tabulate([depth], int)))
        for b, block in enumerate(stage):
            assert isinstance(block, Block)
            path = f"stages.{s}.{b}"
            units.append(path)
            edits += body_rows(f"{path}.body", block.body, inputs, outputs, before, expand)
            if len(kernel.values) > 1:
                edits += kernel_rows(f"{path}.body.depthwise", kernel)
            if b == 0:
                stride = config.stages[s].stride
                kind = tabulate([before, width], partial(choose_shortcut, stride))
                edits += shortcut_rows(f"{path}.shortcut", block.shortcut, inputs, outputs, kind)
            before, inputs = width, outputs
    edits += _head_rows(config, inputs, before, choices["last.width"])
    size = max(config.resolutions)
    return Supernet(
        model,
        make_space(config),
        edits,
        units=[*units, "head"],
        inputs=describe_images(config.channels, size),
    )


def _head_rows(config: Config, inputs: Rule, before: Choice, last: Choice) -> list[Edit]:
    features = tabulate([last], int)
    rows = [
        *input_rows("head.expand", inputs),
        Cut("head.classifier.weight", 1, features),
        Set("head.classifier", "in_features", features),
    ]
    if not config.head_expand:
        return [*rows, *output_rows("head.expand", features)]
    pooled = tabulate([before], lambda w: config.head_expand * w)
    return [
        *rows,
        *output_rows("head.expand", pooled),
        Cut("head.mix.weight", 1, pooled),
        Set("head.mix", "in_channels", pooled),
        Cut("head.mix.weight", 0, features),
        Set("head.mix", "out_channels", features),
    ]


def _initialise(model: AttentiveNet) -> None:
    initialise(model)
    for module in model.modules():
        if isinstance(module, Block):
            # Every block has a shortcut: a deep network starts as a shallow one (BigNAS, 3.1).
            zero_last_norm(module.body.project)


# -- the published dictionary form ---------------------------------------------------------------


def to_published(config: Config, architecture: Architecture) -> dict[str, Any]:
    """Write ``{"resolution", "width", "depth", "kernel_size", "expand_ratio"}`` as released."""
    values = {
        name: architecture[name] if len(choice.values) > 1 else choice.values[0]
        for name, choice in make_choices(config).items()
    }
    stages = range(1, len(config.stages) + 1)

    def of(part: str) -> list[Value]:
        return [values[f"stage{s}.{part}"] for s in stages]

    return {
        "resolution": values["resolution"],
        "width": [values["stem.width"], *of("width"), values["last.width"]],
        "depth": of("depth"),
        "kernel_size": of("kernel"),
        "expand_ratio": of("expand"),
    }


def from_published(config: Config, record: Mapping[str, Any]) -> Architecture:
    """Read ``{"resolution", "width", "depth", "kernel_size", "expand_ratio"}``.

    Raises:
        InputError: A list is missing, has the wrong length or holds an illegal value.
    """
    count = len(config.stages)
    lengths = {"width": count + 2, "depth": count, "kernel_size": count, "expand_ratio": count}
    for key, length in lengths.items():
        if len(record.get(key, ())) != length:
            raise InputError(f"{key!r} must list {length} values, in the order of the network")
    if "resolution" not in record:
        raise InputError("'resolution' is missing; it is one number of pixels")
    values: dict[str, Value] = {"resolution": record["resolution"]}
    names = ["stem", *(f"stage{s}" for s in range(1, count + 1)), "last"]
    values |= {f"{n}.width": v for n, v in zip(names, record["width"], strict=True)}
    for key, part in (("depth", "depth"), ("kernel_size", "kernel"), ("expand_ratio", "expand")):
        values |= {f"{n}.{part}": v for n, v in zip(names[1:-1], record[key], strict=True)}
    choices = make_choices(config)
    for name, value in values.items():
        choices[name].position(value)
    return make_space(config).architecture(
        {name: value for name, value in values.items() if len(choices[name].values) > 1}
    )
