"""Packed weights in an ONNX model, with the operators that unpack them.

Everything those read is constant, so that ONNX Runtime computes them while it loads the model, and
fuses the int8 weights they leave like any others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from supernet.graph.language import TensorSpec
from supernet.graph.quantized.packing import list_part_widths, make_table, pack_parts

if TYPE_CHECKING:
    import onnx


def add_packed_weights(
    body: onnx.GraphProto, specs: Sequence[TensorSpec], values: Mapping[str, np.ndarray]
) -> None:
    """Append packed weights and the operators that unpack them, one chain per number of bits.

    Their names begin with that number, as no others of a quantized graph do: ``3/0`` is the first
    part of the weights of 3 bits, ``3.0`` the first of the weights themselves.

    Args:
        body: an ONNX graph that has no nodes yet, since none may come before what it reads.
        specs: int8 weights of 2 to 7 bits; each becomes the output of a Reshape.
        values: their integers by name.
    """
    shared: dict[bytes, str] = {}
    for bits in sorted({spec.bits for spec in specs}):
        chosen = [spec for spec in specs if spec.bits == bits]
        packed = [pack_parts(values[spec.name], bits) for spec in chosen]
        parts = [np.concatenate(part) for part in zip(*packed, strict=True)]
        entries = _add_unpacking(body, bits, parts, shared)
        _add_division(body, bits, entries, chosen, shared)


def _add_unpacking(
    body: onnx.GraphProto, bits: int, parts: Sequence[np.ndarray], shared: dict[bytes, str]
) -> str:
    """Append what makes int8 entries of bytes; the name of their tensor (eighths, 2, 2, 2)."""
    from onnx import TensorProto

    joined = ""
    for index, (part, width) in enumerate(zip(parts, list_part_widths(bits), strict=True)):
        name = f"{bits}/{index}"
        # Every byte becomes a row of entries. Bytes and rows are cut up so that all parts end in
        # one shape and can be joined as they are: a Reshape would copy them once more.
        columns = (2,) * (width.bit_length() - 1)
        table = make_table(bits, index).reshape(256, *(2,) * (3 - len(columns)))
        codes = _add_initializer(body, name, part.reshape(-1, *columns))
        rows = _add_shared(body, table, shared)
        at = _add_node(body, "Cast", [codes], f"{name}/index", to=TensorProto.INT32)
        entries = _add_node(body, "Gather", [rows, at], f"{name}/entries")
        if joined:
            entries = _add_node(body, "BitwiseOr", [joined, entries], f"{name}/joined")
        joined = entries
    return joined


def _add_division(
    body: onnx.GraphProto,
    bits: int,
    entries: str,
    specs: Sequence[TensorSpec],
    shared: dict[bytes, str],
) -> None:
    """Append what divides all entries into the tensors; those that fill up eighths are unread."""
    from onnx import helper

    sizes: list[int] = []
    pieces: list[str] = []
    reshapes: list[onnx.NodeProto] = []
    for index, spec in enumerate(specs):
        shape = np.array(spec.shape, dtype=np.int64)
        count = int(shape.prod())
        sizes.append(count)
        pieces.append(f"{bits}.{index}")
        target = _add_shared(body, shape, shared)
        reshapes.append(helper.make_node("Reshape", [pieces[-1], target], [spec.name]))
        if count % 8:
            sizes.append(-count % 8)
            pieces.append(f"{bits}.{index}/fill")
    line = _add_shared(body, np.array([-1], dtype=np.int64), shared)
    flat = _add_node(body, "Reshape", [entries, line], f"{bits}/all")
    lengths = _add_initializer(body, f"{bits}/sizes", np.array(sizes, dtype=np.int64))
    body.node.append(helper.make_node("Split", [flat, lengths], pieces))
    body.node.extend(reshapes)


def _add_shared(body: onnx.GraphProto, array: np.ndarray, shared: dict[bytes, str]) -> str:
    """Append a shape or a table unless it is there already; its name."""
    key = array.tobytes()
    if key not in shared:
        shared[key] = _add_initializer(body, f"0/{len(shared)}", array)
    return shared[key]


def _add_initializer(body: onnx.GraphProto, name: str, array: np.ndarray) -> str:
    from onnx import numpy_helper

    body.initializer.append(numpy_helper.from_array(array, name))
    return name


def _add_node(
    body: onnx.GraphProto, op: str, inputs: Sequence[str], output: str, **attributes: int
) -> str:
    from onnx import helper

    body.node.append(helper.make_node(op, inputs, [output], **attributes))
    return output
