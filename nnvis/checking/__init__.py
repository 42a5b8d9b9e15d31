"""Before training: what one batch, or the first rows of a config, say about data, structure and start.

    found = nnvis.check(model, criterion, inputs, targets)       # anybody's model
    run, found = check_config(load_config("digits_mlp"))         # a config's: as training would start it

    batch.py     check
    configs.py   check_config
    runs.py      branch_run: other learning rates from a run's last checkpoint
    deep.py      what both find by trying

Both look with the probe's `Checker`, as training does at step 0, and judge with `nnvis.diagnosis.beforehand`. Nothing
is trained, and nothing of the model changes.
"""

from nnvis.checking.batch import check
from nnvis.checking.configs import check_config
from nnvis.checking.runs import branch_run

__all__ = ["branch_run", "check", "check_config"]
