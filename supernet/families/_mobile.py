"""Building blocks of mobile image networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hswish": nn.Hardswish, "swish": nn.SiLU}
TORCH_EPS = 1e-5


def make_divisible(width: float, divisor: int = 8) -> int:
    """Round a width to a multiple of ``divisor``, never losing more than a tenth."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


# -- modules -------------------------------------------------------------------------------------


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
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    activation: str | None,
    groups: int = 1,
    eps: float = TORCH_EPS,
) -> nn.Sequential:
    """Stack convolution, batch normalisation and activation: ``conv``, ``bn``, ``act``.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        kernel: Side of the filters in pixels; padding keeps the image's size at stride 1.
        stride: Stride of the convolution.
        activation: A key of ``ACTIVATIONS``, or ``None``.
        groups: Groups of the convolution.
        eps: What normalisation adds to the variance.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        ),
        bn=nn.BatchNorm2d(outputs, eps=eps),
    )
    if activation is not None:
        layers["act"] = ACTIVATIONS[activation]()
    return nn.Sequential(layers)


class InvertedResidual(nn.Module):
    """Expand, depthwise, squeeze-excite, project; with a shortcut when shapes allow.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        hidden: Channels of the depthwise convolution; there is no expansion when they equal
            ``inputs``.
        kernel: Side of the depthwise filters.
        stride: Stride of the depthwise convolution.
        activation: A key of ``ACTIVATIONS``.
        squeeze: Whether there is a squeeze-excite.
        eps: What normalisation adds to the variance.
        shortcut: ``False`` for none even where shapes allow.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        kernel: int,
        stride: int,
        activation: str,
        *,
        squeeze: bool = False,
        eps: float = TORCH_EPS,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        same = hidden == inputs
        self.expand = None if same else conv_block(inputs, hidden, 1, 1, activation, eps=eps)
        self.depthwise = conv_block(hidden, hidden, kernel, stride, activation, hidden, eps)
        self.squeeze = SqueezeExcite(hidden) if squeeze else None
        self.project = conv_block(hidden, outputs, 1, 1, None, eps=eps)
        self.shortcut = shortcut and stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project(y)
        return x + y if self.shortcut else y


class Head(nn.Module):
    """Expand, pool, mix features, classify (MobileNetV3, section 5.1)."""

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


class MixHead(nn.Module):
    """Mix features, pool, classify (MobileNetV2).

    Args:
        inputs: Channels that come in.
        features: Channels that are pooled.
        classes: Number of classes.
        dropout: Share of pooled features that training drops.
        activation: A key of ``ACTIVATIONS``.
        eps: What normalisation adds to the variance.
    """

    def __init__(
        self,
        inputs: int,
        features: int,
        classes: int,
        dropout: float,
        activation: str,
        eps: float = TORCH_EPS,
    ) -> None:
        super().__init__()
        self.mix = conv_block(inputs, features, 1, 1, activation, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.mix(x).mean((2, 3))))
        return logits


def initialise(model: nn.Module) -> None:
    """Initialise a convolutional classifier, from torch's generator.

    The last normalisation of every :class:`InvertedResidual` with a shortcut starts at zero, so
    that deep subnetworks start as shallow ones (BigNAS, section 3.1).
    """
    initialise_layers(model)
    for module in model.modules():
        if isinstance(module, InvertedResidual) and module.shortcut:
            zero_last_norm(module.project)


def initialise_layers(model: nn.Module) -> None:
    """Initialise convolutions and linear layers, from torch's generator; biases become zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def zero_last_norm(block: nn.Module) -> None:
    """Let a :func:`conv_block` put out zeros at first, so that what it is added to passes."""
    nn.init.zeros_(block.get_parameter("bn.weight"))
