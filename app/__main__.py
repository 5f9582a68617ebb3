"""``python -m app`` is the ``supernet`` command."""

from __future__ import annotations

from app.commands.main import main

main()
