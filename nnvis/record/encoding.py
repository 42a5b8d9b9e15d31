"""Numbers to bytes and back. An absent value is a NaN that carries its reason; a measured NaN carries none.

for data_type, content in encode_rows(rows): ...
values, reason_codes = decode(content, count)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nnvis.record import protos
from nnvis.record.vocabulary import ABSENCE_REASONS, FloatArray, IntArray, LayerValues

_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)
_REASON_MASK = 0xFF
_UNKNOWN_REASON = ABSENCE_REASONS.index("not measured")
_FORMATS = {  # data type -> float type, integer of the same width, bits of a NaN without payload
    protos.FLOAT: (np.dtype("<f4"), np.dtype("<u4"), 0x7FC00000),
    protos.DOUBLE: (np.dtype("<f8"), np.dtype("<u8"), 0x7FF8000000000000),
}


def fits_float32(value: float) -> bool:
    """Whether float32 keeps the value's seven digits: 0, NaN, Inf, or a magnitude neither too small nor too large."""
    magnitude = abs(value)
    return not (0 < magnitude < _SMALLEST or _LARGEST < magnitude < np.inf)


def encode_rows(rows: Sequence[LayerValues]) -> Iterator[tuple[int, bytes]]:
    """TensorBoard's data type and the bytes of each row: float32, or float64 where float32 would not hold a value.

    All rows go through numpy together, since a step has many short ones.
    """
    if not rows:
        return
    values = np.concatenate([row.values for row in rows])
    codes = np.concatenate([row.reason_codes for row in rows])
    magnitude = np.abs(values)
    is_wide = (magnitude < _SMALLEST) & (magnitude > 0) | (magnitude > _LARGEST) & (magnitude < np.inf)
    content = {protos.FLOAT: _to_bytes(values, codes, protos.FLOAT)}
    if any_wide := bool(is_wide.any()):
        content[protos.DOUBLE] = _to_bytes(values, codes, protos.DOUBLE)
    start = 0
    for row in rows:
        stop = start + len(row.values)
        data_type = protos.DOUBLE if any_wide and is_wide[start:stop].any() else protos.FLOAT
        width = _FORMATS[data_type][0].itemsize
        yield data_type, content[data_type][start * width : stop * width]
        start = stop


def decode(content: bytes, count: int) -> tuple[FloatArray, IntArray]:
    """(count,) float64 values, NaN where absent, and (count,) reason codes, 0 where present."""
    float_type, bits_type, _ = _FORMATS[protos.DOUBLE if len(content) == 8 * count else protos.FLOAT]
    numbers = np.frombuffer(content, float_type)
    codes = np.zeros(count, np.uint8)
    gaps = np.isnan(numbers)
    if gaps.any():
        codes[gaps] = numbers.view(bits_type)[gaps] & _REASON_MASK
        codes[codes >= len(ABSENCE_REASONS)] = _UNKNOWN_REASON  # written by a newer version
    return numbers.astype(np.float64), codes


def _to_bytes(values: FloatArray, reason_codes: IntArray, data_type: int) -> bytes:
    float_type, bits_type, nan = _FORMATS[data_type]
    with np.errstate(over="ignore"):
        numbers = values.astype(float_type)
    gaps = np.isnan(numbers)
    if gaps.any() or reason_codes.any():
        bits, absent = numbers.view(bits_type), reason_codes != 0
        bits[gaps] = nan
        bits[absent] = reason_codes[absent].astype(bits_type) | bits_type.type(nan)
    return numbers.tobytes()
