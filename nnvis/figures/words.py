"""Numbers and names as people write them: what `nnvis.words` has, for figures."""

from nnvis.words import clipped, count, listing, number, percent, plural, power, shorten

__all__ = ["clipped", "count", "listing", "number", "percent", "plural", "power", "shorten"]
