"""A graph that is being rewritten: its operators, who makes and who reads each value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from supernet.graph.language import Attribute, Graph, Node

Q, DQ = "QuantizeLinear", "DequantizeLinear"
CLIPS = ("Relu", "Clip")
LEVELS = 255
"""The highest of the integers that activations are rounded to; the lowest is 0."""


@dataclass(eq=False, slots=True)
class Step:
    """One operator of a graph that is being rewritten.

    Attributes:
        op: Operator type, or the name of the runtime's kernel.
        nodes: Nodes of the original graph that it stands for.
        quantized: Whether it is a kernel on quantized values.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Attribute] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    quantized: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of a value that does not depend on inputs; unknown parts are ``None``."""

    shape: tuple[int, ...] | None
    dtype: str
    value: np.ndarray | None


class Workspace:
    """The operators of one graph; changed in place by the passes that a runtime would make."""

    def __init__(self, graph: Graph, weights: Mapping[str, np.ndarray] | None = None) -> None:
        """Copy a graph.

        Args:
            graph: What to rewrite.
            weights: Values by name, as far as they are known.
        """
        self.graph = graph
        known = weights or {}
        self.steps = [
            Step(n.op, list(n.inputs), list(n.outputs), dict(n.attributes), (n,))
            for n in graph.nodes
        ]
        self.outputs = {o.name for o in graph.outputs}
        self.stored: dict[str, Stored] = {
            w.name: Stored(tuple(int(d) for d in w.shape), w.dtype, known.get(w.name))
            for w in graph.weights
        }
        self.constants = {c.name for c in graph.constants}
        for constant in graph.constants:
            array = constant.array()
            self.stored[constant.name] = Stored(constant.shape, constant.dtype, array)
        self._fresh = 0
        self.makers: dict[str, Step] = {}
        self.readers: dict[str, list[tuple[Step, int]]] = {}
        self.index()

    def index(self) -> None:
        """Look up again who makes and who reads each value, after steps have changed."""
        self.makers = {name: step for step in self.steps for name in step.outputs}
        self.readers = {}
        for step in self.steps:
            for position, name in enumerate(step.inputs):
                if name:
                    self.readers.setdefault(name, []).append((step, position))

    def keep(self, steps: Sequence[Step]) -> None:
        """Replace all steps."""
        self.steps = list(steps)
        self.index()

    def remove(self, gone: Iterable[Step]) -> None:
        """Remove steps whose results nobody reads any more."""
        identities = {id(step) for step in gone}
        self.keep([step for step in self.steps if id(step) not in identities])

    def bypass(self, gone: Sequence[Step]) -> None:
        """Remove steps, and let the readers of their results read their first inputs."""
        for step in gone:
            before, after = step.inputs[0], step.outputs[0]
            if after in self.outputs:
                maker = self.makers[before]
                maker.outputs = [after if o == before else o for o in maker.outputs]
                for reader, position in self.readers.get(before, []):
                    reader.inputs[position] = after
            else:
                for reader, position in self.readers.get(after, []):
                    reader.inputs[position] = before
            self.remove([step])

    def name_value(self) -> str:
        """Name a new value; graphs have no such name of their own."""
        self._fresh += 1
        return f"\0{self._fresh}"

    def find_maker(self, name: str, op: str) -> Step | None:
        """Find the step that makes a value, if it is such an operator."""
        maker = self.makers.get(name)
        return maker if maker is not None and maker.op == op else None

    def count_edges(self, name: str) -> int:
        """Count how often a value is read; being a graph output is not counted."""
        return len(self.readers.get(name, ()))

    def find_sole_reader(self, name: str) -> Step | None:
        """Find the step that alone reads a value, once, if it is not a graph output."""
        readers = self.readers.get(name, [])
        return readers[0][0] if len(readers) == 1 and name not in self.outputs else None

    def is_stored(self, name: str) -> bool:
        """Whether a value depends on no input of the graph."""
        return name in self.stored

    def is_scalar(self, name: str) -> bool:
        """Whether a stored value is a single number."""
        stored = self.stored.get(name)
        return stored is not None and stored.shape in ((), (1,))

    def find_number(self, name: str) -> float | None:
        """The value of a stored single number, if it is known."""
        stored = self.stored.get(name)
        if stored is None or stored.value is None or stored.value.size != 1:
            return None
        return float(stored.value.reshape(-1)[0])

    def are_equal(self, first: str, second: str) -> bool:
        """Whether two stored values are known to be the same."""
        if first == second:
            return True
        a, b = self.stored.get(first), self.stored.get(second)
        if a is None or b is None or a.value is None or b.value is None:
            return False
        return a.dtype == b.dtype and np.array_equal(a.value.reshape(-1), b.value.reshape(-1))

    def have_same_levels(self, first: Step, second: Step) -> bool:
        """Whether two of QuantizeLinear and DequantizeLinear have one scale and zero point."""
        if len(first.inputs) != 3 or len(second.inputs) != 3:
            return False
        pairs = zip(first.inputs[1:], second.inputs[1:], strict=True)
        return all(
            self.is_scalar(a) and self.is_scalar(b) and self.are_equal(a, b) for a, b in pairs
        )
