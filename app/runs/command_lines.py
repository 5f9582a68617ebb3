"""Command lines that lead on from a run, ready to be pasted into a shell.

Paths, names and data may come from a file that somebody else wrote: every word is quoted, so that
a shell sees one word and nothing that it would run.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from app.records.run import RunIdentity
from app.runs import plugins


def write_command(*words: object, trust: Iterable[str] = ()) -> str:
    """Write a command line of this product, every word quoted where a shell needs it.

    Args:
        words: The command, its options and their values.
        trust: The user's own modules that files of the run name; added as ``--trust NAME``.
    """
    named = (word for name in dict.fromkeys(trust) for word in ("--trust", name))
    return shlex.join(["supernet", *map(str, words), *named])


def list_own_modules(record: RunIdentity) -> tuple[str, ...]:
    """List what a ``run.json`` names that commands use only after ``--trust NAME``.

    Who offers them in a command says that they run as programs: the file may be a stranger's.
    """
    named = (record.family, record.data.spec, str(record.recipe.get("sampler", "")))
    return tuple(dict.fromkeys(name for name in named if plugins.is_own(name)))


def pick_command(run: Path, search: str, latency_ms: float) -> str:
    """The command line that picks the same subnetwork as the slider does."""
    which = () if search == "default" else ("--search", search)
    return write_command("pick", "--run", run, *which, "--latency-ms", f"{latency_ms:.6g}")


def export_command(run: Path, digest: str, out: object, trust: Iterable[str] = ()) -> str:
    """The command line that exports one architecture."""
    return write_command("export", "--run", run, "--arch", digest, "--out", out, trust=trust)


def profile_command(
    run: Path, device: str, trust: Iterable[str] = (), *, replace: bool = False
) -> str:
    """The command line that profiles a device, or goes on with it, or replaces its table."""
    anew = ("--replace",) if replace else ()
    return write_command("profile", "--run", run, "--device", device, *anew, trust=trust)


def quantize_command(run: object, precision: str, trust: Iterable[str] = ()) -> str:
    """The command line that makes a run of the same weights in other number formats."""
    out = _name_sibling(run, precision)
    return write_command(
        "quantize", "--run", run, "--precision", precision, "--out", out, trust=trust
    )


def train_from_command(run: object, precision: str, trust: Iterable[str] = ()) -> str:
    """The command line that trains the weights of a run for other number formats."""
    out = _name_sibling(run, precision)
    return write_command(
        "train", "--from", run, "--precision", precision, "--out", out, trust=trust
    )


def _name_sibling(run: object, precision: str) -> str:
    return f"{run}-{precision.replace(',', '-').replace(':', '-')}"


def resume_command(run: Path, data: str | None = None, trust: Iterable[str] = ()) -> str:
    """The command line that trains a run to the end, with data where they are now."""
    moved = () if data is None else ("--data", data)
    return write_command("train", "--out", run, "--resume", *moved, trust=trust)


def search_command(
    run: Path, device: str, quality: str | None = None, trust: Iterable[str] = ()
) -> str:
    """The command line that searches a run.

    Args:
        run: Its directory.
        device: The device whose latency counts.
        quality: What its task is judged by; ``None`` leaves it to the search.
        trust: The user's own modules that files of the run name.
    """
    objectives = () if quality is None else ("--objectives", f"{quality},latency")
    return write_command("search", "--run", run, "--device", device, *objectives, trust=trust)
