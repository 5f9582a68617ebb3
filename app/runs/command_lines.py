"""Command lines that lead on from a run, ready to be pasted into a shell."""

from __future__ import annotations

from pathlib import Path


def pick_command(run: Path, search: str, latency_ms: float) -> str:
    """The command line that picks the same subnetwork as the slider does."""
    which = "" if search == "default" else f" --search {quote(search)}"
    return f"supernet pick --run {quote(str(run))}{which} --latency-ms {latency_ms:.6g}"


def export_command(run: Path, digest: str, out: Path) -> str:
    """The command line that exports one architecture."""
    return f"supernet export --run {quote(str(run))} --arch {digest} --out {quote(str(out))}"


def profile_command(run: Path, device: str) -> str:
    """The command line that profiles a device, or goes on with it."""
    return f"supernet profile --run {quote(str(run))} --device {quote(device)}"


def resume_command(run: Path, family: str, data: str) -> str:
    """The command line that trains a run to the end."""
    return f"supernet train --family {family} --data {quote(data)} --out {quote(str(run))} --resume"


def search_command(run: Path, device: str, quality: str) -> str:
    """The command line that searches a run.

    Args:
        run: Its directory.
        device: The device whose latency counts.
        quality: What its task is judged by.
    """
    return (
        f"supernet search --run {quote(str(run))} --device {quote(device)} "
        f"--objectives {quality},latency"
    )


def quote(text: str) -> str:
    """``text`` as one shell word, in double quotes only when it needs them."""
    if text and all(c.isalnum() or c in "._-/\\:+=@%" for c in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return '"' + escaped.replace("`", "\\`") + '"'
