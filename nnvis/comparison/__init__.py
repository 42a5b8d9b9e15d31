"""Finished runs of a study -> paired statistics over the seeds, and a verdict in words. Needs no torch.

comparison = write_comparison(load_study("runs/vanishing"))     # comparison.json beside the runs
comparison.sentences                                            # the verdict
comparison.outcomes["sigmoid"].values["accuracy/val"]           # {seed: value}
comparison.rankings["accuracy/val"].order                       # variants, the best first
difference({0: 0.91, 1: 0.93}, {0: 0.85, 1: 0.88})              # paired over shared seeds, with its interval
"""

from nnvis.comparison.comparing import COMPARISON_FILE, Comparison, compare, write_comparison
from nnvis.comparison.expected import Checked
from nnvis.comparison.outcomes import Outcome, deciding_metrics, higher_is_better, outcomes_of, run_metrics
from nnvis.comparison.paired import Difference, difference, holm
from nnvis.comparison.pairs import Pair, Ranking
from nnvis.comparison.proof import LEVEL as PROOF_LEVEL
from nnvis.comparison.proof import Effect, effects_of
from nnvis.comparison.verdict import gap_in_words, in_words

__all__ = [
    "COMPARISON_FILE",
    "PROOF_LEVEL",
    "Checked",
    "Comparison",
    "Difference",
    "Effect",
    "Outcome",
    "Pair",
    "Ranking",
    "compare",
    "deciding_metrics",
    "difference",
    "effects_of",
    "gap_in_words",
    "higher_is_better",
    "holm",
    "in_words",
    "outcomes_of",
    "run_metrics",
    "write_comparison",
]
