"""Numbers as people read them: percent, milliseconds with three digits, KB and MB, millions."""

from __future__ import annotations

import math

MISSING = "\N{EN DASH}"


def format_digits(value: float, digits: int = 3) -> str:
    """``value`` rounded to so many significant digits, never in exponent notation."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else MISSING
    # Rounding first: 9.996 has one digit before the point but becomes 10.0.
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(decimals, 0)}f}"


def format_percent(fraction: float, decimals: int = 1) -> str:
    """A fraction as percent: 0.9725 is ``97.2 %`` or ``97.3 %``, as binary rounding has it."""
    return f"{100 * fraction:.{decimals}f} %"


def format_milliseconds(value: float) -> str:
    """A latency with three significant digits: ``0.0213 ms``."""
    return f"{format_digits(value)} ms"


def format_bytes(size_bytes: float) -> str:
    """Bytes as KB or MB of 1000: ``45.1 KB``."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        # From 999.5 on, three digits would show "1,000" of the smaller unit.
        if size_bytes >= 0.9995 * factor:
            return f"{format_digits(size_bytes / factor)} {unit}"
    return f"{size_bytes:.0f} B"


def format_count(value: float) -> str:
    """A large count: ``912``, ``45.1 K``, ``1.23 M``, ``4.56 G``."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= 0.9995 * factor:
            return f"{format_digits(value / factor)} {unit}"
    return f"{value:.0f}"


def format_items(count: int, one: str, many: str = "") -> str:
    """A count and what is counted: ``1 point``, ``1,024 points``.

    Args:
        count: How many.
        one: What one of them is called.
        many: What any other number is called; ``one`` and an "s" where it is empty.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def format_space_size(value: int) -> str:
    """Number of architectures: exact with separators up to a million, then a power of ten."""
    if value < 10**6:
        return f"{value:,}"
    exponent = len(str(value)) - 1
    mantissa = f"{value / 10**exponent:.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    superscript = str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} \N{MULTIPLICATION SIGN} 10{superscript}"
