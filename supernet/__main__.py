"""``python -m supernet`` is the ``supernet`` command, and ``torchrun -m supernet`` too.

The one place below ``app`` that knows of it: a command is looked for under the product's name.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def _leave_working_directory() -> None:
    """Take the working directory off the path, where ``-m`` puts it and a console script does not.

    A file there must not stand in for a module of this project or of a library; what a user names
    by a dotted path is looked up there all the same. In a checkout it is where this package lies.
    """
    if getattr(sys.flags, "safe_path", False):
        return
    here, ours = os.getcwd(), Path(__file__).resolve().parents[1]
    if sys.path[:1] in ([""], [here]) and Path(here).resolve() != ours:
        del sys.path[0]


if __name__ == "__main__":
    _leave_working_directory()
    from app.commands.main import main

    main()
