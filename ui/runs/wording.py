"""Numbers and times in words. The server does not know the person's time zone, so times are told as distances."""

from __future__ import annotations

import math

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """At most two units, such as `1 h 5 min`; `0 s` for a time that is over."""
    left = max(0, round(seconds))
    for place, (size, name) in enumerate(UNITS):
        if left >= size:
            rest = round((left % size) // UNITS[place + 1][0]) if place + 1 < len(UNITS) and size > 60 else 0
            return f"{left // size} {name}" + (f" {rest} {UNITS[place + 1][1]}" if rest else "")
    return "0 s"


def ago(at: float, now: float) -> str:
    """A time in the past; only minutes and longer, so that it does not change each second."""
    seconds = now - at
    return "just now" if seconds < 60 else f"{duration(seconds // 60 * 60)} ago"


def number(value: float) -> str:
    """Four significant digits, or three with an exponent."""
    if not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
