"""Numbers and names as people write them.

number(3.1e-9)                      # "3×10⁻⁹"
count(12_480)                       # "12.5k"
percent(0.9823)                     # "98.2%"
shorten(["encoder.layers.0.self_attn.out_proj", ...], limit=20)
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 3) -> str:
    """A measured number: plain between 0.001 and 10,000, a power of ten beyond; `digits` significant at most."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "−Inf" if value < 0 else "Inf"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{float(f'{value:.{digits}g}'):,.10g}".replace("-", "−")
    mantissa, exponent = f"{value:.0e}".split("e")
    power = f"10{int(exponent)}"[2:].translate(_SUPERSCRIPT)
    factor = {"1": "", "-1": "−"}.get(mantissa, mantissa.replace("-", "−") + "×")
    return f"{factor}10{power}"


def power(value: float) -> str:
    """A power of ten as such: 10⁻⁹, 10⁻², 1, 10, 10³."""
    exponent = round(math.log10(value))
    return {0: "1", 1: "10"}.get(exponent, "10" + str(exponent).translate(_SUPERSCRIPT))


def count(value: int) -> str:
    """A number of things: 950, 12.5k, 1.2M, 3.4B."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{suffix}"
    return str(value)


def percent(share: float) -> str:
    """A share in [0, 1]: 0%, <0.1%, 62%, 98.2%, >99.9%, 100%; the ends are kept for what is exactly there."""
    if not math.isfinite(share):
        return number(share)
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{round(100 * share, 1):.3g}%"


def plural(value: int, noun: str) -> str:
    """`1 layer`, `1,200 layers`."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def listing(items: Iterable[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    items = list(items)
    rest = len(items) - most
    return ", ".join(items) if rest <= 0 else f"{', '.join(items[:most])} and {rest} more"


def shorten(names: Sequence[str], limit: int = 24) -> list[str]:
    """Short, distinct labels: what all share is left out, leading words become initials, the rest loses its middle."""
    parts = [name.split(".") for name in names]
    heads = zip(*(p[:-1] for p in parts), strict=False)
    shared = len(list(takewhile(lambda words: len(set(words)) == 1, heads))) if len(names) > 1 else 0
    parts = [p[shared:] for p in parts]
    initials = 0  # of so many leading words, alike for all names
    while initials < max(map(len, parts), default=0) and max(len(_join(p, initials)) for p in parts) > limit:
        initials += 1
    labels = [clipped(_join(p, initials), limit) for p in parts]
    repeated = {label for label, times in Counter(labels).items() if times > 1}
    return [f"{label} ({i})" if label in repeated else label for i, label in enumerate(labels, 1)]


def _join(words: Sequence[str], initials: int) -> str:
    head, rest = words[:-1], words[-1:]
    short = [re.sub(r"(?<=[^\W\d])[^\W\d]+", "", word) if i < initials else word for i, word in enumerate(head)]
    return ".".join([*short, *rest])


def clipped(label: str, limit: int) -> str:
    """A label that loses its middle where it is longer than `limit` characters."""
    tail = (limit - 1) * 2 // 3
    return label if len(label) <= limit else f"{label[: limit - 1 - tail]}…{label[-tail:]}"
