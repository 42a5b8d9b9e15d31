"""Numbers and names as people write them: what `nnvis.words` has, for figures."""

from nnvis.words import count, listing, number, percent, plural, power, shorten

__all__ = ["count", "listing", "number", "percent", "plural", "power", "shorten"]
