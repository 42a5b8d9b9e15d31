"""The fixture that figures are tested with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from made_up_runs import build_run

from nnvis.record.run import Run


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """Builds a record; see `made_up_runs.build_run`."""
    return build_run
