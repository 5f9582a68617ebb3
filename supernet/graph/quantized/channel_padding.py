"""Channels filled up to what the runtime's integer convolutions take at a time.

ONNX Runtime's fast kernel for depthwise convolutions takes sixteen channels at a time, that for
other convolutions reads four, and both step aside for general ones, which take up to twice as
long, where the number of channels is no multiple of that. Zeros put after the weights while the
model is loaded make up the number: what they compute is multiplied by zeros in the next layer, so
that the outputs stay what they are, and so do the stored weights. Images have no layer before them
that could give more channels, so they get theirs in every run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile

import numpy as np

from supernet.graph.language import Constant, Graph, Node

CHANNELS_AT_A_TIME = 16
"""Channels that the runtime's kernel for depthwise convolutions takes at a time."""

READ_AT_A_TIME = 4
"""Channels that the kernel for other convolutions reads at a time."""

_FEWEST_OUTPUTS = 16
"""Channels that have to come out of a convolution for that kernel, a multiple of four."""

_SAME_CHANNELS = {
    "Add",
    "AveragePool",
    "Clip",
    "GlobalAveragePool",
    "HardSigmoid",
    "MaxPool",
    "Mul",
    "Relu",
    "Sigmoid",
}


@dataclass(frozen=True)
class _Layer:
    """A convolution of integers.

    Attributes:
        node: the operator.
        shape: of its weight, ``(out, in / groups, ...)``.
        groups: number of groups.
        dequantizers: outputs of what dequantizes its weight and its bias, in this order.
    """

    node: Node
    shape: tuple[int, ...]
    groups: int
    dequantizers: tuple[str, ...]


@dataclass
class _Channels:
    """The convolutions that give, keep and read the channels of some tensors."""

    sources: list[_Layer] = field(default_factory=list)
    depthwise: list[_Layer] = field(default_factory=list)
    sinks: list[_Layer] = field(default_factory=list)


def pad_channels(graph: Graph) -> Graph:
    """Fill up the channels of integer depthwise convolutions, and of images, with zeros.

    Only channels that begin and end within one block are filled up, so that a block is written the
    same by itself as within a network.

    Args:
        graph: a network or a piece of one; weights as they are stored.

    Returns:
        The graph with a Pad behind every weight, scale and bias that gets more channels. All they
        read is constant, so the runtime leaves nothing of them once the model is loaded. One more
        stands behind an image that gets more channels.
    """
    layers = _find_layers(graph)
    added: dict[tuple[str, int], int] = {}
    for channels in _group_channels(graph, layers):
        size = _find_size(channels)
        if size is None:
            continue
        for layer in (*channels.sources, *channels.depthwise):
            added |= dict.fromkeys(((d, 0) for d in layer.dequantizers), -size % CHANNELS_AT_A_TIME)
        for layer in channels.sinks:
            added[layer.dequantizers[0], 1] = -size % CHANNELS_AT_A_TIME
    images = _find_image_layers(graph)
    for layer in images:
        for name in (layer.dequantizers[0], layer.node.inputs[0]):
            added[name, 1] = READ_AT_A_TIME - layer.shape[1]
    return _Writer(graph, added).write() if added else graph


# -- which channels go together --------------------------------------------------------------------


class _Groups:
    """Names that belong together, and groups that must stay as they are."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._fixed: set[str] = set()

    def find(self, name: str) -> str:
        """Name that stands for the group of a name."""
        while (parent := self._parents.setdefault(name, name)) != name:
            name = parent
        return name

    def join(self, names: Iterable[str]) -> None:
        """Put names into one group."""
        first, *others = (self.find(name) for name in names)
        for other in others:
            self._parents[other] = first

    def fix(self, names: Iterable[str]) -> None:
        """Note that the groups of names must stay as they are."""
        self._fixed.update(names)

    def find_fixed(self) -> set[str]:
        """Names that stand for groups that must stay as they are."""
        return {self.find(name) for name in self._fixed}


def _find_layers(graph: Graph) -> dict[str, _Layer]:
    """Convolutions of integers by their outputs, of those whose weights nobody else reads."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    shapes = {spec.name: tuple(map(int, spec.shape)) for spec in graph.weights}
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    layers = {}
    for node in graph.nodes:
        if node.op != "Conv" or any(readers[name] > 1 for name in node.inputs[1:]):
            continue
        sources = [makers.get(name) for name in node.inputs[1:]]
        if all(s and s.op == "DequantizeLinear" and s.inputs[0] in shapes for s in sources):
            shape = shapes[makers[node.inputs[1]].inputs[0]]
            groups = dict(node.attributes).get("group", 1)
            assert isinstance(groups, int)
            layers[node.outputs[0]] = _Layer(node, shape, groups, node.inputs[1:])
    return layers


