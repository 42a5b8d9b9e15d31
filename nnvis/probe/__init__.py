"""Measures modules while they run: `Probe` sees, `statistics` computes; what was measured is handed to a callable."""

from nnvis.probe.forensics import FirstNonfinite, first_nonfinite, growth, history
from nnvis.probe.layers import coverage
from nnvis.probe.nonfinite import Nonfinite, locate_nonfinite
from nnvis.probe.probe import NullProbe, Probe

__all__ = [
    "FirstNonfinite",
    "Nonfinite",
    "NullProbe",
    "Probe",
    "coverage",
    "first_nonfinite",
    "growth",
    "history",
    "locate_nonfinite",
]
