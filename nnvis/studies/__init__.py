"""Studies: variants × seeds, trained side by side on this machine or on a cluster. No torch but in the workers.

    study = run_study("vanishing", jobs=2)

What is to be trained is in `plan`, who trains it in `local` and `cluster`, what a worker does in `worker`, what people
see meanwhile in `board`; `running` puts them together.
"""

from nnvis.studies.running import failures, run_study

compare = run_study  # as people call it: nnvis.compare

__all__ = ["compare", "failures", "run_study"]
