"""What a latency belongs to: a backend's provider with its options, on one kind of machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hardware.backend import CLOCKS, Backend, Timer, find_backend
from hardware.processors import count_allowed_processors
from supernet.errors import InputError
from supernet.files import check_name
from supernet.graph.onnx_model import OPSET
from supernet.space import nearest

# Instruction sets that change which kernels run; the full flag list differs between kernels.
_FLAGS = (
    *("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "sse4_2"),
    *("neon", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)

# Keys of a fingerprint: processors that the process may use, and what follows from them.
ALLOWED, RUNNING = "allowed_processors", "threads at once"


@dataclass(frozen=True, slots=True)
class Device:
    """Where and how models run.

    Args:
        name: Name of the device's folder in a run directory.
        provider: What computes, by the backend's name for it; its default where left empty.
        provider_options: ``(key, value)`` pairs for the provider.
        threads: Threads of one operator.
        backend: Module in ``hardware/devices``, or the dotted path of a module of your own; see
            :class:`hardware.backend.Backend`.
        workload: What models are asked to do, by a name that this package does not read; empty for
            whole inputs. Tables of one machine and two workloads are two devices.

    Raises:
        InputError: The name cannot be a folder's, there is no thread, or the provider is left to
            a backend that there is not.
    """

    name: str = "cpu"
    provider: str = ""
    provider_options: tuple[tuple[str, str], ...] = ()
    threads: int = 1
    backend: str = "onnx_runtime"
    workload: str = ""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"threads = {self.threads} is not a thread count; use 1 or more")
        check_name("device", self.name)
        if not self.provider:
            object.__setattr__(self, "provider", self._module().DEFAULT_PROVIDER)

    @property
    def clock(self) -> str:
        """The clock that latencies are read from, ``"thread-cpu"`` or ``"wall"``.

        Processor time of the calling thread equals the wall time of a run that nobody
        interrupts, and stays usable on a busy machine. It misses the work of other threads and
        of accelerators; the backend knows where that matters.
        """
        clock = self._module().choose_clock(self)
        if clock not in CLOCKS:
            raise InputError(
                f"device backend {self.backend!r} has clock {clock!r}; it must be "
                f"{' or '.join(CLOCKS)}"
            )
        return clock

    def check(self) -> None:
        """Refuse a device that this machine does not have.

        Raises:
            InputError: There is no such backend, it cannot be used here, or it has no such
                provider; one sentence that names what there is.
        """
        backend = self._module()
        absence = backend.explain_absence()
        if absence is not None:
            raise InputError(absence)
        known = backend.list_providers()
        if not isinstance(known, (tuple, list)):
            raise InputError(
                f"device backend {self.backend!r}: list_providers gave {known!r}, which is no tuple"
            )
        if self.provider not in known:
            raise InputError(
                f"{backend.TITLE} here has no {self.provider}{nearest(self.provider, known)}; "
                f"it has {', '.join(known) or 'no provider at all'}"
            )

    def load(self, model: bytes, feeds: Mapping[str, np.ndarray]) -> Timer:
        """Load an ONNX model; the returned function runs it once and returns nanoseconds.

        Args:
            model: Serialised, of batch 1.
            feeds: Inputs by name.

        Raises:
            InputError: As :meth:`check` does, or the model cannot be loaded.
        """
        self.check()
        timer = self._module().load(model, feeds, self)
        if not callable(timer):
            raise InputError(
                f"device backend {self.backend!r}: load gave {timer!r}, which cannot be called to "
                "run the model"
            )
        return timer

    def fingerprint(self) -> dict[str, Any]:
        """Collect everything about this machine and configuration that a latency depends on."""
        model, flags = _describe_processor()
        backend = self._module()
        about = backend.describe(self)
        if not isinstance(about, Mapping) or not isinstance(about.get(backend.VERSION_FIELD), str):
            raise InputError(
                f"device backend {self.backend!r}: describe gave {about!r}; it must be a mapping "
                f"with a text under {backend.VERSION_FIELD!r}"
            )
        return {
            "cpu": model,
            "flags": flags,
            "cores": os.cpu_count() or 1,
            ALLOWED: count_allowed_processors(),
            "system": platform.system(),
            "machine": platform.machine(),
            "provider": self.provider,
            "provider_options": dict(self.provider_options),
            "threads": self.threads,
            "backend": self.backend,
            "clock": self.clock,
            "opset": OPSET,
            **about,
        }

    def explain_shortage(self) -> str | None:
        """Say in a sentence that threads have to take turns here; ``None`` where they need not."""
        allowed = count_allowed_processors()
        if self.threads <= allowed:
            return None
        many = "s" if allowed > 1 else ""
        return (
            f"{self.threads} threads have {allowed} processor{many} here that this process may use "
            f"(of {os.cpu_count() or 1}) and take turns, so that latencies are not those of "
            f"{self.threads} threads; use --threads {allowed}, or allow more processors"
        )

    def name_runtime(self, fingerprint: Mapping[str, Any]) -> str:
        """Name the runtime and the version that a fingerprint has of it, such as in a model card.

        Args:
            fingerprint: What :meth:`fingerprint` was when it was measured.
        """
        backend = self._module()
        return f"{backend.TITLE} {fingerprint.get(backend.VERSION_FIELD, '')}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """Return the device as JSON, without the fingerprint."""
        return {
            "name": self.name,
            "provider": self.provider,
            "provider_options": dict(self.provider_options),
            "threads": self.threads,
            "backend": self.backend,
            **({"workload": self.workload} if self.workload else {}),
        }

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Device:
        """Restore the device that :meth:`to_json` wrote.

        Raises:
            InputError: A field is missing or of another type.
        """
        kinds = {"name": str, "provider": str, "provider_options": dict, "threads": int}
        for key, kind in {**kinds, "backend": str}.items():
            if not isinstance(payload, Mapping) or not isinstance(payload.get(key), kind):
                raise InputError(f"the device description has no usable {key}; profile it again")
        options = tuple(sorted((str(k), str(v)) for k, v in payload["provider_options"].items()))
        workload = payload.get("workload", "")
        if not isinstance(workload, str):
            raise InputError("the device description has no usable workload; profile it again")
        return cls(
            payload["name"],
            payload["provider"],
            options,
            payload["threads"],
            payload["backend"],
            workload,
        )

    def _module(self) -> Backend:
        return find_backend(self.backend)


def digest_fingerprint(fingerprint: Mapping[str, Any]) -> str:
    """Condense a fingerprint to 12 hexadecimal digits.

    Allowed processors count only where threads had to take turns.
    """
    content = _count_running(fingerprint)
    if content.get(RUNNING) == content.get("threads"):
        content.pop(RUNNING, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def list_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """List what differs between two fingerprints, as ``"key: ours -> theirs"`` phrases.

    Of allowed processors it matters how many threads can run on them at once; fingerprints that
    were taken before these were counted agree with any number.
    """
    ours, theirs = _count_running(ours), _count_running(theirs)
    known = RUNNING in ours and RUNNING in theirs
    # Another number of threads says it already.
    if not known or ours.get("threads") != theirs.get("threads"):
        ours.pop(RUNNING, None)
        theirs.pop(RUNNING, None)
    return [
        f"{key}: {ours.get(key)!r} -> {theirs.get(key)!r}"
        for key in sorted(set(ours) | set(theirs))
        if ours.get(key) != theirs.get(key)
    ]


def _count_running(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """A fingerprint with threads that run at once in the place of allowed processors."""
    content = dict(fingerprint)
    allowed, threads = content.pop(ALLOWED, None), content.get("threads")
    if isinstance(allowed, int) and isinstance(threads, int):
        content[RUNNING] = min(allowed, threads)
    return content


def _describe_processor() -> tuple[str, list[str]]:
    """Return the processor's model and the instruction sets that matter, where the system tells."""
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
