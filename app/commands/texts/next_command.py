"""What a result says to do next."""

from __future__ import annotations

from collections.abc import Sequence


def format_next(command: str, trust: Sequence[str] = ()) -> str:
    """Offer the command that follows.

    Args:
        command: Ready to be pasted into a shell.
        trust: What it names with ``--trust``. The run that asks for it may be a stranger's, so that
            what this means is said.
    """
    note = f"\n({' and '.join(trust)} will run as a program: only if it is yours)" if trust else ""
    return f"Next: {command}{note}"
