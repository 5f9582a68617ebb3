"""One file per search strategy; each offers ``build`` and ``SUMMARY``."""

from __future__ import annotations
