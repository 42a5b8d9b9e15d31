"""What the placebo benchmark trains is what `nnvis train` trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from placebo import configs, final_losses, proved, with_seeds

from nnvis.experiment import train


@pytest.mark.parametrize("config", configs(80, 30)[::27], ids=lambda config: config.data.kind)
def test_networks_that_step_together_end_where_each_ends_alone(config: object, tmp_path: Path) -> None:
    runs = [with_seeds(config, 5 + k % 2, 7 + k) for k in range(3)]  # type: ignore[arg-type]
    alone = [train(run, runs=tmp_path, quiet=True, figures=False).summary["metrics"]["val"]["loss"] for run in runs]
    assert final_losses(runs) == pytest.approx(alone, rel=1e-4)
    assert len(set(alone)) == 3


def test_a_second_round_is_only_for_where_the_first_proves_nothing() -> None:
    assert proved([0.002, 0.5, 0.001], first=2) == 1  # of three: the second round is not begun
    assert proved([0.02, 0.5, 0.001], first=2) == 1
    assert proved([0.02, 0.5, 0.004], first=2) == 0
