"""What is called proved: the statistics by hand and by counting, and how often luck alone gets there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_up_studies import made_up_study
from scipy.stats import binom, gmean, ttest_rel

from nnvis.comparison import PROOF_LEVEL, Effect, effects_of, holm, outcomes_of
from nnvis.comparison.proof import adjusted_for, p_better, p_of_rescue
from nnvis.record import Check, Study, load_study, read_json, write_json

RUNS, REMEDIES, SEEDS = 1500, 6, 5
INF = math.inf


def by_seed(values: np.ndarray | list[float]) -> dict[int, float]:
    return dict(enumerate(map(float, values)))


def test_the_p_value_is_students_one_sided() -> None:
    rng = np.random.default_rng(0)
    own, unchanged = np.exp(rng.normal(0.0, 1.0, 5)), np.exp(rng.normal(0.8, 1.0, 5))
    expected = ttest_rel(np.log(own), np.log(unchanged), alternative="less").pvalue
    assert p_better(by_seed(own), by_seed(unchanged)) == pytest.approx(expected)
    assert p_better(by_seed(unchanged), by_seed(own)) == pytest.approx(1 - expected)
    assert p_better(by_seed(1e6 * own), by_seed(1e6 * unchanged)) == pytest.approx(expected)  # units drop out


def test_losses_that_spread_over_decades_do_not_hide_that_all_are_lower() -> None:
    unchanged, own = [3.0, 40.0, 8.0, 900.0, 15.0], [0.4, 0.6, 0.5, 0.7, 0.4]
    assert p_better(by_seed(own), by_seed(unchanged)) < PROOF_LEVEL
    assert ttest_rel(own, unchanged, alternative="less").pvalue > 0.1


@pytest.mark.parametrize(
    ("own", "unchanged"),
    [
        ([], []),
        ([0.1], [2.0]),
        ([0.1, 0.1, 0.1], [0.5, 0.5, 0.5]),  # the same in every seed: nothing to judge it by
        ([0.1, 0.2, INF], [2.0, 2.1, 2.2]),  # it diverged
        ([0.1, 0.2, INF], [2.0, 2.1, INF]),
        ([math.nan, math.nan], [2.0, 2.1]),
    ],
)
def test_what_proves_nothing(own: list[float], unchanged: list[float]) -> None:
    assert p_better(by_seed(own), by_seed(unchanged)) == 1.0


def test_runs_that_no_longer_diverge_are_counted() -> None:
    finite = [0.1, 0.3, 0.2, 0.5, 0.4]
    assert p_better(by_seed(finite), by_seed([INF] * 5)) == 1 / 1024
    assert p_better(by_seed(finite[:4]), by_seed([INF] * 4)) == 1 / 256
    assert p_better(by_seed(finite[:3]), by_seed([INF] * 3)) == 1 / 64
    assert p_better(by_seed(finite), by_seed([INF] * 4 + [1.0])) == pytest.approx(6 / 1024)
    assert p_better(by_seed(finite), by_seed([INF] * 4 + [0.3])) == 1.0  # not ahead where both have a loss
    both = p_better(by_seed(finite), by_seed([INF, 2.0, 2.1, 2.2, 2.3]))  # a t test as well: twice the smaller one
    assert both == pytest.approx(
        2 * ttest_rel(np.log(finite[1:]), np.log([2.0, 2.1, 2.2, 2.3]), alternative="less").pvalue
    )
    assert holm([1 / 1024] * 10)[0] < PROOF_LEVEL < holm([1 / 1024] * 11)[0]  # as the module's text says


@pytest.mark.parametrize(("rescued", "seeds"), [(1, 3), (2, 4), (4, 5), (5, 5), (7, 10)])
def test_the_bound_of_the_count_is_the_largest_that_luck_can_have(rescued: int, seeds: int) -> None:
    ks = np.arange(rescued, seeds + 1)
    chances = [
        sum(math.comb(seeds, k) * a**k * (0.5 - a) ** (seeds - k) for k in ks.tolist())
        for a in np.linspace(0, 0.25, 51)
    ]
    assert max(chances) == pytest.approx(p_of_rescue(rescued, seeds))
    assert p_of_rescue(rescued, seeds) == pytest.approx(binom.sf(rescued - 1, seeds, 0.5) * 0.5**seeds)


def false_share(draw: object, runs: int = RUNS) -> float:
    """In how many runs a remedy that does nothing is called better."""
    rng, wrong = np.random.default_rng(7), 0
    for _ in range(runs):
        losses = draw(rng)  # type: ignore[operator]  # (1 + REMEDIES, SEEDS), the unchanged config first
        unchanged, *remedies = map(by_seed, losses)
        wrong += bool((holm([p_better(own, unchanged) for own in remedies]) < PROOF_LEVEL).any())
    return wrong / runs


def normal(rng: np.random.Generator) -> np.ndarray:
    return np.exp(rng.normal(size=SEEDS) + 0.3 * rng.normal(size=(1 + REMEDIES, SEEDS)))


def skewed(rng: np.random.Generator) -> np.ndarray:
    """Most are near 1, some far above: also as logarithms."""
    return np.exp(rng.normal(size=SEEDS) + rng.exponential(size=(1 + REMEDIES, SEEDS)) ** 2)


def picked_for_being_ill(rng: np.random.Generator) -> np.ndarray:
    """The first seed's unchanged run was the worst of five that somebody looked at."""
    losses = normal(rng)
    losses[0, 0] = losses[0, 0] * np.exp(max(0.0, *0.3 * rng.normal(size=4)))
    return losses


