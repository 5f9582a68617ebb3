"""``python -m supernet`` is the ``supernet`` command, and ``torchrun -m supernet`` too.

The one place below ``app`` that knows of it: a command is looked for under the product's name.
"""

from __future__ import annotations

from app.commands.main import main

if __name__ == "__main__":
    main()
