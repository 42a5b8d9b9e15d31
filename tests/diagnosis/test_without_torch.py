"""`nnvis diagnose` answers without torch, which takes seconds to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nnvis
from nnvis.config import parse_config

RUN = """
name: short
data: {kind: digits, train_size: 100}
model: {kind: mlp, hidden: [8]}
training: {epochs: 1, batch_size: 32}
"""
ASK = "import sys; from nnvis import cli; cli.main(['diagnose', sys.argv[1]]); print('torch' in sys.modules)"


def test_diagnose_imports_no_torch(tmp_path: Path) -> None:
    run = nnvis.train(parse_config(RUN), runs=tmp_path, quiet=True, figures=False)
    told = subprocess.run([sys.executable, "-c", ASK, str(run.path)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "looked for and not found" in told.stdout
    assert told.stdout.splitlines()[-1] == "False"


def test_diagnose_takes_a_run_or_its_directory(tmp_path: Path) -> None:
    run = nnvis.train(parse_config(RUN), runs=tmp_path, quiet=True, figures=False)
    assert nnvis.diagnose(str(run.path)) == nnvis.diagnose(run.path) == nnvis.diagnose(run)
