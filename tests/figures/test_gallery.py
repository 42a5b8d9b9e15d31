"""All figures of a run: what is drawn, what is left out, how it is saved, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from made_up_runs import layer_series
from matplotlib.image import imread

from nnvis import figures
from nnvis.figures import gallery
from nnvis.figures.reading import Clock, coverage, layer_table
from nnvis.record.run import Recorded, Run
from nnvis.record.vocabulary import LayerInfo, Series

MakeRun = Callable[..., Run]


def test_draws_what_there_are_data_for(make_run: MakeRun, tmp_path: Path) -> None:
    run = replace(make_run(3), histograms=Recorded(), layers=Recorded())
    files = figures.draw_run(run, tmp_path / "figures")
    assert [file.name for file in files] == ["learning_curves.png", "network.png"]
    assert sorted(tmp_path.rglob("*.png")) == sorted(files)


def test_one_broken_figure_does_not_cost_the_others(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: Run) -> None:
        raise KeyError("gone")

    drawn = {"first": broken, "learning_curves": figures.learning_curves, "last": broken}
    monkeypatch.setattr(gallery, "FIGURES", drawn)
    with pytest.raises(ExceptionGroup, match="2 of 3 figures") as raised:
        figures.draw_run(make_run(3), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["learning_curves.png"]
    assert [error.__notes__ for error in raised.value.exceptions] == [["while drawing first"], ["while drawing last"]]


def test_demo_draws_two_runs_together(make_run: MakeRun, tmp_path: Path) -> None:
    files = figures.draw_demo(make_run(3, "vanishing"), make_run(3), tmp_path)
    assert [file.name for file in files] == ["gradient_flow.png", "learning_curves.png"]


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_save_by_suffix(make_run: MakeRun, tmp_path: Path, suffix: str, magic: bytes) -> None:
    fig = figures.network(make_run(3))
    path = figures.save(fig, tmp_path / f"network.{suffix}")
    assert path.read_bytes().startswith(magic)
    assert list(tmp_path.iterdir()) == [path]
    if suffix == "png":
        assert imread(path).shape[:2] == tuple(np.round(fig.get_size_inches() * 200).astype(int)[::-1])


def test_the_same_record_gives_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    one, two = (figures.save(figures.network(make_run(3)), tmp_path / f"{name}.svg") for name in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_the_users_matplotlib_settings_neither_matter_nor_change(make_run: MakeRun) -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        ax = figures.learning_curves(make_run(3)).axes[0]
        assert dict(matplotlib.rcParams) == before
    assert ax.get_facecolor() == (1, 1, 1, 1)
    assert ax.yaxis.label.get_fontsize() == 9


def test_importing_is_quick_and_opens_no_window() -> None:
    code = (
        "import sys, nnvis.figures; assert not {'matplotlib', 'torch'} & set(sys.modules);"
        "nnvis.figures.draw_run; assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_exported_and_others_refused() -> None:
    assert all(callable(getattr(figures, name)) for name in figures.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = figures.nonsense  # pyright: ignore[reportAttributeAccessIssue]


def test_no_data_says_what_is_missing(make_run: MakeRun) -> None:
    with pytest.raises(figures.NoData, match="healthy-3: no grad_norm in the record; there is no quantity"):
        figures.gradient_flow(replace(make_run(3), layers=Recorded()))


def test_tables_leave_out_what_does_not_apply_and_keep_what_is_absent_for_a_reason(make_run: MakeRun) -> None:
    names = ["relu", "attn", "head", "attn.out_proj"]
    reasons = [["not applicable", "frozen", "", ""]] * 2
    run = replace(
        make_run(3),
        layers=Recorded(grad_norm=layer_series([0, 1], names, np.ones((2, 4)), reasons)),
        network=tuple(LayerInfo(name, "", None, 0, 0) for name in names[:3]),
    )
    table = layer_table(run, "grad_norm")
    assert table.layers == ("attn", "attn.out_proj", "head")  # what was never called stands by its parent
    assert table.present.tolist() == [[False, True, True]] * 2


def test_the_clock_tells_epochs_where_the_record_knows_them(make_run: MakeRun) -> None:
    run = make_run(3)
    steps = np.array([0, 23, 34, 690, 713])
    assert Clock.of(run).at(steps).tolist() == pytest.approx([0, 1, 34 / 23, 30, 31])
    assert Clock.of(run).label == "epoch (23 steps each)"
    short = replace(run, scalars=Recorded({"loss/epoch": Series(np.array([23]), np.array([1.0]))}))
    assert Clock.of(short).unit == "step"
    assert Clock.of(short).at(steps).tolist() == steps.tolist()


def test_captions_tell_the_layers_that_were_not_seen(make_run: MakeRun) -> None:
    unseen = {f"head.{i}": "not called" for i in range(5)}
    run = replace(make_run(3), summary={"capture": {"unseen": unseen}})
    assert coverage(run) == " Layers not seen: 0 (not called), 1 (not called), 2 (not called) and 2 more."
    assert coverage(make_run(3)) == ""
    grads = layer_series([0, 10], ["stem", "head"], np.ones((2, 2)), [["frozen", ""], ["frozen", ""]])
    still_training = replace(run, summary={}, layers=Recorded({"grad_norm": grads}))
    assert coverage(still_training) == " Layers not seen: stem (frozen)."
