"""Weight-sharing supernets: spaces, what each choice cuts, training, extraction and export."""

from __future__ import annotations

from supernet.own_packages import watch_imports

__version__ = "0.1.0"

watch_imports()
