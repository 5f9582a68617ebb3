"""One file per prediction method; each offers ``fit`` and ``SUMMARY``."""

from __future__ import annotations
