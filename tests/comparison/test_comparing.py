"""What is said of studies whose outcome is known: winners, ties, diverged and missing runs, one seed, placebos."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from made_up_studies import made_up_study

from nnvis.comparison import Comparison, Outcome, compare, write_comparison
from nnvis.comparison.pairs import rankings
from nnvis.errors import InputError
from nnvis.record import Study, load_study, read_json, write_json

EVERY = range(5)


def with_values(study: Study, values: dict[str, dict[int, float]], metric: str = "accuracy") -> Study:
    """The same study with other values of `metric/val`, and without any other metric."""
    for variant, seed, run in study.each_run():
        summary = dict(run.summary)
        if value := values.get(variant, {}).get(seed):
            summary["metrics"] = {"val": {metric: value}}
        write_json(run.path / "summary.json", summary)
    return load_study(study.path)


def test_a_winner_by_hand(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["worse", "better"], seeds=3)
    values = {"worse": {0: 0.5, 1: 0.6, 2: 0.7}, "better": {0: 0.7, 1: 0.81, 2: 0.92}}
    comparison = compare(with_values(study, values))
    # differences 0.20, 0.21, 0.22: mean 0.21, s = 0.01, half = 4.302653 · 0.01 / √3 = 0.024841
    [pair] = comparison.rankings["accuracy/val"].pairs
    assert (pair.variant, pair.other) == ("better", "worse")
    assert (pair.difference.low, pair.difference.high) == pytest.approx((0.21 - 0.024841, 0.21 + 0.024841), abs=1e-6)
    assert pair.p_holm == pair.difference.p  # one comparison: nothing to correct
    assert comparison.sentences == [
        "better has the best accuracy/val: 81% (3 seeds), 21 points above worse (95% interval 19 to 23).",
        "No variant has an error or a warning.",
    ]


def test_lower_losses_are_better(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["low", "high"], scores={"low": 0.25, "high": 0.75}, accuracy=False, noise=0)
    comparison = compare(study)
    assert list(comparison.rankings) == ["loss/val"]
    assert comparison.rankings["loss/val"].order == ("low", "high")
    assert comparison.sentences[0] == (
        "low comes first on loss/val with 0.25 (3 seeds), but no difference is shown to high (0.5 in every seed); "
        "what is the same in every seed has no spread to judge it by."
    )


def test_without_validation_rows_training_rows_decide(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"])
    for _, _, run in study.each_run():
        write_json(run.path / "summary.json", {**run.summary, "metrics": {"train": {"loss": 0.5}}})
    assert list(compare(load_study(study.path)).rankings) == ["loss/train"]


def test_a_variant_that_diverges_more_never_wins(tmp_path: Path) -> None:
    study = made_up_study(
        tmp_path / "s",
        ["wild", "calm", "lost"],
        seeds=5,
        scores={"wild": 0.99, "calm": 0.8, "lost": 0.9},
        noise=0.001,
        diverged={("wild", 1), ("wild", 3), *(("lost", seed) for seed in EVERY)},
    )
    comparison = compare(study)
    ranking = comparison.rankings["accuracy/val"]
    assert ranking.order == ("calm", "wild")
    assert ranking.pairs[0].difference.seeds == (0, 2, 4)
    assert ranking.pairs[0].shown
    text = "\n".join(comparison.sentences)
    assert "wild is better on accuracy/val where it does not diverge, by 19" in text
    assert (
        "Diverged: lost in 5 of 5 seeds (nothing to compare); wild in 2 of 5 seeds (compared over the 3 others)."
        in text
    )
    assert "calm has the best" not in text
    outcome = comparison.to_json()["variants"]["lost"]
    assert outcome["status"] == {"finished": 0, "diverged": 5, "missing": 0}
    assert outcome["metrics"]["parameters"]["n"] == 5
    assert "accuracy/val" not in outcome["metrics"]


def test_a_metric_that_is_not_finite_counts_as_diverged(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"])
    run = study.runs["a"][1]
    write_json(run.path / "summary.json", {**run.summary, "metrics": {"val": {"loss": math.nan, "accuracy": 0.1}}})
    outcome = compare(load_study(study.path)).outcomes["a"]
    assert (outcome.finished, outcome.diverged) == ((0, 2), (1,))
    assert set(outcome.values["accuracy/val"]) == {0, 2}


def test_runs_that_are_missing_or_unfinished_are_named(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=5, missing={("a", 0)})
    for seed, change in [
        (1, {"status": "interrupted", "metrics": {}}),
        (2, {"status": "failed", "error": "disk full"}),
    ]:
        run = study.runs["b"][seed]
        write_json(run.path / "summary.json", {**run.summary, **change})
    (study.runs["b"][3].path / "summary.json").unlink()
    comparison = compare(load_study(study.path))
    assert comparison.sentences[0] == (
        "4 of 10 runs without a result: a seed 0 (not trained yet), b seed 1 (interrupted), "
        "b seed 2 (disk full) and 1 more."
    )
    assert comparison.outcomes["b"].missing[3] == "has not ended"
    assert comparison.rankings["accuracy/val"].pairs[0].difference.seeds == (4,)
    assert "No interval, so no difference shown, where fewer than two seeds are shared: b." in comparison.sentences


def test_unequal_seeds_are_not_ranked_against_each_other(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=3, missing={("a", 2)})
    values = {"a": {0: 0.5, 1: 0.6}, "b": {0: 0.4, 1: 0.5, 2: 0.99}}  # b's mean is higher, and a better at each seed
    assert compare(with_values(study, values)).rankings["accuracy/val"].order == ("a", "b")


def test_nothing_trained_yet(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=2, missing={(v, s) for v in "ab" for s in range(2)})
    comparison = compare(study)
    assert comparison.rankings == {}
    assert [sentence[:30] for sentence in comparison.sentences] == ["4 of 4 runs without a result: "]


def test_one_variant(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["alone"], scores={"alone": 0.9}, noise=0)
    assert "alone has accuracy/val 90% (3 seeds)." in compare(study).sentences


def test_one_seed_shows_nothing(tmp_path: Path) -> None:
    sentences = compare(made_up_study(tmp_path / "s", ["a", "b"], seeds=1, noise=0)).sentences
    assert sentences[0] == "a comes first on accuracy/val with 95% (1 seed)."
    assert "One seed: no interval, so no difference can be shown." in sentences


def test_ties_are_no_difference(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], scores={"a": 0.9, "b": 0.9}, noise=0)
    sentences = compare(study).sentences
    assert sentences[0] == (
        "a comes first on accuracy/val with 90% (3 seeds), but no difference is shown to b (no difference in any seed)."
    )


def test_lucky_ties_of_an_accuracy_show_nothing(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b", "c"], seeds=3)
    values = {"a": {0: 0.7, 1: 0.8, 2: 0.9}, "b": {0: 0.69, 1: 0.79, 2: 0.89}, "c": {0: 0.11, 1: 0.2, 2: 0.31}}
    comparison = compare(with_values(study, values))
    ranking = comparison.rankings["accuracy/val"]
    assert [(pair.other, pair.shown) for pair in ranking.pairs] == [("b", False), ("c", True)]
    assert ranking.comparisons == 2
    assert comparison.sentences[1] == (
        "No difference shown on accuracy/val between a and b (1 point in every seed); "
        "what is the same in every seed has no spread to judge it by."
    )
    assert comparison.to_json()["pairs"][0]["shown"] is False


@pytest.mark.parametrize(("seeds", "told"), [(2, None), (3, True)])
def test_two_seeds_with_the_same_difference_are_too_few(tmp_path: Path, seeds: int, told: bool | None) -> None:
    lines = ["a beats b on accuracy/val", "b beats a on accuracy/val", "a no different from b on accuracy/val"]
    lines += ["a beats c on accuracy/val", "a no different from c on accuracy/val"]
    scores = {"a": 0.9, "b": 0.8, "c": 0.9}
    study = made_up_study(tmp_path / "s", ["a", "b", "c"], seeds=seeds, scores=scores, noise=0, expect=lines)
    opposite = None if told is None else not told
    assert [each.holds for each in compare(study).expectations] == [told, opposite, opposite, False, True]


def without(study: Study, name: str, variant: str, seeds: range) -> Study:
    """The same study, with `name/val` left out of some runs; without a name the whole validation split."""
    for seed in seeds:
        run = study.runs[variant][seed]
        metrics = {split: dict(values) for split, values in run.summary["metrics"].items()}
        if name:
            del metrics["val"][name]
        else:
            del metrics["val"]
        write_json(run.path / "summary.json", {**run.summary, "metrics": metrics})
    return load_study(study.path)


@pytest.mark.parametrize(
    ("name", "seeds", "sentence"),
    [
        ("accuracy", range(3), "b has no accuracy/val."),
        ("accuracy", range(1), "b has no accuracy/val in 1 of 3 seeds."),
        ("", range(3), "b has no accuracy/val and no loss/val."),
    ],
)
def test_a_metric_that_a_variant_does_not_have_is_no_divergence(
    tmp_path: Path, name: str, seeds: range, sentence: str
) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b", "c"], seeds=3, noise=0.01, expect=["b never diverges"])
    comparison = compare(without(study, name, "b", seeds))
    assert sentence in comparison.sentences[1:]  # figures cite the first one about a metric
    assert not any("iverge" in each for each in comparison.sentences)
    assert comparison.outcomes["b"].finished == (0, 1, 2)
    assert comparison.to_json()["variants"]["b"]["status"] == {"finished": 3, "diverged": 0, "missing": 0}
    assert comparison.expectations[0].holds is True
    ranked = comparison.rankings
    assert ("b" in ranked["accuracy/val"].order) == (len(seeds) < 3)
    assert ("b" in ranked["loss/val"].order) == bool(name)
    assert {"a", "c"} <= {*ranked["accuracy/val"].order}


def test_without_validation_rows_the_training_loss_tells_who_diverged(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"])
    run = study.runs["b"][2]
    write_json(run.path / "summary.json", {**run.summary, "metrics": {"train": {"loss": math.nan}}})
    assert compare(load_study(study.path)).outcomes["b"].diverged == (2,)


def test_the_rest_is_told_in_words_that_hold(tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(6)]
    scores = {name: 0.9 - 0.1 * i for i, name in enumerate(names)}
    symptoms = {"v0": {f"symptom{j}": EVERY for j in range(5)}}
    study = made_up_study(tmp_path / "s", names, seeds=5, scores=scores, noise=0.001, symptoms=symptoms)
    text = "\n".join(compare(study).sentences)
    assert re.search(r"[\d.]+ points or more on average above 2 more\.", text)
    assert "1 more symptom." in text


def test_what_only_looks_different_is_said_to(tmp_path: Path) -> None:
    # four variants: 6 comparisons; d = 0.01, 0.02, 0.03 + 0.02 has p = 0.037 alone, and not 0.05 among six
    study = made_up_study(tmp_path / "s", ["a", "b", "c", "d"], seeds=3)
    base = {0: 0.8, 1: 0.7, 2: 0.6}
    values = {
        "a": {seed: value + 0.03 + 0.01 * seed for seed, value in base.items()},
        "b": base,
        "c": {0: 0.5, 1: 0.9, 2: 0.3},
        "d": {0: 0.2, 1: 0.1, 2: 0.9},
    }
    comparison = compare(with_values(study, values))
    [pair] = [pair for pair in comparison.rankings["accuracy/val"].pairs if pair.other == "b"]
    assert pair.difference.excludes_zero
    assert pair.p_holm == pytest.approx(6 * pair.difference.p)
    assert not pair.shown
    [sentence] = [each for each in comparison.sentences if "no difference is shown" in each]
    assert sentence.endswith("; 1 of the 3 intervals leave 0 out, but not once corrected for 6 comparisons.")


def test_symptoms_are_told_by_severity_and_seeds(tmp_path: Path) -> None:
    symptoms = {"a": {"vanishing_gradients": EVERY, "not_learning": [0, 1]}, "b": {"vanishing_gradients": [2]}}
    study = made_up_study(tmp_path / "s", ["a", "b", "c"], seeds=5, symptoms=symptoms, severity="error")
    findings = study.runs["b"][2].path / "findings.json"
    findings.write_text(findings.read_text().replace('"error"', '"warning"'))
    comparison = compare(load_study(study.path))
    assert comparison.sentences[-3:] == [
        "Errors: vanishing_gradients in a (5 of 5 seeds); not_learning in a (2 of 5 seeds).",
        "Warnings: vanishing_gradients in b (1 of 5 seeds).",
        "Without either: c.",
    ]
    variants = comparison.to_json()["variants"]
    assert variants["a"]["findings"] == {"not_learning": 0.4, "vanishing_gradients": 1.0}
    assert variants["b"]["findings"], variants["b"]["errors"] == ({"vanishing_gradients": 0.2}, {})


@pytest.mark.parametrize("count", [6, 60])
def test_the_verdict_stays_short(tmp_path: Path, count: int) -> None:
    names = [f"variant{i}" for i in range(count)]
    symptoms = {name: {f"symptom{j}": range(i % 3) for j in range(i % 8)} for i, name in enumerate(names)}
    diverged = {(name, seed) for i, name in enumerate(names) for seed in range(i % 4)}
    study = made_up_study(
        tmp_path / "s", names, symptoms=symptoms, diverged=diverged, missing={(names[0], 2)}, steps=20
    )
    sentences = compare(study).sentences
    assert len(sentences) <= 9
    assert max(map(len, sentences)) < 600


EXPECTED = {
    "good beats bad on accuracy/val": (True, "accuracy/val better by 40 points in every seed"),
    "bad beats good on accuracy/val": (False, "accuracy/val better by −40 points in every seed"),
    "good beats bad on loss/val": (True, "loss/val better by 0.4 in every seed"),
    "good no different from twin on accuracy/val": (True, "accuracy/val: no difference in any seed"),
    "good no different from bad on loss/val": (False, "loss/val better by 0.4 in every seed"),
    "good beats wild on accuracy/val": (
        True,
        "no shared seed has accuracy/val; diverged in 0 of 5 seeds, wild in 5 of 5",
    ),
    "good no different from wild on accuracy/val": (
        False,
        "no shared seed has accuracy/val; diverged in 0 of 5 seeds, wild in 5 of 5",
    ),
    "shaky beats bad on accuracy/val": (
        False,
        "accuracy/val better by 40 points in every seed; diverged in 1 of 5 seeds, bad in 0 of 5",
    ),
    "bad: accuracy/val < 0.6": (True, "accuracy/val 50% over 5 seeds"),
    "bad: accuracy/val >= 0.6": (False, "accuracy/val 50% over 5 seeds"),
    "shaky: accuracy/val > 0.8": (False, "accuracy/val 90% over the others; diverged in 1 of 5 seeds"),
    "shaky: accuracy/val < 0.95": (True, "accuracy/val 90% over 4 seeds; diverged in 1 of 5 seeds"),
    "wild: loss/val > 2": (None, "loss/val: no value; diverged in 5 of 5 seeds"),
    "good: parameters <= 1530": (True, "parameters 1,530 over 5 seeds"),
    "bad shows dead_units in 4 of 5": (True, "4 of 5 seeds"),
    "bad shows dead_units in 5 of 5": (False, "4 of 5 seeds"),
    "bad shows dead_units in most": (True, "4 of 5 seeds"),
    "bad shows no dead_units": (False, "4 of 5 seeds"),
    "good shows no dead_units": (True, "0 of 5 seeds"),
    "wild diverges in 3 of 5": (True, "5 of 5 seeds"),
    "good diverges in 1 of 5": (False, "0 of 5 seeds"),
    "good never diverges": (True, "0 of 5 seeds"),
    "shaky never diverges": (False, "1 of 5 seeds"),
}


@pytest.fixture(scope="module")
def expecting(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    study = made_up_study(
        tmp_path_factory.mktemp("studies") / "s",
        ["good", "twin", "bad", "wild", "shaky"],
        seeds=5,
        scores={"good": 0.9, "twin": 0.9, "bad": 0.5, "shaky": 0.9},
        noise=0,
        diverged={("shaky", 1), *(("wild", seed) for seed in EVERY)},
        symptoms={"bad": {"dead_units": range(4)}},
        expect=list(EXPECTED),
    )
    return write_comparison(study)


@pytest.mark.parametrize("line", EXPECTED)
def test_expectations(expecting: Comparison, line: str) -> None:
    [checked] = [each for each in expecting.expectations if each.text == line]
    assert (checked.holds, checked.measured) == EXPECTED[line]


def test_expectations_are_told(expecting: Comparison) -> None:
    *_, sentence = expecting.sentences
    assert sentence.startswith(
        f"{sum(holds is True for holds, _ in EXPECTED.values())} of {len(EXPECTED)} expectations hold; not: “bad beats"
    )
    assert "cannot be told: “wild: loss/val > 2”: loss/val: no value; diverged in 5 of 5 seeds." in sentence


def test_what_missing_seeds_leave_open(tmp_path: Path) -> None:
    lines = [
        "a shows dead_units in 2 of 3",
        "a shows dead_units in 1 of 3",
        "a never diverges",
        "a beats b on loss/val",
    ]
    study = made_up_study(
        tmp_path / "s", ["a", "b"], missing={("a", 1), ("a", 2)}, symptoms={"a": {"dead_units": [0]}}, expect=lines
    )
    assert [each.holds for each in compare(study).expectations] == [None, True, None, None]
    assert compare(study).expectations[0].measured == "1 of 1 seed, 2 seeds missing"


def test_an_expectation_that_says_nothing(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], expect=["a beats c on loss/val"])
    with pytest.raises(InputError, match=r"s/study\.yaml: expect: .c. is no variant"):
        compare(study)


def test_the_keys_of_comparison_json(expecting: Comparison, tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=2, missing={("b", 1)})
    write_comparison(study)
    found = read_json(study.path / "comparison.json")
    assert set(found) == {"study", "question", "variants", "pairs", "rankings", "verdict", "expectations"}
    variant = found["variants"]["b"]
    assert set(variant) == {"overrides", "runs", "metrics", "findings", "errors", "status"}
    assert variant["overrides"] == {"model.activation": "b"}
    assert variant["runs"] == {"0": "b/1-seed0"}
    names = {"loss/train", "accuracy/train", "loss/val", "accuracy/val", "seconds", "parameters"}
    assert set(variant["metrics"]) == names
    assert set(variant["metrics"]["loss/val"]) == {"mean", "std", "n", "median", "min", "max"}
    assert variant["metrics"]["loss/val"]["std"] is None  # one seed
    pair = found["pairs"][0]
    assert set(pair) == {"metric", "variant", "other", "mean", "low", "high", "p", "seeds", "p_holm", "shown"}
    assert (pair["p"], pair["shown"]) == (None, False)
    assert found["verdict"] == compare(study).sentences
    assert set(expecting.to_json()["expectations"][0]) == {"text", "holds", "measured"}


def test_statistics_of_a_variant(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=4)
    values = {"a": {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.6}, "b": dict.fromkeys(range(4), 0.5)}
    metric = compare(with_values(study, values)).to_json()["variants"]["a"]["metrics"]["accuracy/val"]
    # squares of the deviations from 0.3: 0.04, 0.01, 0, 0.09: s = √(0.14 / 3)
    assert metric == pytest.approx(
        {"mean": 0.3, "std": math.sqrt(0.14 / 3), "n": 4, "median": 0.25, "min": 0.1, "max": 0.6}
    )


@pytest.mark.parametrize("variants", [2, 6])
def test_placebos_are_called_different_in_one_study_of_twenty(variants: int) -> None:
    """Variants that differ by chance alone, with 5 seeds; losses hang together with accuracies."""
    rng = np.random.default_rng(variants)
    studies, called = 600, 0
    for _ in range(studies):
        of_seed = rng.normal(0, 0.02, 5)
        outcomes = {}
        for name in map(str, range(variants)):
            accuracy = 0.9 + of_seed + rng.normal(0, 0.01, 5)
            loss = 1 - accuracy + rng.normal(0, 0.01, 5)
            values = {"accuracy/val": dict(enumerate(accuracy)), "loss/val": dict(enumerate(loss))}
            outcomes[name] = Outcome(name, {}, {}, {}, values, tuple(EVERY), (), {}, {}, {})
        ranked = rankings(outcomes, ["accuracy/val", "loss/val"])
        called += any(pair.shown for ranking in ranked.values() for pair in ranking.pairs)
    assert called / studies < 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)
