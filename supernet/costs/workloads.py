"""What a network is asked to do when its latency is taken: whole inputs, a prompt, or one token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from supernet.errors import InputError

_NAME = re.compile(r"(prefill|decode):([1-9][0-9]{0,8})")
EXAMPLE = "prefill:128 (a prompt of 128 tokens) or decode:128 (one token after 128)"


@dataclass(frozen=True)
class Workload:
    """What a language model reads in one forward pass.

    Reading a prompt (prefill) and a single token after others (decode) are different work: one
    multiplies matrices by many rows, the other waits for the weights, and number formats that help
    one may harm the other.

    Args:
        tokens: New tokens.
        cached: Tokens before them, whose keys and values are known; ``None`` where none are kept.
    """

    tokens: int
    cached: int | None = None

    @property
    def name(self) -> str:
        """As :func:`parse_workload` reads it."""
        return f"prefill:{self.tokens}" if self.cached is None else f"decode:{self.cached}"


def parse_workload(name: str) -> Workload | None:
    """Parse the name of a workload; an empty one is that of whole inputs, ``None``.

    Raises:
        InputError: It is no workload.
    """
    if not name:
        return None
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"workload {name!r} is unknown; use {EXAMPLE}")
    size = int(match[2])
    return Workload(size) if match[1] == "prefill" else Workload(1, size)


def make_inputs(network: nn.Module, example: Tensor, workload: Workload | None) -> tuple[Any, ...]:
    """Make the arguments that a network is called with.

    Args:
        network: The network.
        example: A whole input of one sample.
        workload: What it is asked to do; ``None`` for the whole input.

    Raises:
        InputError: The network reads no tokens, keeps no keys and values, or its context is too
            short.
    """
    if workload is None:
        return (example,)
    if example.ndim != 2 or example.is_floating_point():
        raise InputError(f"workload {workload.name} is for language models; this network has none")
    needed, context = workload.tokens + (workload.cached or 0), example.shape[1]
    if needed > context:
        raise InputError(
            f"workload {workload.name} needs {needed} tokens, and the context has {context}"
        )
    ids = example[:, : workload.tokens]
    if workload.cached is None:
        return (ids,)
    start = getattr(network, "start", None)
    if start is None:
        raise InputError(
            f"workload {workload.name} needs a network that keeps keys and values, such as a matlm"
        )
    shapes = [[part.shape for part in pair] for pair in start(1)]
    past = [
        tuple(torch.zeros((1, groups, workload.cached, size)) for _, groups, _, size in pair)
        for pair in shapes
    ]
    return ids, past


class FlatCall(nn.Module):
    """A network as a function of tensors alone, in the order of its arguments.

    Args:
        network: The network.
        arguments: Of one call; lists and tuples may hold tensors.
    """

    def __init__(self, network: nn.Module, arguments: Sequence[Any]) -> None:
        super().__init__()
        self.network = network
        self.tensors, self.spec = tree_flatten(tuple(arguments))
        self.eval()

    def forward(self, *tensors: Tensor) -> Any:
        """Call the network with these tensors in the places of the first ones."""
        return self.network(*tree_unflatten(list(tensors), self.spec))
