"""Lessons: how a network computes and learns, with the real numbers of a real network.

subject = open_subject("moons_mlp")               # or a run's directory
explanation = explain(subject, sample=3)
tell(explanation, Console())                      # in words
draw(explanation, "explained")                    # in pictures

show(subject, topics_of("passes"), Wish(sample=3), Console(), Path("explained"))    # what `nnvis explain` does
"""

from __future__ import annotations

from nnvis.lessons.drawing import draw
from nnvis.lessons.explaining import Explanation, explain
from nnvis.lessons.subject import Subject, open_subject
from nnvis.lessons.telling import tell
from nnvis.lessons.topics import TOPICS, Wish, show, topics_of

__all__ = ["TOPICS", "Explanation", "Subject", "Wish", "draw", "explain", "open_subject", "show", "tell", "topics_of"]
