"""A graph's digest depends on what determines cost, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supernet.graph.language import Constant, Graph, Node, TensorSpec, fix_batch
from supernet.graph.onnx_model import draw_random_inputs, draw_random_weights, to_onnx

pytest.importorskip("onnx")


def block(prefix: str = "a", scope: str = "stage.0", width: int = 6, pad: int = 1) -> Graph:
    """A convolution, a normalisation and a reshape, with names that start with ``prefix``."""
    p = prefix
    conv = (("group", 1), ("kernel_shape", (3, 3)), ("pads", (pad,) * 4), ("strides", (1, 1)))
    stats = tuple(f"{p}.{n}" for n in ("gamma", "beta", "mean", "var"))
    return Graph(
        inputs=(TensorSpec(f"{p}.x", ("batch", 4, 5, 5), "float32"),),
        outputs=(TensorSpec(f"{p}.y", ("batch", width * 25), "float32"),),
        nodes=(
            Node("Conv", (f"{p}.x", f"{p}.w"), (f"{p}.c",), conv, scope),
            Node("BatchNormalization", (f"{p}.c", *stats), (f"{p}.n",), (), scope),
            Node("Reshape", (f"{p}.n", f"{p}.s"), (f"{p}.y",), (), scope),
        ),
        weights=(
            TensorSpec(f"{p}.w", (width, 4, 3, 3), "float32"),
            *(TensorSpec(s, (width,), "float32") for s in stats),
        ),
        constants=(Constant.from_array(f"{p}.s", np.array([0, width * 25])),),
        macs=25 * width * 36,
        parameters=width * 36 + 2 * width,
    )


def test_digest_ignores_names_and_scopes() -> None:
    assert block("a", "stage.0").digest == block("other", "stage.7").digest
    assert len(block().digest) == 12


@pytest.mark.parametrize(
    "changed",
    [
        block(width=7),
        block(pad=0),
        replace(block(), nodes=(replace(block().nodes[0], op="ConvInteger"), *block().nodes[1:])),
        replace(block(), inputs=(TensorSpec("a.x", ("batch", 4, 6, 6), "float32"),)),
        replace(block(), inputs=(TensorSpec("a.x", ("batch", 4, 5, 5), "float16"),)),
        replace(block(), constants=(Constant.from_array("a.s", np.array([-1, 150])),)),
    ],
)
def test_digest_sees_everything_that_costs(changed: Graph) -> None:
    assert changed.digest != block().digest


def test_random_model_runs_at_any_batch_size() -> None:
    ort = pytest.importorskip("onnxruntime")
    graph = block()
    data = to_onnx(graph, seed=3).SerializeToString()
    runner = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    for batch in (1, 4):
        out = runner.run(None, draw_random_inputs(graph, 0, batch))[0]
        assert out.shape == (batch, 150)
        assert np.isfinite(out).all()
        assert out.std() > 0.01


def test_fixed_batch_is_static() -> None:
    model = to_onnx(block(), batch=2)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [2, 4, 5, 5]
    with pytest.raises(ValueError, match="batch = 0 is not a batch size"):
        fix_batch(block(), 0)


def test_random_weights_are_reproducible_exact_float32_and_valid() -> None:
    first, second = draw_random_weights(block(), 5), draw_random_weights(block(), 5)
    assert all(np.array_equal(first[k], second[k]) for k in first)
    assert {v.dtype for v in first.values()} == {np.dtype("float32")}
    assert first["a.var"].min() > 0
    assert abs(first["a.w"].std() - (2 / 36) ** 0.5) < 0.05
    assert not np.array_equal(first["a.w"], draw_random_weights(block(), 6)["a.w"])


def test_node_names_start_with_their_scope() -> None:
    assert next(n.name for n in to_onnx(block()).graph.node) == "stage.0/Conv_0"


def test_missing_and_misshapen_weights_are_refused() -> None:
    values = draw_random_weights(block(), 0)
    with pytest.raises(ValueError, match=r"weight 'a\.w' has shape \(1, 4, 3, 3\)"):
        to_onnx(block(), {**values, "a.w": values["a.w"][:1]})
    values.pop("a.var")
    with pytest.raises(ValueError, match=r"weight 'a\.var' has no values"):
        to_onnx(block(), values)


def test_given_weights_are_stored_as_they_are() -> None:
    from onnx import numpy_helper

    values = draw_random_weights(block(), 0)
    stored = {i.name: numpy_helper.to_array(i) for i in to_onnx(block(), values).graph.initializer}
    assert all(np.array_equal(stored[k], v) for k, v in values.items())
