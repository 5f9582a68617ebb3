"""How far a network in number formats has run: each thread is somewhere else in it."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from torch import Tensor

from supernet.quantization.formats import FP32, Format
from supernet.quantization.tracking import State


class Running(threading.local):
    """What is true of one network while a thread runs it, which no other thread sees.

    Attributes:
        depth: Units that are running, one in the other.
        unit: Path of the innermost one.
        format: Its format.
        outer: Paths and formats of those around it.
        guests: Tensors from outside that something is noted of while the network runs.
        written: Tensors that the network has overwritten in place, by id, each with what is in it
            now: rounded integers are tensors of their own.
        shared: States of the tensors that were rounded and have gradients.
        anchored: By the name of each tensor that has been rounded, copies included, whether hard
            swish was the first to read it.
    """

    def __init__(self) -> None:
        self.guests: list[Tensor] = []
        self.written: dict[int, tuple[Tensor, Tensor]] = {}
        self.shared: list[weakref.ref[State]] = []
        self.anchored: dict[str, bool] = {}
        self.rewind()

    def rewind(self) -> None:
        """Be outside of the network."""
        self.depth = 0
        self.unit = ""
        self.format: Format = FP32
        self.outer: list[tuple[str, Format]] = []

    def __reduce__(self) -> Any:
        # A copy of a network runs nowhere yet.
        return Running, ()
