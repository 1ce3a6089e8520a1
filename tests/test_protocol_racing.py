"""Giving up on paired fold scores, and successive halving: against scipy, brute force and examples
worked by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from renal_ray.protocol.racing import Verdict, promoted, rungs, verdict, worse_p

BEST = {0: 0.9, 1: 0.8, 2: 0.85, 3: 0.7, 4: 0.95}


@pytest.mark.parametrize("seed", range(20))
def test_the_p_value_is_scipy_s_paired_one_sided_t_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, int(rng.integers(2, 8))))
    assert worse_p(a - b) == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue)


def test_equal_differences_have_no_spread_to_test_against() -> None:
    assert worse_p(np.array([-0.1, -0.1])) == 0
    assert worse_p(np.array([0.1, 0.1, 0.1])) == 1
    assert worse_p(np.zeros(3)) == 0.5


def test_the_rule_is_what_brute_force_says() -> None:
    """Every challenger on a coarse grid of AUC, after every number of folds: hopeless by trying all
    ways to go on, beaten by scipy."""
    levels = (0.4, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)
    best = {0: 0.9, 1: 0.8, 2: 0.7}
    told: dict[str, int] = {"hopeless": 0, "beaten": 0, "on": 0}
    for done in (1, 2):
        for aucs in itertools.product(levels, repeat=done):
            rest = itertools.product(levels, repeat=3 - done)
            can_win = any(sum(aucs) + sum(more) > sum(best.values()) + 1e-12 for more in rest)
            difference = np.array(aucs) - [best[fold] for fold in range(done)]
            if not can_win:
                expected = "hopeless"
            elif (
                done >= 2
                and difference.mean() < 0
                and stats.ttest_1samp(difference, 0, alternative="less").pvalue < 0.2
            ):
                expected = "beaten"
            else:
                expected = "on"
            found = verdict(dict(enumerate(aucs)), best, min_folds=2, alpha=0.2)
            assert (found.reason if found else "on") == expected, aucs
            if found:
                assert (found.folds, found.difference) == (done, pytest.approx(difference.mean()))
            told[expected] += 1
    assert min(told.values()) > 2, told


def test_folds_are_paired_and_never_compared_across() -> None:
    """Worse than the best one's mean, but not on these folds: its hard folds came first."""
    assert verdict({3: 0.71, 1: 0.82}, BEST, min_folds=2, alpha=0.4) is None
    assert np.mean([0.71, 0.82]) < np.mean(list(BEST.values())) - 0.07
    beaten = verdict({3: 0.65, 1: 0.74}, BEST, min_folds=2, alpha=0.1)
    assert beaten == Verdict("beaten", 2, pytest.approx(-0.055), pytest.approx(stats.t.cdf(-11, 1)))


def test_no_decision_before_the_folds_that_are_asked_for_nor_after_all() -> None:
    worse = {fold: auc - 0.05 - 0.001 * fold for fold, auc in BEST.items()}
    assert verdict({}, BEST, min_folds=2, alpha=0.1) is None
    assert verdict({0: worse[0]}, BEST, min_folds=2, alpha=0.1) is None
    assert verdict({fold: worse[fold] for fold in (0, 1)}, BEST, min_folds=3, alpha=0.1) is None
    assert (
        verdict({fold: worse[fold] for fold in (0, 1, 2)}, BEST, min_folds=3, alpha=0.1) is not None
    )
    assert (
        verdict(worse, BEST, min_folds=2, alpha=0.1) is None
    )  # complete: there is nothing to give up
    with pytest.raises(ValueError, match="fold 7"):
        verdict({7: 0.5}, BEST, min_folds=2, alpha=0.1)


def test_what_wins_is_never_given_up() -> None:
    """Whatever the order of folds: a configuration that would become the best is not hopeless on
    the way, and one that leads is not beaten."""
    rng = np.random.default_rng(5)
    for _ in range(300):
        best = dict(enumerate(rng.random(4)))
        challenger = dict(enumerate(rng.random(4)))
        order = rng.permutation(4)
        for done in range(1, 4):
            found = verdict(
                {int(fold): challenger[int(fold)] for fold in order[:done]},
                best,
                min_folds=2,
                alpha=0.1,
            )
            if sum(challenger.values()) > sum(best.values()):
                assert found is None or found.reason == "beaten"
            if found is not None and found.reason == "beaten":
                assert sum(challenger[int(fold)] - best[int(fold)] for fold in order[:done]) < 0


def test_one_in_eta_goes_on_as_soon_as_it_is_among_the_best() -> None:
    """Li et al. 2020: of nine with eta 3 the best three, of the first two nobody yet."""
    rung = {1: 0.5, 2: 0.9}
    assert promoted(rung, (), eta=3, closed=False) == []
    assert promoted(rung, (), eta=3, closed=True) == [2]
    rung[3] = 0.7
    assert promoted(rung, (), eta=3, closed=False) == [2]
    assert promoted(rung, (2,), eta=3, closed=False) == []
    rung |= {4: 0.95, 5: 0.1, 6: 0.2}
    assert promoted(rung, (2,), eta=3, closed=False) == [4]
    assert promoted({}, (), eta=3, closed=True) == []
    assert promoted({2: 0.5, 1: 0.5, 3: 0.5}, (), eta=3, closed=False) == [
        1
    ]  # a tie goes to the one asked first


def test_rungs_grow_by_eta_up_to_all_epochs() -> None:
    assert rungs(27, min_epochs=1, eta=3) == [1, 3, 9]
    assert rungs(28, min_epochs=1, eta=3) == [1, 3, 9, 27]
    assert rungs(5, min_epochs=5, eta=2) == []
