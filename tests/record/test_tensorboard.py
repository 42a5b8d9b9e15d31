"""What TensorBoard itself makes of our log: both loaders, every dashboard, and the eyes of a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watching_boards import Board, running_board, visible_text, wait_for

RUN = "vanishing-sigmoid/1-seed0"


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast loader", "slow loader"])
def board(request: pytest.FixtureRequest, example_run: Path) -> Iterator[Board]:
    with running_board(example_run.parents[1], load_fast=request.param) as board:
        wait_for(lambda: board.get("images/tags"), "the log to be loaded")
        yield board


def test_every_plugin_lists_its_tags(board: Board) -> None:
    bands = {"gradient_band/min", "gradient_band/median", "gradient_band/max"}
    steps = {"loss/train", "lr", "grad_norm/total"}
    assert set(board.get("scalars/tags")[RUN]) == {"loss/val", "accuracy/val"} | steps | bands
    assert set(board.get("histograms/tags")[RUN]) == {"log10_activation/000.linear1", "log10_activation/001.sigmoid1"}
    assert set(board.get("images/tags")[RUN]) == {"figures/gradient_flow"}
    assert set(board.get("text/tags")[RUN]) == {"config"}
    assert board.get("graphs/info")[RUN]["run_graph"]


def test_scalars_of_a_resumed_run(board: Board) -> None:
    def points(tag: str) -> list[tuple[int, float]]:
        return [(step, value) for _, step, value in board.get("scalars/scalars", run=RUN, tag=tag)]

    assert points("lr") == [(0, 0.125), (10, 0.125), (20, 0.125)]
    assert points("loss/train") == [(0, 2.25), (10, 1.25), (20, 0.25)]
    assert [step for step, _ in points("grad_norm/total")] == [0, 10, 20]
    assert [value for _, value in points("grad_norm/total")] == pytest.approx([1.0, 1e-25, 0.0], rel=1e-6, abs=0)


def test_layers_are_tensors_to_a_plugin(board: Board) -> None:
    tensors = board.get("nnvis/tensors", run=RUN)
    own = {"layers/grad_norm", "layers/activation_std", "histograms/activation", "network", "exact/grad_norm/total"}
    assert set(tensors) == own
    assert tensors["layers/grad_norm"]["content"] == {
        "version": 1,
        "quantity": "grad_norm",
        "layers": ["linear1", "sigmoid1", "output"],
    }
    assert tensors["layers/grad_norm"]["steps"] == [0, 10, 20]
    first, _, last = (bytes.fromhex(row) for row in tensors["layers/grad_norm"]["hex"])
    np.testing.assert_array_equal(np.frombuffer(first, "<u4"), [0x3F800000, 0x7FC00009, 0x3F000000])
    np.testing.assert_array_equal(np.frombuffer(last, "<f8"), [1e-50, np.nan, 0.5])
    assert [row["name"] for row in json.loads(tensors["network"]["text"][0])] == ["linear1", "sigmoid1", "output"]


def test_histograms_are_over_log10_of_the_magnitude(board: Board) -> None:
    [[_, step, buckets]] = board.get("histograms/histograms", run=RUN, tag="log10_activation/000.linear1")
    assert step == 0
    assert buckets == [[-3, -2, 100], [-2, -1, 95]]


def test_hparams(board: Board) -> None:
    body = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "sliceSize": 9, "colParams": []}
    [group] = board.get("hparams/session_groups", request=json.dumps(body))["sessionGroups"]
    assert group["name"] == RUN
    assert group["hparams"] == {
        "model.activation": "Sigmoid",
        "optimizer.lr": 0.125,
        "data.standardize": True,
        "clip": "null",
    }


DASHBOARDS = {
    "scalars": ["tag: accuracy/val", "tag: grad_norm/total", "gradient_band", "loss"],
    "custom_scalars": ["log10 gradient norm of the layers: min, median, max", "gradient_band/median (" + RUN],
    "histograms": ["tag: log10_activation/000.linear1"],
    "distributions": ["tag: log10_activation/000.linear1"],
    "images": ["tag: figures/gradient_flow"],
    "text": ["tag: config", "vanishing-sigmoid"],
    "hparams": ["model.activation", "Sigmoid", "0.12500"],
}


@pytest.mark.browser
@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_dashboards_show_the_run(board: Board, browser: Any, dashboard: str, tmp_path: Path) -> None:
    browser.get(f"{board.url}#{dashboard}")

    def shown() -> bool:
        text = visible_text(browser)
        return all(expected in text for expected in DASHBOARDS[dashboard])

    wait_for(shown, f"{DASHBOARDS[dashboard]} in the {dashboard} dashboard")
    browser.save_screenshot(str(tmp_path / f"{dashboard}.png"))
