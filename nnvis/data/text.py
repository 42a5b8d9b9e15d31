"""Text as token ids (N, T): 0 pads at the end, 1 is unknown, the rest index the vocabulary.

A builder numbers every token of its corpus; `fit_vocabulary` then keeps those of the training split, so that a
token met only in validation is as unknown there as it would be in use.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nnvis.data.problems import not_among
from nnvis.data.source import IntArray, Source
from nnvis.data.tables import read_table
from nnvis.data.tabular import class_labels
from nnvis.errors import InputError

if TYPE_CHECKING:
    from nnvis.config import schema

PADDING, UNKNOWN = 0, 1
SPECIAL_TOKENS = ("<padding>", "<unknown>")


def text_csv(section: schema.TextCsv, rng: np.random.Generator) -> Source:
    """A column of text, cut into characters or into lower-case words and marks, and a column of labels."""
    table = read_table(section.path, section.delimiter)
    texts = table.texts(table.named(section.text, "data.text"))
    targets, classes = class_labels(table, table.named(section.target, "data.target"))
    cut = list if section.tokens == "characters" else _words
    ids, vocabulary = number_tokens([cut(text) for text in texts], section.max_length)
    return Source(ids, targets, classes, vocabulary=vocabulary, max_vocabulary=section.max_vocabulary)


def language_names(section: schema.LanguageNames, rng: np.random.Generator) -> Source:
    """Names of languages and territories by character; those that two of the locales write alike are left out."""
    names = {
        locale: {unicodedata.normalize("NFC", name)[: section.max_length] for name in _cldr_names(locale)}
        for locale in dict.fromkeys(section.locales)
    }
    owners = Counter(name for names_of_locale in names.values() for name in names_of_locale)
    rows = [(name, locale) for locale in names for name in sorted(names[locale]) if owners[name] == 1]
    bare = sorted(set(names) - {locale for _, locale in rows})
    if bare or len(names) < 2:
        found = f"every name of {bare[0]!r} is shared with another" if bare else "found one"
        raise InputError(f"data.locales: {found}; expected two or more locales that differ")
    ids, vocabulary = number_tokens([list(name) for name, _ in rows], section.max_length)
    numbers = {locale: number for number, locale in enumerate(names)}
    targets = np.array([numbers[locale] for _, locale in rows], dtype=np.int64)
    return Source(ids, targets, tuple(names), vocabulary=vocabulary)


def number_tokens(texts: Sequence[Sequence[str]], max_length: int) -> tuple[IntArray, tuple[str, ...]]:
    """Texts cut into tokens -> ids (N, max_length), and every token in them by its id, sorted."""
    texts = [text[:max_length] for text in texts]
    vocabulary = SPECIAL_TOKENS + tuple(sorted({token for text in texts for token in text}))
    id_of = {token: number for number, token in enumerate(vocabulary)}
    ids = np.full((len(texts), max_length), PADDING, dtype=np.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = [id_of[token] for token in text]
    return ids, vocabulary


def fit_vocabulary(
    ids: IntArray, train: IntArray, vocabulary: tuple[str, ...], limit: int | None
) -> tuple[IntArray, tuple[str, ...]]:
    """Ids (N, T) over all tokens -> ids over those in the rows `train`, the most frequent first, `limit` at most."""
    counts = np.bincount(ids[train].ravel(), minlength=len(vocabulary))
    counts[[PADDING, UNKNOWN]] = 0
    ranked = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    kept = ranked if limit is None else ranked[: limit - len(SPECIAL_TOKENS)]
    new_id = np.full(len(vocabulary), UNKNOWN)
    new_id[PADDING] = PADDING
    new_id[kept] = np.arange(len(kept)) + len(SPECIAL_TOKENS)
    return new_id[ids], SPECIAL_TOKENS + tuple(vocabulary[token] for token in kept)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _cldr_names(locale: str) -> list[str]:
    try:
        from babel import Locale, UnknownLocaleError, localedata
    except ImportError as error:
        raise InputError('data.kind: language_names needs Babel: pip install "nnvis-trainer[text]"') from error
    try:
        tables = Locale.parse(locale)
    except (ValueError, UnknownLocaleError) as error:
        locales = sorted(localedata.locale_identifiers())
        unknown = not_among(locale, locales, "locale", more="pybabel --list-locales")
        raise InputError(f"data.locales: {unknown}") from error
    return [*tables.languages.values(), *tables.territories.values()]
