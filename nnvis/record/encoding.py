"""Numbers to bytes and back. An absent value is a NaN that carries its reason; a measured NaN carries none.

data_type, content = encode(values, reason_codes)
values, reason_codes = decode(data_type, content)
"""

from __future__ import annotations

import numpy as np

from nnvis.record import protos
from nnvis.record.vocabulary import ABSENCE_REASONS, FloatArray, IntArray

_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)
_REASON_MASK = 0xFF
_UNKNOWN_REASON = ABSENCE_REASONS.index("not measured")
_FORMATS = {  # data type -> float type, integer of the same width, bits of a NaN without payload
    protos.FLOAT: (np.dtype("<f4"), np.dtype("<u4"), 0x7FC00000),
    protos.DOUBLE: (np.dtype("<f8"), np.dtype("<u8"), 0x7FF8000000000000),
}


def fits_float32(values: FloatArray | float) -> bool:
    """Whether float32 keeps every value's seven digits: none is too large for it, none but 0 too small."""
    magnitude = np.abs(values)
    bad = (magnitude < _SMALLEST) & (magnitude > 0) | (magnitude > _LARGEST) & (magnitude != np.inf)
    return not np.any(bad)


def encode(values: FloatArray, reason_codes: IntArray) -> tuple[int, bytes]:
    """TensorBoard's data type and the bytes of (L,) values: float32, or float64 where float32 would not hold one."""
    data_type = protos.FLOAT if fits_float32(values) else protos.DOUBLE
    float_type, bits_type, nan = _FORMATS[data_type]
    numbers = values.astype(float_type)
    bits = numbers.view(bits_type)
    bits[np.isnan(numbers)] = nan
    absent = np.flatnonzero(reason_codes)
    if len(absent):
        bits[absent] = reason_codes[absent].astype(bits_type) | bits_type.type(nan)
    return data_type, numbers.tobytes()


def decode(data_type: int, content: bytes) -> tuple[FloatArray, IntArray]:
    """(N,) float64 values, NaN where absent, and (N,) reason codes, 0 where present."""
    float_type, bits_type, _ = _FORMATS[data_type]
    numbers = np.frombuffer(content, float_type)
    codes = np.zeros(len(numbers), np.uint8)
    gaps = np.isnan(numbers)
    if gaps.any():
        codes[gaps] = numbers.view(bits_type)[gaps] & _REASON_MASK
        codes[codes >= len(ABSENCE_REASONS)] = _UNKNOWN_REASON  # written by a newer version
    return numbers.astype(np.float64), codes