def _find_image_layers(graph: Graph) -> list[_Layer]:
    """Find convolutions that read fewer channels than the kernel takes: those of images."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers.update(spec.name for spec in graph.outputs)
    return [
        layer
        for layer in _find_layers(graph).values()
        if layer.groups == 1
        and len(layer.shape) == 4
        and layer.shape[1] < READ_AT_A_TIME
        and layer.shape[0] >= _FEWEST_OUTPUTS
        and layer.shape[0] % READ_AT_A_TIME == 0
        and readers[layer.node.inputs[0]] == 1
        and (maker := makers.get(layer.node.inputs[0])) is not None
        and maker.op == "DequantizeLinear"
        and not maker.attributes
    ]


def _group_channels(graph: Graph, layers: dict[str, _Layer]) -> list[_Channels]:
    """Group convolutions by the channels they have in common, where those may be filled up."""
    groups = _Groups()
    groups.fix(spec.name for spec in (*graph.inputs, *graph.outputs))
    constant = {c.name for c in graph.constants} | {w.name for w in graph.weights} | {""}
    for node in graph.nodes:
        names = [name for name in (*node.inputs, *node.outputs) if name not in constant]
        layer = layers.get(node.outputs[0])
        if constant.issuperset(node.inputs):
            constant.update(node.outputs)
        elif layer is None and not _keeps_channels(node):
            groups.fix(names)
        elif layer is None or _is_depthwise(layer):
            groups.join(name for name in names if layer is None or name not in layer.dequantizers)
        elif layer.groups > 1:
            groups.fix(names)
    fixed = groups.find_fixed()
    found: dict[str, _Channels] = defaultdict(_Channels)
    for layer in layers.values():
        read, made = groups.find(layer.node.inputs[0]), groups.find(layer.node.outputs[0])
        if _is_depthwise(layer):
            found[made].depthwise.append(layer)
        else:
            found[made].sources.append(layer)
            found[read].sinks.append(layer)
    return [channels for group, channels in found.items() if group not in fixed]


def _is_depthwise(layer: _Layer) -> bool:
    return layer.groups > 1 and layer.shape[:2] == (layer.groups, 1)


def _keeps_channels(node: Node) -> bool:
    """Whether all that a node reads and makes has the same channels, each by itself."""
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return not node.attributes
    return node.op in _SAME_CHANNELS


def _find_size(channels: _Channels) -> int | None:
    """Find the number of channels, if they are to be filled up."""
    if not channels.depthwise or not channels.sources or not channels.sinks:
        return None
    layers = [*channels.sources, *channels.depthwise, *channels.sinks]
    sizes = {layer.shape[0] for layer in (*channels.sources, *channels.depthwise)}
    sizes |= {layer.shape[1] for layer in channels.sinks}
    size = sizes.pop()
    if sizes or size % CHANNELS_AT_A_TIME == 0 or not _are_within_block(layers):
        return None
    return size


def _are_within_block(layers: list[_Layer]) -> bool:
    """Whether layers lie at most two modules deep within one block."""
    paths = [layer.node.scope.split(".") for layer in layers]
    common = sum(1 for _ in takewhile(lambda n: len(set(n)) == 1, zip(*paths, strict=False)))
    return common >= max(1, max(map(len, paths)) - 2)


# -- zeros after the weights -----------------------------------------------------------------------


class _Writer:
    """Writes a graph with more channels.

    Args:
        graph: the graph.
        added: entries to add by the output of a DequantizeLinear and the axis.
    """

    def __init__(self, graph: Graph, added: Mapping[tuple[str, int], int]) -> None:
        self._graph, self._added = graph, added
        self._ranks = {spec.name: len(spec.shape) for spec in graph.weights}
        self._ranks |= {constant.name: len(constant.shape) for constant in graph.constants}
        self._pads: dict[tuple[int, ...], Constant] = {}
        self._longer: set[str] = set()
        self._nodes: list[Node] = []

    def write(self) -> Graph:
        """Put zeros behind what is dequantized, and give depthwise layers their groups."""
        outputs = {output for output, _ in self._added}
        for node in self._graph.nodes:
            if node.outputs[0] in outputs:
                names = tuple(self._lengthen(node, at) for at in range(len(node.inputs)))
                self._nodes.append(replace(node, inputs=names))
            else:
                self._nodes.append(self._regroup(node))
        constants = (*self._graph.constants, *self._pads.values())
        return replace(self._graph, nodes=tuple(self._nodes), constants=constants)

    def _lengthen(self, node: Node, at: int) -> str:
        """Name what an operator reads, with zeros behind it."""
        name = node.inputs[at]
        # Images are no weights; they come as (N, C, H, W).
        rank = self._ranks.get(name, 4 if at == 0 else 0)
        ends = tuple(self._added.get((node.outputs[0], axis), 0) for axis in range(rank))
        if not any(ends):
            return name
        longer = f"{name}+{','.join(map(str, ends))}"
        if longer not in self._longer:
            amounts = self._pads.setdefault(ends, _make_pads(ends))
            self._nodes.append(Node("Pad", (name, amounts.name), (longer,), scope=node.scope))
            self._longer.add(longer)
        return longer

    def _regroup(self, node: Node) -> Node:
        """Give a depthwise convolution as many groups as it has channels now."""
        attributes = dict(node.attributes)
        groups = attributes.get("group", 1)
        more = self._added.get((node.inputs[1], 0), 0) if node.op == "Conv" else 0
        if not more or not isinstance(groups, int) or groups == 1:
            return node
        return replace(node, attributes=tuple((attributes | {"group": groups + more}).items()))


def _make_pads(ends: tuple[int, ...]) -> Constant:
    amounts = np.array([0] * len(ends) + list(ends), dtype=np.int64)
    return Constant.from_array(f"0pads/{','.join(map(str, ends))}", amounts)
