"""``python -m supernet`` is the ``supernet`` command, and ``torchrun -m supernet`` too.

The one place below ``app`` that knows of it: a command is looked for under the product's name.
"""

from __future__ import annotations

import sys

from supernet.errors import InputError
from supernet.own_packages import leave_working_directory, require_own_packages


def main() -> None:
    """Run the command line, once it is sure that it is this project's."""
    leave_working_directory()
    try:
        require_own_packages()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    from app.commands.main import main as run_command

    run_command()


if __name__ == "__main__":
    main()
