"""Curves averaged over folds, the figures' files and how numbers are written."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import auc, roc_auc_score

from renal_ray.protocol.intervals import wilson
from renal_ray.report import paper
from renal_ray.report.canvas import blank, finish, settings
from renal_ray.report.curves import mean_roc, mean_trace, roc
from renal_ray.report.text import listed, plus_minus, two
from renal_ray.types import DATASETS, FREEZE_POINTS, HEADS


def sample(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation([0, 1] * (n // 2))
    return labels, labels + rng.normal(0, 1, n)


def test_mean_roc_of_one_fold_has_the_area_of_its_auc():
    labels, scores = sample(1)
    curve = mean_roc([(labels, scores)])
    assert curve.n_folds == 1
    assert auc(curve.x, curve.mean) == pytest.approx(roc_auc_score(labels, scores), abs=0.005)
    assert curve.sd.max() == 0
    assert (curve.mean[0], curve.mean[-1]) == (0, 1)


def test_mean_roc_averages_folds_and_leaves_out_one_without_both_classes():
    folds = [sample(seed) for seed in range(3)]
    curve = mean_roc([*folds, (np.ones(3), np.ones(3))])
    single = np.stack([mean_roc([fold]).mean for fold in folds])
    assert curve.n_folds == 3
    assert curve.mean == pytest.approx(single.mean(axis=0))
    assert curve.sd == pytest.approx(single.std(axis=0, ddof=1))
    assert np.all(np.diff(curve.mean) >= 0)
    assert mean_roc([]) is None
    assert roc([1, 1], [0.1, 0.2]) is None


def test_mean_trace_goes_as_far_as_the_shortest_history():
    long, short = (
        pd.DataFrame({"epoch": range(1, n + 1), "loss": np.arange(n, 0, -1)}) for n in (5, 3)
    )
    curve = mean_trace([long, short], "loss")
    assert curve.x.tolist() == [1, 2, 3]
    assert curve.mean.tolist() == [4, 3, 2]
    assert mean_trace([], "loss") is None


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(counts):
    successes, n = counts
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_of_nobody_and_of_nonsense():
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.956, "0.96"),
        (None, "–"),
        (float("nan"), "–"),
        (-0.12, "−0.12"),
        (-0.001, "0.00"),
        (1, "1.00"),
    ],
)
def test_two_decimals(value, written):
    assert two(value) == written


def test_words():
    assert (plus_minus(0.9, 0.04), plus_minus(0.9, None), plus_minus(None, None)) == (
        "0.90 ± 0.04",
        "0.90",
        "–",
    )
    assert (listed(["a"]), listed(["a", "b", "c"]), listed([])) == ("a", "a, b and c", "")


def test_inline_figure_is_only_the_drawing():
    with settings("trial"):
        figure, [[axes]] = blank(2, 1, 1)
        axes.plot([0, 1], [0, 1], label="<&>")
        axes.legend()
        drawing = finish(figure, name="trial", caption='A "title" <b>. More.')
    assert drawing.svg.startswith(b"<?xml")
    assert drawing.inline.startswith("<svg")
    for gone in ("<?xml", "<!DOCTYPE", "<metadata", "<style", "<b>", "<script"):
        assert gone not in drawing.inline
    assert "&lt;&amp;&gt;" in drawing.inline
    opening = drawing.inline.split(">")[0]
    assert "viewBox" in opening
    assert " width=" not in opening


def test_paper_values_are_whole():
    for dataset in DATASETS:
        assert set(paper.minutes(dataset)) == set(FREEZE_POINTS)
        for head in HEADS:
            assert set(paper.validation(dataset, head)) == {"auc", "acc", "sen", "spec", "mcc"}
            assert set(paper.test(dataset, head)) == {"acc", "sen", "spec", "ppv", "npv", "mcc"}
    counts = paper.facts()["cohort"]
    assert counts["benign"] + counts["malignant"] == counts["patients"] == 192
