"""What a written ONNX model holds beside its weights, by what it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supernet.graph.language import Graph
from supernet.graph.onnx_model import is_quantized
from supernet.graph.quantized.packing import measure_overhead
from supernet.graph.quantized.short_names import shorten_names

if TYPE_CHECKING:
    import onnx


def itemise_overhead(model: bytes, graph: Graph) -> dict[str, int]:
    """Divide what ``measure_overhead`` counts into bytes by purpose.

    Args:
        model: the file's content, as ``to_onnx`` makes it of ``graph``.
        graph: what was written.

    Returns:
        ``operators``, ``constants`` of theirs, ``unpacking`` (operators, tables and sizes that
        turn packed weights into int8, and that put zeros behind weights), ``headers`` (names,
        types and shapes of the weights, and all of the scalars) and ``interface`` (inputs,
        outputs, versions); their sum is the overhead.

    Raises:
        InputError: if a weight has bits that its dtype cannot be stored in.
    """
    import onnx

    body = onnx.load_model_from_string(model).graph
    short = shorten_names(graph) if is_quantized(graph) else {}
    weights = {short.get(spec.name, spec.name) for spec in graph.weights}
    own = {output for node in graph.nodes for output in node.outputs}
    constants = {short.get(constant.name, constant.name) for constant in graph.constants}
    items = dict.fromkeys(("operators", "constants", "unpacking", "headers"), 0)
    packed: set[str] = set()
    for node in body.node:
        unpacks = not own.intersection(node.output)
        items["unpacking" if unpacks else "operators"] += _measure(node)
        if unpacks and node.op_type == "Cast":
            packed.add(node.input[0])
    for tensor in body.initializer:
        if tensor.name in weights or tensor.name in packed:
            # Scalars are no part of what is promised for the weights.
            items["headers"] += _measure(tensor) - len(tensor.raw_data) * bool(tensor.dims)
        else:
            items["constants" if tensor.name in constants else "unpacking"] += _measure(tensor)
    return items | {"interface": measure_overhead(model, graph) - sum(items.values())}


def _measure(entry: onnx.NodeProto | onnx.TensorProto) -> int:
    """Bytes of an entry in its list: what it holds, its length to base 128, and its field."""
    size = int(entry.ByteSize())
    return size + max(1, -(-size.bit_length() // 7)) + 1
