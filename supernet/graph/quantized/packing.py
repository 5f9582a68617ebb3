"""Integers of two to seven bits in as many bits, and what a graph's weights take when stored.

The bits of an entry are divided, highest first, into parts of 4, 2 and 1 bits (7 = 4 + 2 + 1,
3 = 2 + 1), and every part is packed by itself: two, four or eight entries to a byte, the first
entry lowest. Eight entries of b bits so take b bytes, and a table of 256 rows turns any byte back
into whole entries: what numpy reads by indexing, ONNX reads by Gather.
"""

from __future__ import annotations

import math
from functools import cache, reduce

import numpy as np

from supernet.errors import InputError
from supernet.graph.language import Graph, TensorSpec

PACKED_BITS = range(2, 8)
"""Bits per entry that are stored packed."""

NIBBLES = "int4"
"""The dtype that ONNX itself stores two to a byte."""


def list_part_widths(bits: int) -> tuple[int, ...]:
    """Bits of an entry's parts, highest part first: ``(4, 1)`` for 5.

    Raises:
        InputError: if ``bits`` is not 2 to 7.
    """
    if bits not in PACKED_BITS:
        raise InputError(f"{bits} bits per entry cannot be packed; 2 to 7 can")
    return tuple(width for width in (4, 2, 1) if bits & width)


