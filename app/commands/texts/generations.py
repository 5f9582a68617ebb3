"""What the command that generates text prints."""

from __future__ import annotations

from app.commands.plain_text import write_lines
from app.jobs.outcomes import GenerateOutcome


def format_generation(result: GenerateOutcome) -> str:
    """Show the prompt and the text that follows it, and how long that took."""
    pace = "" if result.token_ms is None else f", then {result.token_ms:.2f} ms a token"
    line = (
        f"{result.digest}: {result.tokens} tokens after {result.prompt_tokens}; the first after "
        f"{result.first_ms:.1f} ms{pace}"
    )
    if result.draft is not None and result.acceptance is not None:
        line += (
            f"; {result.draft} drafted, {result.acceptance:.0%} accepted, {result.passes} passes "
            f"of {result.digest}"
        )
    return f"{write_lines(result.prompt + result.text)}\n\n{line}"
