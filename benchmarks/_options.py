"""Options of benchmarks, by their defaults, and the answer where their data is missing."""

from __future__ import annotations

import argparse
import json


def read_options(description: str | None, **defaults: int | float | str) -> argparse.Namespace:
    """Read the command line of a benchmark.

    Args:
        description: The benchmark's docstring, whose first line ``--help`` shows.
        **defaults: An option each, by its default, whose type is that of the option:
            ``labels_per_row=5`` is ``--labels-per-row`` with a whole number.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()


def report_missing(missing: str = "shared data not found") -> int:
    """Print that there is nothing to measure on; returns the exit code, which is 0."""
    print(json.dumps({"skipped": f"{missing}; set SUPERNET_SHARED_DATA"}))
    return 0
