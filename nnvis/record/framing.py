"""TensorBoard's record framing: length, masked CRC32C of it, data, masked CRC32C of them.

file.write(frame(event.SerializeToString()))
for end, payload in unframe(path.read_bytes()): ...
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator

import google_crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_FAST = google_crc32c.implementation == "c"

if not _FAST:
    warnings.warn(
        "google-crc32c runs without its C extension, so logging is slow; reinstall it: pip install google-crc32c",
        RuntimeWarning,
        stacklevel=2,
    )


class DamageError(ValueError):
    """The log cannot be read from a position on. `offset`: that position, in bytes."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(f"byte {offset}: {problem}")
        self.offset = offset


def frame(payload: bytes) -> bytes:
    """One record: the payload between its length and its checksum."""
    header = struct.pack("<Q", len(payload))
    return b"".join((header, _FOOTER.pack(_masked_crc(header)), payload, _FOOTER.pack(_masked_crc(payload))))


def unframe(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (offset where the record ends, payload) for each complete record; a tail cut off ends it quietly.

    Raises DamageError where a checksum is wrong. (Without the C extension only the lengths' checksums are checked.)
    """
    start = 0
    while start + _HEADER.size <= len(data):
        length, crc = _HEADER.unpack_from(data, start)
        if _masked_crc(data[start : start + 8]) != crc:
            raise DamageError(start, "a record's length has a wrong checksum")
        first = start + _HEADER.size
        end = first + length + _FOOTER.size
        if end > len(data):
            return
        payload = data[first : first + length]
        if _FAST and _masked_crc(payload) != _FOOTER.unpack_from(data, first + length)[0]:
            raise DamageError(start, "a record has a wrong checksum")
        yield end, payload
        start = end


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
