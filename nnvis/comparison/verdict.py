"""What a study shows, in a few sentences: who wins, by how much, what is not shown, who diverged, who is ill.

verdict(outcomes, rankings)      # ["relu_he has the best accuracy/val: 96.1% (5 seeds), 66.2 points above …", …]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from nnvis.comparison.outcomes import Outcome, higher_is_better
from nnvis.comparison.paired import Difference
from nnvis.comparison.pairs import Pair, Ranking
from nnvis.words import listing, number, percent, plural

_NAMED = 3  # before "and 4 more"
_SYMPTOMS = 4


def verdict(outcomes: Mapping[str, Outcome], ranked: Mapping[str, Ranking]) -> list[str]:
    """Eleven sentences at most, in the order in which a reader asks."""
    sentences = [_missing(outcomes)]
    for ranking in ranked.values():
        sentences += [_winner(ranking, outcomes), _not_shown(ranking)]
    sentences += [_lacking(outcomes, ranked), _no_intervals(outcomes, ranked), _diverged(outcomes)]
    sentences += [_symptoms(outcomes, "errors"), _symptoms(outcomes, "warnings"), _well(outcomes)]
    return [sentence for sentence in sentences if sentence]


def in_words(value: float, metric: str) -> str:
    """A metric's value: accuracy in percent."""
    return percent(value) if metric.startswith("accuracy") else number(value)


def gap_in_words(gap: Difference, metric: str) -> str:
    """`3.2 points (95% interval 2.1 to 4.3)`: of accuracy in percentage points, and as exact as it is known.

    Without a spread `40 points in every seed`, or `no difference in any seed`.
    """
    size, interval = _gap(gap, metric)
    return f"{size} ({interval})" if interval else size


def share_in_words(seeds: Sequence[int], outcome: Outcome) -> str:
    """`3 of 5 seeds`."""
    return f"{len(seeds)} of {plural(len(outcome.seen), 'seed')}"


def _winner(ranking: Ranking, outcomes: Mapping[str, Outcome]) -> str:
    """Who is the best, and whom it beats, the closest first."""
    if not ranking.order:
        return ""
    metric, best = ranking.metric, ranking.order[0]
    value = f"{in_words(outcomes[best].mean(metric), metric)} ({_seeds(outcomes[best], metric)})"
    if len(outcomes) == 1:
        return f"{best} has {metric} {value}."
    if not ranking.pairs:
        return f"{best} alone has a value of {metric}: {value}."
    beaten = [pair for pair in ranking.pairs if pair.shown and pair.ahead]
    if not beaten:
        start = f"{best} comes first on {metric} with {value}"
        undecided = _undecided(ranking)
        return f"{start}, but no difference is shown to {undecided}." if undecided else f"{start}."
    side = "above" if higher_is_better(metric) else "below"
    told = []
    for pair in beaten[:_NAMED]:
        size, interval = _gap(_lead(pair), metric)
        told.append(f"{size} {side} {pair.other} ({interval})")
    if rest := beaten[_NAMED:]:
        least, _ = _gap(min(map(_lead, rest), key=lambda gap: gap.mean), metric)
        told.append(f"{least} or more on average {side} {len(rest)} more")
    return f"{best} has the best {metric}: {value}, {_joined(told)}."


def _not_shown(ranking: Ranking) -> str:
    """From whom the best that beats somebody is not told apart; who would be better if it did not diverge."""
    metric, sentences = ranking.metric, []
    undecided = _undecided(ranking)
    if undecided and any(pair.shown and pair.ahead for pair in ranking.pairs):
        sentences.append(f"No difference shown on {metric} between {ranking.order[0]} and {undecided}.")
    for pair in ranking.pairs:
        if pair.shown and not pair.ahead:
            size, interval = _gap(_lead(pair).reversed, metric)
            better = f"{pair.other} is better on {metric} where it does not diverge, by {size} ({interval})"
            sentences.append(f"{better}, but it diverges more often.")
    return " ".join(sentences)


def _undecided(ranking: Ranking) -> str:
    """Those not told apart from the best, with their intervals; and why not, where that is not plain."""
    pairs = [pair for pair in ranking.pairs if not pair.shown and len(pair.difference.seeds) > 1]
    if not pairs:
        return ""
    told = [f"{pair.other} ({', '.join(filter(None, _gap(_lead(pair), ranking.metric)))})" for pair in pairs[:_NAMED]]
    told += [f"{len(pairs) - _NAMED} more"] if len(pairs) > _NAMED else []
    tempting = sum(pair.difference.excludes_zero for pair in pairs)
    judged = sum(pair.difference.judged for pair in pairs)
    which = "the interval leaves" if judged == 1 else f"{tempting} of the {judged} intervals leave"
    why = f"; {which} 0 out, but not once corrected for {ranking.comparisons} comparisons" if tempting else ""
    if any(pair.difference.constant and pair.difference.mean for pair in pairs):
        why += "; what is the same in every seed has no spread to judge it by"
    return _joined(told) + why


def _no_intervals(outcomes: Mapping[str, Outcome], ranked: Mapping[str, Ranking]) -> str:
    """One seed, or one that is shared; where runs diverged that is said with them."""
    pairs = [pair for ranking in ranked.values() for pair in ranking.pairs]
    alone = [*dict.fromkeys(pair.other for pair in pairs if len(pair.difference.seeds) < 2)]
    if alone and len({seed for each in outcomes.values() for seed in each.seen}) == 1:
        return "One seed: no interval, so no difference can be shown."
    alone = [name for name in alone if not outcomes[name].diverged]
    return (
        f"No interval, so no difference shown, where fewer than two seeds are shared: {_some(alone)}." if alone else ""
    )