def pack_parts(values: np.ndarray, bits: int) -> tuple[np.ndarray, ...]:
    """Pack integers of any shape, padded with zeros to a multiple of eight.

    Args:
        values: integers that fit ``bits`` bits in two's complement.
        bits: bits per entry, 2 to 7.

    Returns:
        One uint8 vector for every width of :func:`list_part_widths`, ``width * ceil(n / 8)`` long.

    Raises:
        InputError: if ``bits`` is not 2 to 7.
    """
    widths = list_part_widths(bits)
    entries = np.zeros(-(-values.size // 8) * 8, dtype=np.int8)
    entries[: values.size] = values.reshape(-1)
    # Eight entries at a time, as the bytes of one word.
    words = entries.view("<u8")
    parts, shift = [], bits
    for width in widths:
        shift -= width
        parts.append(_join_bytes(words >> np.uint64(shift), width))
    return tuple(parts)


def unpack_parts(parts: tuple[np.ndarray, ...], bits: int, count: int) -> np.ndarray:
    """Undo :func:`pack_parts`: int8 of shape (count,).

    Raises:
        InputError: if ``bits`` is not 2 to 7.
    """
    tables = [make_table(bits, index) for index in range(len(list_part_widths(bits)))]
    pieces = [table[part].reshape(-1) for table, part in zip(tables, parts, strict=True)]
    entries: np.ndarray = reduce(np.bitwise_or, pieces)
    return entries[:count]


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Pack integers into one uint8 vector, the parts of :func:`pack_parts` one after another.

    Raises:
        InputError: if ``bits`` is not 2 to 7.
    """
    return np.concatenate(pack_parts(values, bits))


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Undo :func:`pack`: int8 of shape (count,).

    Raises:
        InputError: if ``bits`` is not 2 to 7, or ``packed`` has not ``packed_bytes`` bytes.
    """
    needed = packed_bytes(count, bits)
    if packed.size != needed:
        raise InputError(
            f"{count} entries of {bits} bits are packed in {packed.size} bytes; they take {needed}"
        )
    ends = np.cumsum(list_part_widths(bits)) * (needed // bits)
    return unpack_parts(tuple(np.split(packed, ends[:-1])), bits, count)


@cache
def make_table(bits: int, index: int) -> np.ndarray:
    """What the bytes of part ``index`` stand for: int8 of shape (256, 8 // width).

    The entries hold the part's bits in place, the highest part with the sign, so that the parts'
    entries joined by OR are the integers.

    Raises:
        InputError: if ``bits`` is not 2 to 7.
    """
    widths = list_part_widths(bits)
    width, shift = widths[index], sum(widths[index + 1 :])
    byte, entry = np.arange(256)[:, None], np.arange(8 // width)[None, :]
    values = (byte >> entry * width) % (1 << width)
    if index == 0:
        values = np.where(values >> width - 1, values - (1 << width), values)
    table = (values << shift).astype(np.int8)
    table.flags.writeable = False
    return table


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that ``count`` entries of ``bits`` bits take, whole words or packed.

    Raises:
        InputError: if ``bits`` is neither 2 to 7 nor a multiple of 8.
    """
    if bits > 0 and bits % 8 == 0:
        return count * (bits // 8)
    list_part_widths(bits)
    return bits * -(-count // 8)


def is_packed(spec: TensorSpec) -> bool:
    """Whether a weight is stored in fewer bits than its dtype has.

    Raises:
        InputError: if it has bits that its dtype cannot be stored in.
    """
    if spec.bits in (0, _count_own_bits(spec.dtype)):
        return False
    if spec.dtype != "int8" or spec.bits not in PACKED_BITS:
        raise InputError(
            f"weight {spec.name!r} is {spec.dtype} of {spec.bits} bits; int8 can have 2 to 7"
        )
    return True


def list_limits(spec: TensorSpec) -> tuple[int, int]:
    """Lowest and highest integer that an entry of a weight holds, in two's complement."""
    bits = spec.bits or _count_own_bits(spec.dtype)
    if spec.dtype.startswith("u"):
        return 0, (1 << bits) - 1
    return -(1 << bits - 1), (1 << bits - 1) - 1


def count_stored_bytes(spec: TensorSpec) -> int:
    """Bytes of one weight's values in a file.

    Raises:
        InputError: if it has bits that its dtype cannot be stored in.
    """
    count = math.prod(int(d) for d in spec.shape)
    if is_packed(spec):
        return packed_bytes(count, spec.bits)
    return -(-count * _count_own_bits(spec.dtype) // 8)


def stored_bytes(graph: Graph) -> int:
    """Bytes of the values of all weights of a graph in a file.

    Scalars, such as the scale of an activation, are not among them: whether a piece has them
    depends on its neighbours, and they are part of what a graph itself takes.

    Raises:
        InputError: if a weight has bits that its dtype cannot be stored in.
    """
    return sum(count_stored_bytes(spec) for spec in graph.weights if spec.shape)


def measure_overhead(model: bytes, graph: Graph) -> int:
    """Bytes of a written model that are not weights: operators, names, shapes and constants.

    Args:
        model: the file's content, as ``to_onnx`` makes it of ``graph``.
        graph: what was written.

    Raises:
        InputError: if a weight has bits that its dtype cannot be stored in.
    """
    return len(model) - stored_bytes(graph)


def pack_nibbles(values: np.ndarray) -> np.ndarray:
    """Pack int4 of any shape two to a byte, the first lowest, as ONNX does: uint8 (ceil(n / 2),).

    These are the bytes of :func:`pack` for four bits, but for what fills up the last eight entries.
    """
    return pack(values, 4)[: -(-values.size // 2)]


@cache
def _count_own_bits(dtype: str) -> int:
    return 4 if dtype == NIBBLES else 8 * np.dtype(dtype).itemsize


def _join_bytes(words: np.ndarray, width: int) -> np.ndarray:
    """Pack the lowest ``width`` bits of each word's eight bytes into ``width`` bytes."""
    words = words & np.uint64(0x0101010101010101 * ((1 << width) - 1))
    for size in (8, 16, 32):
        # Of every two neighbouring fields, the upper one moves down to the lower one's end.
        filled = width * size // 8
        keep = sum(((1 << 2 * filled) - 1) << at for at in range(0, 64, 2 * size))
        words = (words | words >> np.uint64(size - filled)) & np.uint64(keep)
    return words.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)[:, :width].reshape(-1)
