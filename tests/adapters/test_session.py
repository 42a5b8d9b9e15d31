"""What the callbacks share: names of metrics, and what is said where a library is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nnvis.adapters.session import tag_of


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("val_loss", "loss/val"),
        ("valid_acc", "accuracy/val"),
        ("eval_f1", "f1/val"),
        ("validation/top_5", "top_5/val"),
        ("val/acc", "accuracy/val"),
        ("train_acc", "accuracy/train"),
        ("epoch", ""),
        ("value", ""),
        ("valid_", ""),
    ],
)
def test_metrics_are_named_for_their_split(name: str, tag: str) -> None:
    assert tag_of(name) == tag


@pytest.mark.parametrize(
    ("extra", "modules"),
    [
        ("lightning", ["lightning", "lightning.pytorch", "pytorch_lightning"]),
        ("transformers", ["transformers"]),
        ("skorch", ["skorch"]),
    ],
)
def test_a_missing_library_is_one_line_that_names_the_extra(extra: str, modules: list[str]) -> None:
    without = f"import sys; sys.modules.update(dict.fromkeys({modules})); import nnvis.adapters.{extra}"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: nnvis.adapters.{extra} needs ")
    assert last.endswith(f': pip install "nnvis-trainer[{extra}]"')


def test_no_library_is_imported_before_its_adapter_is() -> None:
    names = ("pytorch_lightning", "lightning", "transformers", "skorch", "nnvis.adapters")
    code = f"import sys, nnvis; nnvis.watch; assert not [name for name in {names} if name in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True)
