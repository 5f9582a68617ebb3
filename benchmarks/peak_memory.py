"""Peak memory as it is counted against what ONNX Runtime's arena takes.

    python benchmarks/peak_memory.py --size 224

The arena is told to grow by no more than is asked for and to leave weights out. In the first run
the runtime learns which activations are alive together, and in the second it asks the arena for
one block that holds them all: that block is compared. The log that says so is the runtime's; each
network is loaded in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np

from supernet.costs.tensor_sizes import measure_live_bytes
from supernet.families import ofa_mobilenetv3
from supernet.graph.onnx_model import to_onnx
from supernet.precision.elastic import make_precision_elastic
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture

RUN = """
import sys
import numpy as np
import onnxruntime as ort
ort.set_default_logger_severity(0)
options = ort.SessionOptions()
options.log_severity_level = 0
options.intra_op_num_threads = 1
options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
options.add_session_config_entry("session.use_env_allocators", "1")
arena = ort.OrtArenaCfg({"arena_extend_strategy": 1})
kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
where = ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT)
ort.create_and_register_allocator(where, arena)
session = ort.InferenceSession(sys.stdin.buffer.read(), options, providers=["CPUExecutionProvider"])
entry = session.get_inputs()[0]
inputs = np.zeros([d if isinstance(d, int) else 1 for d in entry.shape], np.float32)
session.run(None, {entry.name: inputs})
print("second run", file=sys.stderr, flush=True)
session.run(None, {entry.name: inputs})
"""


def measure_block(model: bytes) -> int:
    """Bytes of the block that the arena gives for a planned run of a model; 0 if it had it."""
    found = subprocess.run(
        [sys.executable, "-c", RUN], input=model, capture_output=True, check=True
    )
    sizes = re.findall(rb"Extended allocation by (\d+)", found.stderr.split(b"second run")[1])
    return max(map(int, sizes), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--networks", type=int, default=6)
    options = parser.parse_args()
    config = replace(ofa_mobilenetv3.PRESETS["imagenet"], resolutions=(options.size,))
    supernet = make_precision_elastic(ofa_mobilenetv3.build(config), parse_policy("int8"))
    space = supernet.space
    drawn = space.decode(space.sample(np.random.default_rng(0), options.networks))
    rows = []
    for architecture in drawn:
        for name in ("fp32", "int8", "mixed"):
            chosen = _set_format(architecture, name, supernet)
            graph = supernet.graph(chosen)
            counted = measure_live_bytes(graph)
            taken = measure_block(to_onnx(graph).SerializeToString())
            rows.append({"format": name, "counted": counted, "block": taken})
    for name in ("fp32", "int8", "mixed"):
        ratios = [row["block"] / row["counted"] for row in rows if row["format"] == name]
        print(json.dumps({"format": name, "block / counted": [round(r, 3) for r in ratios]}))


def _set_format(architecture: Architecture, name: str, supernet) -> Architecture:
    values = dict(zip(supernet.space.names, architecture.values, strict=True))
    if name == "mixed":
        return architecture
    changed = {n: name for n in values if n.endswith(".precision")}
    return supernet.space.architecture({**values, **changed})


if __name__ == "__main__":
    main()
