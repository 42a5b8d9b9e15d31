"""Records as TensorBoard frames them, and what is left of them when bytes are lost or changed."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.summary.writer.record_writer import RecordWriter

from nnvis.record.framing import DamageError, frame, unframe

PAYLOADS = [b"", b"brain.Event:2", bytes(range(256)) * 3]


def test_bytes_are_those_of_tensorboards_own_writer() -> None:
    file = io.BytesIO()
    writer = RecordWriter(file)
    for payload in PAYLOADS:
        writer.write(payload)
    assert b"".join(map(frame, PAYLOADS)) == file.getvalue()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=40), max_size=6), st.data())
def test_a_cut_keeps_every_complete_record(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [frame(payload) for payload in payloads]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    read = list(unframe(whole[:cut]))
    ends = [sum(map(len, frames[: n + 1])) for n in range(len(frames))]
    assert read == [(end, payload) for end, payload in zip(ends, payloads, strict=True) if end <= cut]


@pytest.mark.parametrize("offset", range(len(frame(PAYLOADS[1]))))
def test_any_wrong_byte_is_noticed_where_its_record_starts(offset: int) -> None:
    before, damaged = frame(PAYLOADS[2]), bytearray(frame(PAYLOADS[1]))
    damaged[offset] ^= 0x10
    records = unframe(before + bytes(damaged) + before)
    assert next(records) == (len(before), PAYLOADS[2])
    with pytest.raises(DamageError, match=f"byte {len(before)}: a record"):
        next(records)
