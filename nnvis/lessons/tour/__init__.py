"""Guided lessons: each sets up an experiment, says what to look for, shows it, and holds its claim against the numbers.

for lesson in lessons(): print(lesson.number, lesson.name, lesson.title)        # needs no torch
open_lesson("vanishing").question

from nnvis.lessons.tour.giving import give
give(open_lesson("vanishing"), Console(), Path("lessons/vanishing")).page       # its experiment is run here and now

To add a lesson, write NN_NAME.md (see `text`) and NAME.py beside it, with its `experiment` and its `CLAIMS`.
"""

from nnvis.lessons.tour.text import Lesson, lessons, open_lesson

__all__ = ["Lesson", "lessons", "open_lesson"]
