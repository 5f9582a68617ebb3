"""Decoders as ONNX models that take and give keys and values, at any batch and any length.

Inputs and outputs have the names that Hugging Face's Optimum gives them: ``input_ids``,
``past_key_values.0.key``, ``past_key_values.0.value``, ...; ``logits``, ``present.0.key``, ....
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from supernet.families._decoder import Decoder
from supernet.generation.language_model import Past
from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.graph.onnx_model import to_onnx

if TYPE_CHECKING:
    import onnxruntime as ort

IDS, LOGITS = "input_ids", "logits"
LENGTH, PAST = "length", "past"
_UNLIMITED = 1 << 40


def trace_decoder(
    network: Decoder, *, structure_only: bool = False
) -> tuple[Graph, dict[str, np.ndarray | None]]:
    """Trace a decoder as a graph from ids and past keys and values to logits and all of these.

    The context does not limit it: a graph of rotary positions runs at any length, one of learned
    positions fails in the runtime beyond them.

    Args:
        network: Extracted, in eval mode.
        structure_only: Leave the values of weights out.

    Returns:
        The graph, with the dynamic dimensions batch, ``length`` (of new tokens), ``past`` and
        ``past + length``, and its weights' values; see :func:`supernet.graph.lowering.lower`.
    """
    names = [f"past_key_values.{place}" for place in _name_parts(network)]
    lengths: dict[str, dict[int, str]] = {IDS: {1: LENGTH}}
    lengths |= {name: {2: PAST} for name in names}
    ids = torch.zeros((1, 1), dtype=torch.int64)
    keys = [part for pair in network.start(1) for part in pair]
    with _unlimited(network):
        return lower(
            _Flat(network),
            [ids, *keys],
            input_names=[IDS, *names],
            output_names=[LOGITS, *(f"present.{place}" for place in _name_parts(network))],
            structure_only=structure_only,
            lengths=lengths,
        )


def write_decoder(network: Decoder) -> bytes:
    """Write a decoder as an ONNX model; see :func:`trace_decoder`."""
    graph, found = trace_decoder(network)
    values = {name: value for name, value in found.items() if value is not None}
    return to_onnx(graph, values).SerializeToString()


def open_decoder(network: Decoder, *, threads: int = 1) -> OnnxModel:
    """Open a decoder in ONNX Runtime, on the processor; see :func:`load_decoder`."""
    return load_decoder(write_decoder(network), network.embedding.context, threads=threads)


def load_decoder(model: bytes, context: int, *, threads: int = 1) -> OnnxModel:
    """Load a model that :func:`write_decoder` wrote into ONNX Runtime, on the processor.

    Args:
        model: Its content.
        context: Most tokens of a text.
        threads: Threads of one operator.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return OnnxModel(session, context)


@dataclass(frozen=True)
class OnnxModel:
    """A decoder under ONNX Runtime; see :class:`supernet.generation.language_model.LanguageModel`.

    Args:
        session: Of a model that :func:`trace_decoder` describes.
        context: Most tokens of a text.
    """

    session: ort.InferenceSession
    context: int
    _past: tuple[tuple[str, int, int], ...] = field(init=False)

    def __post_init__(self) -> None:
        inputs = self.session.get_inputs()[1:]
        known = tuple((i.name, int(i.shape[1]), int(i.shape[3])) for i in inputs)
        object.__setattr__(self, "_past", known)

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens."""
        return int(self.session.get_outputs()[0].shape[2])

    def start(self, batch: int) -> Past:
        """Keys and values of no tokens."""
        empty = [torch.zeros((batch, groups, 0, size)) for _, groups, size in self._past]
        return list(zip(empty[::2], empty[1::2], strict=True))

    def score(self, ids: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Logits ``(N, T, vocabulary)`` after ids ``(N, T)``, and keys and values of all tokens."""
        keys = [part.numpy() for pair in past for part in pair]
        names = [name for name, _, _ in self._past]
        feeds: dict[str, Any] = {IDS: ids.numpy(), **dict(zip(names, keys, strict=True))}
        logits, *present = (torch.from_numpy(found) for found in self.session.run(None, feeds))
        return logits, list(zip(present[::2], present[1::2], strict=True))


def draw_feeds(
    network: Decoder, *, batch: int, length: int, past: int = 2, seed: int = 0
) -> dict[str, np.ndarray]:
    """Draw inputs of a decoder's ONNX model by their names.

    Args:
        network: The decoder.
        batch: Texts.
        length: New tokens of each.
        past: Tokens before them, whose keys and values are standard normal.
        seed: Of what is drawn.
    """
    rng = np.random.default_rng(seed)
    vocabulary = network.embedding.tokens.num_embeddings
    feeds: dict[str, np.ndarray] = {IDS: rng.integers(0, vocabulary, (batch, length))}
    shapes = [part.shape for pair in network.start(batch) for part in pair]
    for name, (_, groups, _, size) in zip(_name_parts(network), shapes, strict=True):
        drawn = rng.standard_normal((batch, groups, past, size))
        feeds[f"past_key_values.{name}"] = drawn.astype(np.float32)
    return feeds


def _name_parts(network: Decoder) -> list[str]:
    return [f"{i}.{part}" for i in range(len(network.layers)) for part in ("key", "value")]


class _Flat(nn.Module):
    """A decoder as a function of tensors alone."""

    def __init__(self, network: Decoder) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, ids: Tensor, *keys: Tensor) -> tuple[Tensor, ...]:
        past: Sequence[tuple[Tensor, Tensor]] = list(zip(keys[::2], keys[1::2], strict=True))
        logits, present = self.network(ids, past)
        return (logits, *(part for pair in present for part in pair))


@contextmanager
def _unlimited(network: Decoder) -> Iterator[None]:
    """Let a network take the lengths of a trace, which are above those of any text."""
    context = network.embedding.context
    network.embedding.context = _UNLIMITED
    try:
        yield
    finally:
        network.embedding.context = context
