"""Running two subnetworks of one supernet as a cascade, and going on where the small one stopped.

Where the layers of the small network are the first ones of the large one, the hidden state behind
them is that of the large one, too: the large network goes on from there (an early exit, as in
Teerapittayanon et al. 2016, "BranchyNet", with a head that all depths share).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.errors import InputError
from supernet.families._decoder import Decoder
from supernet.families._vit import VisionTransformer
from supernet.quantization.execution import find_execution
from supernet.space import Architecture
from supernet.supernet import Supernet

Layered = VisionTransformer | Decoder
"""A network that is an embedding, a list of layers and a head."""


@dataclass(frozen=True)
class Answers:
    """What a cascade answers to a batch.

    Args:
        logits: Of the network whose answer stands, ``(N, classes)``.
        confidence: The largest probability that the small network gives, ``(N,)`` float64.
        asked: Of which samples the large network was asked, ``(N,)``; also where the small one
            gives no numbers, which are no confidence.
    """

    logits: Tensor
    confidence: Tensor
    asked: Tensor


@dataclass(frozen=True)
class Cascade:
    """A small network that answers, and a large one that does where the small one is not sure.

    The large network sees the samples in doubt alone.

    Args:
        small: Answers first; batches of inputs to logits ``(N, classes)``, in eval mode.
        large: Is asked where the small one's largest probability is below the threshold.
        threshold: Confidence from which on the small one's answer stands, in 0 to 1.
        shared: Layers that the large one need not run again, because the small one consists of
            them (:func:`count_shared_layers`); 0 where it starts anew.
        prepare: Bring a batch to the input size of the small and of the large network.

    Raises:
        InputError: The threshold is no probability, both networks are the same one, or layers are
            said to be shared that are not.
    """

    small: nn.Module
    large: nn.Module
    threshold: float
    shared: int = 0
    prepare: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InputError(
                f"a threshold of {self.threshold:g} is impossible; confidence is a probability "
                "from 0 to 1"
            )
        if self.small is self.large:
            raise InputError("the small and the large network are the same; a cascade needs two")
        if self.shared and not (
            isinstance(self.small, VisionTransformer)
            and isinstance(self.large, VisionTransformer)
            and len(self.small.layers) == self.shared < len(self.large.layers)
        ):
            raise InputError(
                f"{self.shared} shared layers are impossible here; the small network must consist "
                "of them, and both must be plain vision transformers"
            )

    @torch.inference_mode()
    def answer(self, inputs: Tensor) -> Answers:
        """Answer a batch of inputs ``(N, ...)``."""
        first, second = self.prepare or (_keep, _keep)
        hidden = None
        if self.shared:
            assert isinstance(self.small, VisionTransformer)
            hidden = begin(self.small, first(inputs))
            logits = self.small.head(hidden)
        else:
            logits = self.small(first(inputs))
        confidence = logits.double().softmax(-1).amax(-1)
        # Said this way round, NaN is not sure either.
        asked = ~(confidence >= self.threshold)
        if bool(asked.any()):
            if hidden is not None:
                assert isinstance(self.large, VisionTransformer)
                more = go_on(self.large, hidden[asked], self.shared)
            else:
                more = self.large(second(inputs[asked]))
            logits = logits.clone()
            logits[asked] = more
        return Answers(logits, confidence, asked)


def serve_cascade(
    supernet: Supernet,
    small: Architecture,
    large: Architecture,
    threshold: float,
    *,
    early_exit: bool = True,
) -> Cascade:
    """Give a cascade of two subnetworks that run on the supernet's own weights, without copies.

    Args:
        supernet: In eval mode, of images; what is served follows its weights, but for those that
            are computed (kernel transforms, mixed experts), which stay as they are now.
        small: The subnetwork that answers first.
        large: The subnetwork that is asked where the first is not sure.
        threshold: Confidence from which on the first answer stands.
        early_exit: Let the large one go on from where the small one stopped, where it can.

    Raises:
        InputError: An impossible threshold, the same architecture twice, one of another space, a
            supernet in training mode or of text, or networks that have statistics or ranges of
            their own, which belong to extracted ones.
    """
    if supernet.training:
        raise InputError("the supernet is in training mode; call .eval() before it serves")
    if not supernet.inputs.dtype.is_floating_point:
        raise InputError(
            "a cascade over tokens is not supported: every token would need the hidden states of "
            "all before it; give a supernet of images"
        )
    if small == large:
        raise InputError(f"{small.digest} is both the small and the large network; give two")
    networks = []
    for architecture in (small, large):
        shell = supernet.shell(architecture)
        shell.refresh()
        own = any(isinstance(m, _BatchNorm) for m in shell.network.modules())
        if own or find_execution(shell.network) is not None:
            raise InputError(
                f"{architecture.digest} has batch normalisation or number formats, whose "
                "statistics belong to an extracted network; extract and recalibrate both, and "
                "give them to Cascade"
            )
        networks.append(shell.network)
    shared = find_exit(supernet, small, large) if early_exit else 0
    return Cascade(
        networks[0],
        networks[1],
        threshold,
        shared,
        (lambda x: supernet.prepare(x, small), lambda x: supernet.prepare(x, large)),
    )


def find_exit(supernet: Supernet, small: Architecture, large: Architecture) -> int:
    """Find behind how many layers of a large subnetwork a small one is an early exit.

    Args:
        supernet: Holds both.
        small: May be the first layers of the other, with the same head.
        large: A deeper one.

    Returns:
        The number of layers of the small one; 0 where the large one has to start anew.

    Raises:
        InputError: An architecture of another space.
    """
    if not isinstance(supernet.model, VisionTransformer | Decoder):
        return 0
    ours, theirs = small.to_dict(), large.to_dict()
    # Choices of deeper layers are the large one's alone, and of the others depth may differ.
    if len([name for name in ours if ours[name] != theirs.get(name)]) != 1:
        return 0
    return count_shared_layers(supernet.extract(small), supernet.extract(large))


def list_exits(supernet: Supernet, large: Architecture) -> dict[Architecture, int]:
    """List the early exits of a subnetwork: its first layers with its head.

    Args:
        supernet: Holds it.
        large: The subnetwork.

    Returns:
        How many layers each shares with the large one, the shallowest first; none where the
        supernet has no such subnetworks.

    Raises:
        InputError: An architecture of another space.
    """
    found: list[Architecture] = []
    for choice in supernet.space.choices:
        if choice.kind == "depth":
            values = choice.values[: choice.values.index(large[choice.name])]
            found += [
                supernet.space.architecture(large.to_dict() | {choice.name: value})
                for value in values
            ]
    shared = {exit: find_exit(supernet, exit, large) for exit in found}
    return {exit: layers for exit, layers in shared.items() if layers}


def count_shared_layers(small: nn.Module, large: nn.Module) -> int:
    """Count the first layers of a large network that a small one consists of.

    Args:
        small: Of :mod:`supernet.families.matvit`, ``autoformer`` or ``matlm``, extracted.
        large: Another one.

    Returns:
        The number of layers of the small network where it is shallower than the large one and
        equal to it in everything that both have, embedding and head included; else 0. Networks
        that compute in integers have ranges of their own, and share none.
    """
    if not isinstance(small, VisionTransformer | Decoder) or type(small) is not type(large):
        return 0
    assert isinstance(large, VisionTransformer | Decoder)
    if len(small.layers) >= len(large.layers) or find_execution(large) is not None:
        return 0
    theirs = large.state_dict()
    same = all(
        name in theirs and tensor.shape == theirs[name].shape and torch.equal(tensor, theirs[name])
        for name, tensor in small.state_dict().items()
    )
    return len(small.layers) if same else 0


def begin(network: Layered, inputs: Tensor) -> Tensor:
    """Run a network up to its head.

    Args:
        network: In eval mode.
        inputs: Pixels ``(N, C, H, W)`` or token ids ``(N, T)``.

    Returns:
        The hidden state ``(N, tokens, width)``, of which ``network.head`` makes the logits.
    """
    if isinstance(network, VisionTransformer):
        inputs = network.normalize(inputs)
    return _run(network, network.embedding(inputs), 0)


def go_on(network: Layered, hidden: Tensor, done: int) -> Tensor:
    """Run the rest of a network, head included.

    Args:
        network: In eval mode.
        hidden: The hidden state behind its first layers, ``(N, tokens, width)``.
        done: How many layers these are.

    Returns:
        What the whole network gives: logits ``(N, classes)`` or ``(N, T, vocabulary)``.
    """
    logits: Tensor = network.head(_run(network, hidden, done))
    return logits


def _run(network: Layered, hidden: Tensor, done: int) -> Tensor:
    for layer in list(network.layers)[done:]:
        # Those of decoders also give keys and values.
        found = layer(hidden)
        hidden = found[0] if isinstance(found, tuple) else found
    return hidden


def _keep(inputs: Tensor) -> Tensor:
    return inputs