def _missing(outcomes: Mapping[str, Outcome]) -> str:
    missing = [(name, seed, why) for name, each in outcomes.items() for seed, why in each.missing.items()]
    total = len(missing) + sum(len(each.seen) for each in outcomes.values())
    told = [f"{name} seed {seed} ({why})" for name, seed, why in missing]
    return f"{len(missing)} of {plural(total, 'run')} without a result: {listing(told)}." if missing else ""


def _lacking(outcomes: Mapping[str, Outcome], metrics: Iterable[str]) -> str:
    """Which variants finished without a metric that decides: no validation rows, or no classes."""
    groups: dict[str, list[str]] = {}
    for name, each in outcomes.items():
        lacking = []
        for metric in metrics:
            count = len({*each.finished} - {*each.values.get(metric, {})})
            if count:
                where = "" if count == len(each.finished) else f" in {count} of {plural(len(each.seen), 'seed')}"
                lacking.append(f"no {metric}{where}")
        if lacking:
            groups.setdefault(_joined(lacking), []).append(name)
    told = [f"{_some(names)} {'has' if len(names) == 1 else 'have'} {what}" for what, names in groups.items()]
    return f"{'; '.join(told)}." if told else ""


def _diverged(outcomes: Mapping[str, Outcome]) -> str:
    groups: dict[tuple[int, int], list[str]] = {}
    for name, each in outcomes.items():
        if each.diverged:
            groups.setdefault((len(each.diverged), len(each.seen)), []).append(name)
    told = []
    for (count, seen), names in sorted(groups.items(), key=lambda group: -group[0][0] / group[0][1]):
        rest = {0: "nothing to compare", 1: "one other: no interval"}.get(seen - count)
        rest = rest or f"compared over the {seen - count} others"
        told.append(f"{_some(names)} in {count} of {plural(seen, 'seed')} ({rest})")
    return f"Diverged: {'; '.join(told)}." if told else ""


def _symptoms(outcomes: Mapping[str, Outcome], kind: str) -> str:
    """Each symptom with its variants, those that show it in most seeds first."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for name, each in outcomes.items():
        for symptom, seeds in getattr(each, kind).items():
            found.setdefault(symptom, []).append((name, len(seeds), len(each.seen)))
    told = []
    for symptom, variants in sorted(found.items(), key=lambda item: -sum(count for _, count, _ in item[1])):
        groups: dict[tuple[int, int], list[str]] = {}
        for name, count, seen in variants:
            groups.setdefault((count, seen), []).append(name)
        ordered = sorted(groups.items(), key=lambda group: -group[0][0] / group[0][1])
        parts = [f"{_some(names)} ({count} of {plural(seen, 'seed')})" for (count, seen), names in ordered[:_NAMED]]
        if rest := sum(len(names) for _, names in ordered[_NAMED:]):
            parts.append(f"{rest} more in fewer seeds")
        told.append(f"{symptom} in {_joined(parts)}")
    if len(told) > _SYMPTOMS:
        told[_SYMPTOMS:] = [plural(len(told) - _SYMPTOMS, "more symptom")]
    return f"{kind.capitalize()}: {'; '.join(told)}." if told else ""


def _well(outcomes: Mapping[str, Outcome]) -> str:
    well = [name for name, each in outcomes.items() if each.seen and not each.errors and not each.warnings]
    if not well:
        return ""
    return "No variant has an error or a warning." if len(well) == len(outcomes) else f"Without either: {_some(well)}."


def _gap(gap: Difference, metric: str) -> tuple[str, str]:
    """`3.2 points` and `95% interval 2.1 to 4.3`; `3.2 points in every seed` and nothing."""
    if gap.constant and not gap.mean:
        return "no difference in any seed", ""
    scale, unit = (100, " points") if metric.startswith("accuracy") else (1, "")
    half_width = scale * (gap.high - gap.low) / 2
    mean, low, high = (_rounded(scale * value, half_width) for value in (gap.mean, gap.low, gap.high))
    unit = " point" if unit and mean in ("1", "−1") else unit
    if gap.constant:
        return f"{mean}{unit} in every seed", ""
    return f"{mean}{unit}", f"95% interval {low} to {high}" if gap.judged else "one shared seed: no interval"


def _lead(pair: Pair) -> Difference:
    """By how much the variant is better than the other."""
    return pair.difference if higher_is_better(pair.metric) else pair.difference.reversed


def _seeds(outcome: Outcome, metric: str) -> str:
    count = len(outcome.values[metric])
    return plural(count, "seed") if count == len(outcome.seen) else f"{count} of {plural(len(outcome.seen), 'seed')}"


def _rounded(value: float, half_width: float) -> str:
    """With a last digit between 5% and 50% of the interval's half width, and 0 only for 0."""
    if not 0 < half_width < 1e4 or not math.isfinite(value):
        return number(value)
    decimals = max(0, math.ceil(-math.log10(half_width / 2)))
    while value and not float(f"{value:.{decimals}f}") and decimals <= 4:
        decimals += 1
    return number(value, 2) if decimals > 4 else f"{value:,.{decimals}f}".replace("-", "−")


def _some(names: Sequence[str]) -> str:
    return _joined(names) if len(names) <= _NAMED + 1 else listing(names, _NAMED)


def _joined(items: Iterable[str]) -> str:
    *head, last = items
    return f"{', '.join(head)} and {last}" if head else last
