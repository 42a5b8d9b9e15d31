"""The page that a lesson leaves: one HTML file with its pictures in it, light or dark as the reader's system is.

page_of(lesson, sections, claims, Path("lessons/neuron"), of=13)       # the HTML
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from nnvis.lessons.tour.text import Lesson, lessons

_STYLE = (Path(__file__).with_name("page.css")).read_text(encoding="utf-8")


def page_of(
    lesson: Lesson, sections: Mapping[str, str], claims: Sequence[tuple[str, bool]], folder: Path, of: int
) -> str:
    """The whole page. `sections` are Markdown with the numbers in it; `claims` each with whether it holds."""
    body = "\n".join(
        f"<section>\n<h2>{html.escape(heading)}</h2>\n{_written(text, folder)}"
        + (_claims(claims) if heading == "The claim" else "")
        + "</section>"
        for heading, text in sections.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(lesson.title)} · nnvis</title>
<style>
{_STYLE}</style>
</head>
<body>
<header>
<p class="number">Lesson {lesson.number} of {of}</p>
<h1>{html.escape(lesson.title)}</h1>
<p class="question">{html.escape(lesson.question)}</p>
</header>
<main>
{body}
</main>
<footer>{_next(lesson)}Every number on this page was measured when it was made, by
<code>nnvis lesson {lesson.name}</code>.</footer>
</body>
</html>
"""


def _written(text: str, folder: Path) -> str:
    """Markdown as HTML; a picture that stands alone becomes a figure with its caption."""
    made = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return re.sub(
        r'<p><img src="([^"]+)" alt="([^"]*)" ?/?></p>', lambda found: _figure(folder / found[1], found[2]), made
    )


def _figure(file: Path, caption: str) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
    return f"<figure>\n{image}\n<figcaption>{caption}</figcaption>\n</figure>"


def _claims(claims: Sequence[tuple[str, bool]]) -> str:
    words = {True: "holds", False: "does not hold"}
    items = "\n".join(
        f'<li class="{words[holds].replace(" ", "-")}"><strong>{words[holds]}</strong> '
        f"{MarkdownIt('commonmark', {'html': False}).renderInline(claim)}</li>"
        for claim, holds in claims
    )
    return f'<ul class="claims">\n{items}\n</ul>\n'


def _next(lesson: Lesson) -> str:
    behind = next((each for each in lessons() if each.number == lesson.number + 1), None)
    if behind is None:
        return ""
    return f"Next: <code>nnvis lesson {behind.name}</code>, {html.escape(behind.title.lower())}. "
