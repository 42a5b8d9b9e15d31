"""Lessons: how a network computes and learns, with the real numbers of a real network.

explanation = explain("moons_mlp", sample=3)      # or a run's directory
tell(explanation, Console())                      # in words
draw(explanation, "explained")                    # in pictures
"""

from __future__ import annotations

from nnvis.lessons.drawing import draw
from nnvis.lessons.explaining import Explanation, explain
from nnvis.lessons.telling import tell

__all__ = ["Explanation", "draw", "explain", "tell"]
