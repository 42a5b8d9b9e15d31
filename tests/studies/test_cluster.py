"""The same study on a Ray cluster of two nodes, all on this machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_studies import small_study

import nnvis
from nnvis.config.study import load_study_config
from nnvis.errors import InputError
from nnvis.experiment import train
from nnvis.studies.cluster import run_on_ray
from nnvis.studies.events import Ended, Progress
from nnvis.studies.plan import Plan

MORTAL = """
import os, signal
from pathlib import Path
import torch

class Mortal(torch.nn.Module):
    \"\"\"Its process is killed at its hundredth training step, once; every training step is noted.\"\"\"

    def __init__(self, diary):
        super().__init__()
        self.linear, self.diary = torch.nn.Linear(2, 2), Path(diary)

    def forward(self, inputs):
        if self.training and torch.is_grad_enabled():
            with self.diary.open("a") as diary:
                print(os.getpid(), file=diary)
            if self.diary.read_text().count("\\n") == 100:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.linear(inputs)
"""


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    """Two nodes of one processor each, and a driver that is connected to them."""
    pytest.importorskip("ray", reason="needs the extra `cluster`")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(tmp_path)
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(cluster.address, log_to_driver=False)
        yield ray
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_a_lost_workers_run_goes_on_from_its_checkpoint(ray: object, tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL, encoding="utf-8")
    diary = tmp_path / "diary"
    mortal = {"kind": "python", "target": "mortal:Mortal", "arguments": {"diary": str(diary)}}
    variants = {"mlp": {}, "mortal": {"model": mortal}, "wild": {"optimizer.lr": 1e30}}
    file = small_study(tmp_path, variants=variants)
    long = "training.epochs=60"  # 180 steps
    study = nnvis.compare(file, [long], runs=tmp_path / "runs", on="ray", trust=True, quiet=True)
    assert study.missing == {}
    assert {variant: run.summary["status"] for variant, _, run in study.each_run()} == {
        "mlp": "completed", "mortal": "completed", "wild": "diverged",
    }  # fmt: skip
    first, second = Counter(diary.read_text().split()).values()
    assert first == 100
    assert 80 <= second < 180  # it did not begin anew
    diary.write_text("\n" * 1000)
    for task in Plan.of(load_study_config(file, [long], trust=True), tmp_path / "elsewhere").tasks[:2]:
        whole = train(task.config, runs=tmp_path / "whole", quiet=True, figures=False, trust=True)
        ours, its = (
            torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)["model"]
            for run in (study.runs[task.variant][0], whole)
        )
        assert all(torch.equal(ours[name], its[name]) for name in its)


@pytest.mark.slow
def test_leaving_early_saves_what_is_trained(ray: object, tmp_path: Path) -> None:
    config = load_study_config(small_study(tmp_path, seeds=3), ["training.epochs=100000"])
    plan = Plan.of(config, tmp_path / "runs" / "small")
    with run_on_ray(None, plan.tasks) as events:
        seen = set()
        for event in events:
            assert isinstance(event, Progress), event
            seen.add(event.key)
            if len(seen) == 2:  # one on each node
                break
    assert not any(isinstance(event, Ended) for event in seen)
    for variant, seed in seen:
        (run,) = (tmp_path / "runs" / "small" / variant).glob(f"*-seed{seed}")
        assert nnvis.load_run(run).summary["status"] == "interrupted"


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with (
        pytest.raises(InputError, match=r'ray is not installed; pip install "nnvis-trainer\[cluster\]"'),
        run_on_ray(None, []),
    ):
        pass
