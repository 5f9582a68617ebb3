"""Integers of two to seven bits take as many bits, in the ONNX model and as safetensors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from supernet.errors import InputError
from supernet.graph.language import Graph, TensorSpec
from supernet.graph.onnx_model import draw_random_weights
from supernet.graph.quantized.integer_weights import load_integer_weights, write_integer_weights
from supernet.graph.quantized.packing import (
    count_stored_bytes,
    pack,
    pack_nibbles,
    pack_parts,
    packed_bytes,
    stored_bytes,
    unpack,
)
from tests.timing import least_seconds
from tests.toys.quantized_graphs import QuantizedGraph

BITS = (2, 3, 4, 5, 6, 7)


def draw(bits: int, count: int) -> np.ndarray:
    """Random integers of all values that ``bits`` bits have."""
    half = 1 << bits - 1
    return np.random.default_rng(count).integers(-half, half, count).astype(np.int8)


def make_graph() -> Graph:
    """Convolutions of all numbers of bits, a product in blocks of 32 and one in eight bits."""
    g = QuantizedGraph((3, 5, 32))
    x = g.quantize("x", "input")
    for bits in BITS:
        y = g.conv(x, f"conv{bits}", (3, 1, 3, 3), bits, group=3)
        x = g.quantize(y, f"conv{bits}.bn")
    x = g.quantize(g.matmul_blocks(x, "blocks", (32, 32)), "blocks")
    return g.finish(g.matmul(x, "linear", (32, 4)), (3, 5, 4))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 24, 1001])
def test_packing_loses_nothing_and_takes_what_it_says(bits: int, count: int) -> None:
    values = draw(bits, count)
    packed = pack(values, bits)
    assert packed.dtype == np.uint8
    assert packed.size == packed_bytes(count, bits) == bits * ((count + 7) // 8)
    assert np.array_equal(unpack(packed, bits, count), values)


@pytest.mark.parametrize("bits", BITS)
def test_every_value_survives_at_every_place(bits: int) -> None:
    half = 1 << bits - 1
    for value in range(-half, half):
        for place in range(8):
            values = np.zeros(8, dtype=np.int8)
            values[place] = value
            assert np.array_equal(unpack(pack(values, bits), bits, 8), values)


def test_layout_is_as_described() -> None:
    # Of 5 bits the upper four lie two to a byte, the lowest eight to a byte; first entry lowest.
    values = np.array([1, 2, 3, -1, -16, 15, 0, 0], dtype=np.int8)
    upper, lowest = pack_parts(values, 5)
    assert upper.tolist() == [0x10, 0xF1, 0x78, 0x00]
    assert lowest.tolist() == [0b00101101]
    assert pack(values, 5).tolist() == [*upper.tolist(), *lowest.tolist()]
    assert pack(np.array([-2, -1, 0, 1] * 2, dtype=np.int8), 2).tolist() == [0b01001110] * 2


def test_nibbles_are_what_onnx_makes_of_int4() -> None:
    onnx = pytest.importorskip("onnx")
    for count in (1, 2, 7, 40):
        values = draw(4, count)
        tensor = onnx.helper.make_tensor("w", onnx.TensorProto.INT4, (count,), values.tolist())
        packed = pack_nibbles(values)
        assert packed.size == (count + 1) // 2
        tensor.ClearField("int32_data")
        tensor.raw_data = packed.tobytes()
        read = onnx.numpy_helper.to_array(tensor).astype(np.int8)
        assert np.array_equal(read, values)


def test_stored_bytes_count_bits() -> None:
    sizes = {
        ("float32", 0): 4 * 9,
        ("float32", 32): 4 * 9,
        ("int32", 0): 4 * 9,
        ("int8", 0): 9,
        ("int8", 8): 9,
        ("int4", 0): 5,
        ("int4", 4): 5,
        ("int8", 3): 2 * 3,
        ("int8", 7): 2 * 7,
    }
    specs = [TensorSpec(f"{d}{b}", (3, 3), d, b) for d, b in sizes]
    assert [count_stored_bytes(s) for s in specs] == list(sizes.values())
    graph = replace(make_graph(), weights=tuple(specs))
    assert stored_bytes(graph) == sum(sizes.values())
    assert packed_bytes(9, 32) == 36
    assert packed_bytes(9, 8) == 9


def test_bits_that_cannot_be_stored_are_refused() -> None:
    for bits in (0, 1, 9, -2):
        with pytest.raises(InputError, match=f"{bits} bits per entry cannot be packed; 2 to 7 can"):
            packed_bytes(8, bits)
    with pytest.raises(InputError, match="'w' is float32 of 4 bits; int8 can have 2 to 7"):
        count_stored_bytes(TensorSpec("w", (8,), "float32", 4))
    with pytest.raises(InputError, match="16 entries of 3 bits are packed in 3 bytes; they take 6"):
        unpack(np.zeros(3, dtype=np.uint8), 3, 16)


def test_five_million_weights_are_packed_in_a_tenth_of_a_second() -> None:
    values = draw(7, 5_000_000)
    # Beside copying, which every writer does: a slow machine is slow at both.
    copying = least_seconds(values.copy)
    assert least_seconds(lambda: pack(values, 7)) < max(0.1, 100 * copying)


def test_safetensors_give_back_every_weight(tmp_path: Path) -> None:
    graph = make_graph()
    values = draw_random_weights(graph, 3)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(write_integer_weights(graph, values))
    loaded = load_integer_weights(path)
    assert loaded.keys() == values.keys()
    for spec in graph.weights:
        assert loaded[spec.name].dtype == np.dtype("int8" if spec.dtype == "int4" else spec.dtype)
        assert np.array_equal(loaded[spec.name], values[spec.name])
        assert loaded[spec.name].shape == spec.shape


def test_safetensors_hold_the_promised_bytes_and_say_how_to_read_them(tmp_path: Path) -> None:
    graph = make_graph()
    data = write_integer_weights(graph, draw_random_weights(graph, 3))
    header = int.from_bytes(data[:8], "little")
    scalars = [spec for spec in graph.weights if not spec.shape]
    rest = sum(np.dtype(spec.dtype).itemsize for spec in scalars)
    assert len(data) - 8 - header == stored_bytes(graph) + rest
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with safe_open(path, framework="numpy") as file:
        layout = json.loads(file.metadata()["integer_weights"])
        assert file.get_tensor("conv3.weight").nbytes == packed_bytes(27, 3)
    assert layout["conv3.weight"] == {"axis": 0, "bits": 3, "shape": [3, 1, 3, 3]}
    assert layout["linear.weight"] == {"axis": 1}
    assert layout["blocks.weight"] == {"axis": 0, "block_size": 32, "bits": 4, "shape": [32, 32]}
    assert "input.scale" not in layout


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not safetensors", "header"),
        (save({"w": np.zeros(3)}), "integer_weights"),
        (save({"w": np.zeros(3)}, {"integer_weights": "["}), "Expecting value"),
        (save({"w": np.zeros(3)}, {"integer_weights": "[1]"}), "items"),
        (save({}, {"integer_weights": '{"w": {"bits": 3, "shape": [1]}}'}), "w"),
        (save({"w": np.zeros(2)}, {"integer_weights": '{"w": {"bits": 3, "shape": [8]}}'}), "take"),
        (
            save({"w": np.zeros(3, np.uint8)}, {"integer_weights": '{"w": {"bits": 3}}'}),
            "shape",
        ),
        (
            save(
                {"w": np.zeros(3, np.uint8)},
                {"integer_weights": '{"w": {"bits": 3, "shape": [-2, -4]}}'},
            ),
            "reshape|dimension",
        ),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"other.safetensors does not hold .*({said})"):
        load_integer_weights(path)
