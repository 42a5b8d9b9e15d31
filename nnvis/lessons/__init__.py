"""Lessons: how a network computes and learns, with the real numbers of a real network.

subject = open_subject("moons_mlp")               # or a run's directory
explanation = explain(subject, sample=3)
tell(explanation, Console())                      # in words
draw(explanation, "explained")                    # in pictures

show(subject, topics_of("passes"), Wish(sample=3), Console(), Path("explained"))    # what `nnvis explain` does

Names are imported when they are first used: the list of lessons (`nnvis.lessons.tour`) needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnvis.lessons.drawing import draw
    from nnvis.lessons.explaining import Explanation, explain
    from nnvis.lessons.subject import Subject, open_subject
    from nnvis.lessons.telling import tell
    from nnvis.lessons.topics import TOPICS, Wish, show, topics_of

__all__ = ["TOPICS", "Explanation", "Subject", "Wish", "draw", "explain", "open_subject", "show", "tell", "topics_of"]

_HOMES = {
    "drawing": ["draw"],
    "explaining": ["Explanation", "explain"],
    "subject": ["Subject", "open_subject"],
    "telling": ["tell"],
    "topics": ["TOPICS", "Wish", "show", "topics_of"],
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
