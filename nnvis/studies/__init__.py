"""Studies: variants × seeds, trained side by side on this machine or on a cluster. No torch but in the workers.

    study = run_study("vanishing", jobs=2)
    fix = fix_run("runs/vanishing-sigmoid/1-seed0", jobs=2)     # the remedies of a run as a study

What is to be trained is in `plan`, who trains it in `local` and `cluster`, what a worker does in `worker`, what people
see meanwhile in `board`; `running` puts them together. `fixing` makes a study of a run's remedies.
"""

from nnvis.studies.fixing import Fix, Tried, fix_run, print_fix
from nnvis.studies.running import failures, run_study

compare, fix = run_study, fix_run  # as people call them: nnvis.compare, nnvis.fix

__all__ = ["Fix", "Tried", "compare", "failures", "fix", "fix_run", "print_fix", "run_study"]
