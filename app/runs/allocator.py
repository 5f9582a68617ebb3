"""Memory that networks free is kept for the next layer, instead of going back to the system."""

from __future__ import annotations

import ctypes
import os
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest threshold glibc takes on 64-bit systems; what is larger is mapped as ever.
_MAPPED_FROM = 32 << 20
_KEPT = 256 << 20


def keep_freed_memory() -> bool:
    """Let the C library keep freed blocks of up to 32 MB, and 256 MB at most.

    By default a layer's output of some hundred kilobytes is mapped afresh and its pages are
    cleared, touched and given back again, for every layer of every network: 8,500 page faults for
    one small network, an eighth of its evaluation. Does nothing where the C library is not glibc,
    or where the user has set its thresholds.

    Returns:
        Whether it was set.
    """
    if not sys.platform.startswith("linux") or any(n.startswith("MALLOC_") for n in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    kept = library.mallopt(_TRIM_THRESHOLD, _KEPT)
    return bool(library.mallopt(_MMAP_THRESHOLD, _MAPPED_FROM) and kept)
