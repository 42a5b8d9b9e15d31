"""pytest makes errors of warnings; what nnvis tells then goes to stderr, and fails a test that did not expect it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def told_on_stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was told so; a test that expects it takes it out of here."""
    texts: list[str] = []
    monkeypatch.setattr("nnvis.errors.print", lambda text, **_: texts.append(text), raising=False)
    yield texts
    assert not texts