def diverging(rng: np.random.Generator) -> np.ndarray:
    """Each run with a chance of its seed's own; the first unchanged one did, or nobody would have asked."""
    losses = normal(rng)
    losses[rng.random(losses.shape) < rng.random(SEEDS)] = INF
    losses[0, 0] = INF
    return losses


@pytest.mark.parametrize("draw", [normal, skewed, picked_for_being_ill, diverging])
def test_what_does_nothing_is_hardly_ever_called_better(draw: object) -> None:
    assert false_share(draw) <= 0.02


def test_a_half_chance_of_diverging_is_the_worst_case_and_still_within_the_level() -> None:
    def coin(rng: np.random.Generator) -> np.ndarray:
        losses = normal(rng)
        losses[rng.random(losses.shape) < 0.5] = INF
        return losses

    assert false_share(coin) <= PROOF_LEVEL + 0.005


def test_a_remedy_that_helps_is_proved_among_others_that_do_not() -> None:
    def one_helps(rng: np.random.Generator) -> np.ndarray:
        losses = normal(rng)
        losses[1] *= 0.01
        return losses

    assert false_share(one_helps, runs=200) > 0.95


def study_of(folder: Path, losses: dict[str, list[float]], **settings: object) -> Study:
    """A made-up study with these validation losses; 0 for a run that diverged."""
    lost = [(variant, seed) for variant, values in losses.items() for seed, loss in enumerate(values) if not loss]
    variants = {name: {"data.standardize_targets": True} if "targets" in name else {} for name in losses}
    study = made_up_study(folder, variants, seeds=SEEDS, diverged=lost, **settings)  # type: ignore[arg-type]
    for variant, seed, run in study.each_run():
        if losses[variant][seed]:
            write_json(run.path / "summary.json", {**run.summary, "metrics": {"val": {"loss": losses[variant][seed]}}})
    return load_study(folder)


def effects(study: Study, symptom: str = "dead_units") -> dict[str, Effect]:
    return effects_of(outcomes_of(study), "unchanged", dict.fromkeys(study.variants[1:], symptom))


def test_proved_is_lower_and_gone(tmp_path: Path) -> None:
    losses = {
        "unchanged": [2.0, 2.1, 2.2, 2.0, 2.1],
        "cure": [0.5, 0.6, 0.6, 0.5, 0.7],
        "lower-but-ill": [0.5, 0.6, 0.6, 0.5, 0.7],
        "well-but-no-lower": [2.0, 2.2, 2.1, 2.1, 2.0],
    }
    ill = {"dead_units": range(5)}
    symptoms = {"unchanged": ill, "lower-but-ill": {"dead_units": [3]}}
    seconds = {"unchanged": 2.0, "cure": 3.0}
    study = study_of(tmp_path / "s", losses, symptoms=symptoms, seconds=seconds)
    found = effects(study)
    assert {name: (each.better, each.gone, each.proved) for name, each in found.items()} == {
        "cure": (True, True, True),
        "lower-but-ill": (True, False, False),
        "well-but-no-lower": (False, True, False),
    }
    cure = found["cure"]
    ratios = np.log(losses["cure"]) - np.log(losses["unchanged"])
    half = 2.7764451 * ratios.std(ddof=1) / math.sqrt(5)  # Student's t, 4 degrees of freedom
    assert cure.factor == pytest.approx(tuple(np.exp([ratios.mean(), ratios.mean() - half, ratios.mean() + half])))
    assert (cure.before, cure.after) == pytest.approx((gmean(losses["unchanged"]), gmean(losses["cure"])))
    assert (cure.shown_before, cure.shown_after, cure.seen) == ((0, 1, 2, 3, 4), (), (0, 1, 2, 3, 4))
    assert cure.seconds_ratio == pytest.approx(1.5, rel=0.01)  # each seed takes a little longer than the last
    smallest = ttest_rel(np.log(losses["cure"]), np.log(losses["unchanged"]), alternative="less").pvalue
    assert cure.p_holm == pytest.approx(3 * smallest)
    assert found["lower-but-ill"].shown_after == (3,)


