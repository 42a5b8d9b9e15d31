"""A small run as the training writes it, for the tests of the log's readers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboard.compat.proto import graph_pb2
from watching_boards import CHROMEDRIVER, CHROMIUM, CHROMIUM_OPTIONS

from nnvis.record import HISTOGRAM_EDGES, EventLog, LayerCounts, LayerInfo, LayerValues, Measurement

LAYERS = ("linear1", "sigmoid1", "output")


def measurement(step: int) -> Measurement:
    """Gradients that shrink to 1e-50 within three steps; a histogram at step 0."""
    norms = np.array([10.0 ** -(step * 2.5), np.nan, 0.5])  # a nonlinearity has no parameters: 9, "not applicable"
    rows = {
        "grad_norm": LayerValues(LAYERS, norms, np.array([0, 9, 0])),
        "activation_std": LayerValues(LAYERS, np.array([np.nan, 0.2, np.inf]), np.zeros(3, int)),
    }
    counts = np.zeros((3, len(HISTOGRAM_EDGES) + 1), int)
    counts[0, [5, 6, 26, 32, 33]] = 5, 100, 90, 7, 2  # [-0.1, -0.01), [-0.01, -0.001), [0.01, 0.1), zeros, non-finite
    counts[1, 16] = 4096  # (0, 1e-24)
    counts[2, 32] = 4096  # all zero
    histograms = {"activation": LayerCounts(LAYERS, counts)} if step == 0 else {}
    return Measurement(step, rows, histograms, {"loss/train": 2.25 - step / 10, "grad_norm/total": norms[0]})


def write_run(directory: Path) -> None:
    """Three measured steps, validation values, a figure, and what surrounds them; resumed in between."""
    with EventLog.create(directory) as log:
        log.layout()
        log.hparams({"model.activation": "Sigmoid", "optimizer.lr": 0.125, "data.standardize": True, "clip": None})
        graph = graph_pb2.GraphDef()  # pyright: ignore[reportAttributeAccessIssue]
        graph.node.add(name="linear1", op="Linear")
        log.graph(graph.SerializeToString())
        log.text(0, "config", "# vanishing-sigmoid")
        log.write(measurement(0), {"lr": 0.125})
        log.network([LayerInfo(name, "Linear", (64,), 4160, 4160) for name in LAYERS])
        length = log.flush()
        log.write(measurement(10), {"lr": 77.0})  # lost with the process that died
    with EventLog.resume(directory, length) as log:
        for step in (10, 20):
            log.write(measurement(step), {"lr": 0.125})
        log.scalars(30, {"loss/val": 2.5, "accuracy/val": 0.5})
        log.image(30, "figures/gradient_flow", png())
        log.hparams_end(succeeded=True)


def png() -> bytes:
    """A plot of 200 × 100 pixels."""
    figure = Figure(figsize=(2, 1), dpi=100)
    figure.subplots().plot([0, 1])
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG file."""
    return png()


@pytest.fixture(scope="session")
def example_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the small run, `runs/vanishing-sigmoid/1-seed0`; to be read only."""
    directory = tmp_path_factory.mktemp("runs") / "vanishing-sigmoid" / "1-seed0"
    write_run(directory)
    return directory


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium; skips the test where there is none."""
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("needs chromium and chromedriver on the PATH (Debian: chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*CHROMIUM_OPTIONS.split(), f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{option}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()
