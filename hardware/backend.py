"""What runs models somewhere: the contract of a device backend, and finding one by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from supernet.errors import InputError
from supernet.space import nearest
from supernet.user_modules import NoSuchModuleError, import_user_module

FOLDER = "hardware.devices"
CLOCKS = ("thread-cpu", "wall")

Timer = Callable[[], int]
"""Runs a loaded model once and returns nanoseconds."""


class DeviceSettings(Protocol):
    """The part of a device's description that its backend acts on."""

    @property
    def provider(self) -> str:
        """One of the names that ``list_providers`` of the backend returns."""
        ...

    @property
    def provider_options(self) -> tuple[tuple[str, str], ...]:
        """``(key, value)`` pairs for the provider."""
        ...

    @property
    def threads(self) -> int:
        """Threads of one operator, at least 1."""
        ...


class Backend(Protocol):
    """What a module has to offer to be a device backend.

    A backend is one file: ``hardware/devices/NAME.py``, or a module of your own that is named by
    its dotted path. It is imported wherever a device is described, so it imports its runtime
    inside its functions. :mod:`hardware.testing.device_contract` checks all of this.

    Attributes:
        SUMMARY: One line about where models run, for a list of backends.
        TITLE: The runtime's name as it stands in sentences, such as ``"ONNX Runtime"``.
        VERSION_FIELD: The key of :meth:`describe` under which the runtime's version stands.
        DEFAULT_PROVIDER: The provider of a device whose description names none.
    """

    SUMMARY: str
    TITLE: str
    VERSION_FIELD: str
    DEFAULT_PROVIDER: str

    def explain_absence(self) -> str | None:
        """Say why the backend cannot be used here and what would help, in one sentence.

        Returns:
            The sentence, or ``None`` where the backend can be used.
        """
        ...

    def list_providers(self) -> tuple[str, ...]:
        """List what computes here, such as execution providers; never empty where usable."""
        ...

    def choose_clock(self, device: DeviceSettings) -> str:
        """Say which clock :meth:`load`'s timers read.

        Returns:
            ``"thread-cpu"`` where the calling thread does all the work, so that its processor
            time is the latency even on a busy machine; ``"wall"`` everywhere else.
        """
        ...

    def describe(self, device: DeviceSettings) -> dict[str, Any]:
        """Collect versions and options that change latency, as JSON; equal at every call.

        The result becomes part of the fingerprint of a latency table. Keys of
        :meth:`hardware.device.Device.fingerprint` are replaced by equal ones from here, such as
        ``"cpu"`` by the processor of a phone that does the work.
        """
        ...

    def load(self, model: bytes, feeds: Mapping[str, np.ndarray], device: DeviceSettings) -> Timer:
        """Load a model and return a function that runs it once.

        Args:
            model: A serialised ONNX model of batch 1.
            feeds: Its inputs by name, handed to every run and left as they are.
            device: Where and how to run it; its provider is one of :meth:`list_providers`.

        Returns:
            A function without arguments that runs the model once, waits for its outputs and
            returns how long that took, in whole nanoseconds of the clock of
            :meth:`choose_clock`. Several models may be loaded at the same time.

        Raises:
            InputError: The model cannot be loaded; one sentence that says why.
        """
        ...


PARTS = (
    "SUMMARY",
    "TITLE",
    "VERSION_FIELD",
    "DEFAULT_PROVIDER",
    "explain_absence",
    "list_providers",
    "choose_clock",
    "describe",
    "load",
)


def list_backends() -> tuple[str, ...]:
    """List the backends in ``hardware/devices`` by name, sorted."""
    return tuple(sorted(p.stem for p in (Path(__file__).parent / "devices").glob("[a-z]*.py")))


def find_backend(name: str) -> Backend:
    """Import a backend by its name in ``hardware/devices``, or a module by its dotted path.

    A dotted path is looked up from the working directory, too.

    Raises:
        InputError: There is no such module, or it lacks a part of :class:`Backend`.
        ModuleNotFoundError: The module needs another one that is not installed.
    """
    path = name if "." in name else f"{FOLDER}.{name}"
    known = list_backends()
    unknown = (
        f"there is no device backend {name!r}{nearest(name, known)}; there are {list(known)}, "
        "or give the dotted path of a module of your own"
    )
    try:
        module = import_user_module(path, "the device backend", working_directory="." in name)
    except NoSuchModuleError:
        raise InputError(unknown) from None
    lacks = [part for part in PARTS if not hasattr(module, part)]
    if lacks:
        raise InputError(f"module {path!r} is no device backend: it lacks {', '.join(lacks)}")
    return cast(Backend, module)