def test_early_stopping_is_judged_by_rows_that_did_not_pick_its_weights(tmp_path: Path) -> None:
    stopping = {"training.early_stopping": {"metric": "loss", "patience": 10}}
    study = made_up_study(tmp_path / "s", {"unchanged": {}, "stop": stopping}, seeds=SEEDS)
    unseen = {"unchanged": [0.9, 1.1, 1.0, 1.2, 0.8], "stop": [1.0, 1.0, 1.1, 1.1, 0.9]}
    for with_test in (False, True):
        for variant, seed, run in study.each_run():
            losses = {"val": {"loss": (2.0 if variant == "unchanged" else 0.5) + seed / 100}}
            losses |= {"test": {"loss": unseen[variant][seed]}} if with_test else {}
            write_json(run.path / "summary.json", {**run.summary, "metrics": losses})
        (effect,) = effects(load_study(study.path)).values()
        assert effect.metric == "loss/test"
        assert not effect.proved  # by the validation rows it would be
    assert effect.after == pytest.approx(gmean(unseen["stop"]))
    p = ttest_rel(np.log(unseen["stop"]), np.log(unseen["unchanged"]), alternative="less").pvalue
    assert effect.p == pytest.approx(p)


def test_a_missing_run_proves_nothing(tmp_path: Path) -> None:
    study = study_of(tmp_path / "s", {"unchanged": [2.0, 2.1, 2.2, 2.0, 2.1], "cure": [0.5, 0.6, 0.6, 0.5, 0.7]})
    assert effects(study)["cure"].proved
    run = study.runs["cure"][3]
    write_json(run.path / "summary.json", {**run.summary, "status": "failed", "metrics": {}})
    (cure,) = effects(load_study(study.path)).values()
    assert (cure.better, cure.missing, cure.proved) == (True, (3,), False)


def test_what_diverges_is_worse_than_any_loss(tmp_path: Path) -> None:
    losses = {"unchanged": [0.0] * 5, "cure": [0.5, 0.6, 0.6, 0.5, 0.7], "no-cure": [0.5, 0.6, 0.0, 0.5, 0.7]}
    found = effects(study_of(tmp_path / "s", losses))
    assert found["cure"].p_holm == 2 / 1024
    assert found["cure"].proved
    assert found["cure"].rescued == (0, 1, 2, 3, 4)
    assert math.isnan(found["cure"].before)
    assert not found["no-cure"].better
    assert found["no-cure"].lost == (2,)


def test_standardised_targets_are_compared_in_the_old_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of 0.5 in units of a variance of 100 is 50, which is no better than 40."""
    losses = {"unchanged": [40.0, 41.0, 39.0, 40.5, 39.5], "targets": [0.5, 0.5, 0.51, 0.52, 0.49]}
    study = study_of(tmp_path / "s", losses)
    for variant, _, run in study.each_run():
        cost = np.full(8, 100.0 if variant == "unchanged" else 1.0)
        monkeypatch.setitem(run.__dict__, "checks", (Check(0, {"diagnosis_row_loss_constant": cost}, {}),))
    (effect,) = effects(study).values()
    assert effect.after == pytest.approx(100 * gmean(losses["targets"]))
    assert effect.factor[0] == pytest.approx(100 * gmean(losses["targets"]) / gmean(losses["unchanged"]))
    assert not effect.better
    for _, _, run in study.each_run():
        monkeypatch.setitem(run.__dict__, "checks", ())
    (unknown,) = effects(study).values()
    assert unknown.p == 1.0  # without the units nothing can be told
    assert read_json(study.path / "runs.json")


def test_remedies_that_may_still_be_tried_count() -> None:
    assert adjusted_for([0.004], among=0) == [0.004]
    assert adjusted_for([0.004], among=4) == pytest.approx([0.016])
    assert adjusted_for([0.002, 0.5], among=5) == pytest.approx([0.01, 1.0])
