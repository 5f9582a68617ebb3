"""Commands and workers in processes forked from one that has imported what they import.

Starting Python anew takes longer than most commands of the tests. What they are forked from has
done nothing but import, so that none of them finds a lock that is held or a state that is not new.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

IMPORTED = [
    "app.commands.main",
    "app.commands.texts.runs",
    "app.commands.texts.searches",
    "app.evaluation.worker_process",
    "app.jobs.audit",
    "app.jobs.finetune",
    "app.jobs.profile",
    "app.jobs.search",
    "app.jobs.train",
    "hardware.devices.onnx_runtime",
    "onnxruntime",
    "optuna",
    "sklearn.datasets",
    "sklearn.ensemble",
    "sklearn.gaussian_process",
    "supernet.families.ofa_mobilenetv3",
    "torch._dynamo",
    "tests.app.forked",
]


def open_context() -> ForkServerContext:
    """The context of processes that find everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def start_command(arguments: tuple[str, ...], said: Path) -> ForkServerProcess:
    """Start one command; what it says goes to a file."""
    process = open_context().Process(target=_run_command, args=(arguments, str(said)))
    process.start()
    return process


@contextmanager
def quick_workers() -> Iterator[None]:
    """Within it, pools of workers start them this way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.evaluation.pools.get_context", lambda _: open_context())
        yield


def _run_command(arguments: tuple[str, ...], said: str) -> None:
    """Run one command in this process, which a kill ends."""
    from app.commands import main

    with open(said, "a") as file:
        sys.stdout = sys.stderr = file
        code = main.run(arguments)
        file.flush()
    os._exit(code)
