"""Weight-sharing supernets: spaces, what each choice cuts, training, extraction and export."""

from __future__ import annotations

__version__ = "0.1.0"
