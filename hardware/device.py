"""What a latency belongs to: an execution provider with its options, on one kind of machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from supernet.graph.onnx_model import OPSET

CPU = "CPUExecutionProvider"

# Instruction sets that change which kernels run; the full flag list differs between kernels.
_FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
          "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "sse4_2", "neon",
          "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2")  # fmt: skip

Timer = Callable[[], int]
"""Runs a loaded model once and returns nanoseconds."""


class Backend(Protocol):
    """What a module in ``hardware/devices`` provides."""

    def load(self, model: bytes, feeds: Mapping[str, Any], device: Device) -> Timer:
        """Load an ONNX model and return a function that runs it once and returns nanoseconds."""
        ...

    def describe(self, device: Device) -> dict[str, Any]:
        """Versions and options that change latency."""
        ...


@dataclass(frozen=True, slots=True)
class Device:
    """An ONNX Runtime execution provider with its options and thread count.

    Attributes:
        name: name of the device's folder in a run directory.
        provider: execution provider.
        provider_options: ``(key, value)`` pairs for the provider.
        threads: threads of one operator.
        backend: module in ``hardware/devices``, or a dotted path to one of your own.
    """

    name: str = "cpu"
    provider: str = CPU
    provider_options: tuple[tuple[str, str], ...] = ()
    threads: int = 1
    backend: str = "onnx_runtime"

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads = {self.threads} is not a thread count; use 1 or more")
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ValueError(f"device name {self.name!r} cannot be a folder name; use letters")

    @property
    def clock(self) -> str:
        """``"thread-cpu"`` where one thread does all the work, else ``"wall"``.

        Processor time of the calling thread equals the wall time of a run that nobody
        interrupts, and stays usable on a busy machine. It misses the work of other threads and
        of accelerators, so there the wall clock is used.
        """
        return "thread-cpu" if self.threads == 1 and self.provider == CPU else "wall"

    def load(self, model: bytes, feeds: Mapping[str, Any]) -> Timer:
        """Load an ONNX model; the returned function runs it once and returns nanoseconds."""
        return self._module().load(model, feeds, self)

    def fingerprint(self) -> dict[str, Any]:
        """Everything about this machine and configuration that a latency depends on."""
        model, flags = _processor()
        return {
            "cpu": model,
            "flags": flags,
            "cores": os.cpu_count() or 1,
            "system": platform.system(),
            "machine": platform.machine(),
            "provider": self.provider,
            "provider_options": dict(self.provider_options),
            "threads": self.threads,
            "backend": self.backend,
            "clock": self.clock,
            "opset": OPSET,
            **self._module().describe(self),
        }

    def to_json(self) -> dict[str, Any]:
        """The device as JSON, without the fingerprint."""
        return {
            "name": self.name,
            "provider": self.provider,
            "provider_options": dict(self.provider_options),
            "threads": self.threads,
            "backend": self.backend,
        }

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Device:
        """The device :meth:`to_json` wrote.

        Raises:
            ValueError: if a field is missing.
        """
        try:
            options = tuple(sorted(payload["provider_options"].items()))
            return cls(payload["name"], payload["provider"], options, payload["threads"],
                       payload["backend"])  # fmt: skip
        except KeyError as error:
            raise ValueError(f"device description has no {error}; profile it again") from error

    def _module(self) -> Backend:
        path = self.backend if "." in self.backend else f"hardware.devices.{self.backend}"
        try:
            return cast(Backend, import_module(path))
        except ModuleNotFoundError as error:
            if error.name != path:
                raise
            here = sorted(p.stem for p in (Path(__file__).parent / "devices").glob("[a-z]*.py"))
            raise ValueError(
                f"there is no device backend {self.backend!r}; there are {here}"
            ) from error


def fingerprint_digest(fingerprint: Mapping[str, Any]) -> str:
    """12 hex digits of a fingerprint."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:12]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, as ``"key: ours -> theirs"`` phrases."""
    return [
        f"{key}: {ours.get(key)!r} -> {theirs.get(key)!r}"
        for key in sorted(set(ours) | set(theirs))
        if ours.get(key) != theirs.get(key)
    ]


def _processor() -> tuple[str, list[str]]:
    """Processor model and the instruction sets that matter, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine(), []
    fields: dict[str, str] = {}
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    family = "/".join(fields.get(k, "") for k in ("cpu family", "model", "stepping"))
    model = fields.get("model name", fields.get("CPU part", platform.machine()))
    present = set((fields.get("flags") or fields.get("Features") or "").split())
    return f"{model} ({family})", [flag for flag in _FLAGS if flag in present]
