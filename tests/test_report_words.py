"""Names, numbers and versions as the page writes them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report_trials import HOSTILE, Synthetic, study_at

from renal_ray import __version__
from renal_ray.report.cohort_tables import cohort_table
from renal_ray.report.curves import Curve, cut_bars, loss_limit, shared_limits
from renal_ray.report.evidence import Evidence, read_evidence
from renal_ray.report.protocol_facts import provenance_facts
from renal_ray.report.text import level_name, moment, probability, unbroken
from renal_ray.types import Dataset, FreezePoint, Head

losses = st.lists(st.floats(0, 50), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory) -> Evidence:
    made = Synthetic(study_at(tmp_path_factory.mktemp("work"), datasets=[Dataset.ROI]))
    made.train(heads=[Head.IMAGE], points=[FreezePoint.MIXED0])
    return read_evidence(made.study)


def curve(mean: list[float], sd: list[float] | None = None) -> Curve:
    values = np.array(mean, dtype=float)
    return Curve(
        x=np.arange(len(mean), dtype=float),
        mean=values,
        sd=np.array(sd or [0.0] * len(mean), dtype=float),
        n_folds=5,
    )


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("clear_cell_rcc", "clear cell RCC"),
        ("papillary_rcc", "papillary RCC"),
        ("chromophobe_rcc", "chromophobe RCC"),
        ("Rcc", "RCC"),
        ("arccos", "arccos"),
        ("exophytic", "exophytic"),
    ],
)
def test_levels_are_written_as_readers_write_them(level, written):
    assert level_name(level) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.99996, "> 0.999"),
        (1.0, "1.000"),
        (0.9994, "0.999"),
        (0.00001, "< 0.001"),
        (0.0, "0.000"),
        (0.0005, "0.001"),
        (None, "–"),
        (0.25, "0.250"),
    ],
)
def test_probabilities_are_never_rounded_to_certainty(value, written):
    assert probability(value) == written


def test_times_and_plus_minus():
    assert moment("2026-01-02T03:04:05+00:00") == "2026-01-02 03:04:05 UTC"
    assert (moment("at Ten"), moment("2026-01-02T03:04:05+02:00")) == (
        "at Ten",
        "2026-01-02T03:04:05+02:00",
    )
    assert unbroken("AUC 0.89 ± 0.07") == "AUC 0.89\u00a0±\u00a00.07"


def test_table_1_writes_histology_in_words(evidence):
    histology = ["clear_cell_rcc", "oncocytoma"] * (len(evidence.cohort) // 2)
    table = cohort_table(replace(evidence, cohort=evidence.cohort.assign(histology=histology)))
    levels = {row.cells[0]: row.cells for row in table.rows if row.kind == "level"}
    assert {"clear cell RCC", "oncocytoma", "exophytic", "male"} <= set(levels)
    assert not any("_" in cell for row in table.rows for cell in row.cells)
    assert "clear_cell_rcc" in set(table.data["level"])  # the CSV keeps the manifest's own words
    assert levels["exophytic"][4:6] == (
        "33 (42.31)",
        "45 (57.69)",
    )  # and the paper's values still find their row


def facts_with(
    evidence: Evidence, prepared: dict, trained: list[dict], **provenance
) -> dict[str, str]:
    trials = tuple(
        replace(trial, result={**trial.result, "versions": trained[i % len(trained)]})
        for i, trial in enumerate(evidence.trials.true)
    )
    facts = provenance_facts(
        replace(
            evidence,
            provenance={"versions": prepared, **provenance},
            trials=replace(evidence.trials, true=trials, controls=()),
        )
    )
    assert len(dict(facts)) == len(facts)
    return dict(facts)


def test_versions_are_given_once(evidence):
    same = {"renal-ray": __version__, "keras": "3.15.1", "numpy": "2.4.6"}
    facts = facts_with(
        evidence, same, [same], hashes={"cohort": "ab" * 32}, created="2026-01-02T03:04:05+00:00"
    )
    assert facts["Program"] == f"renal-ray {__version__}"
    assert facts["Versions"] == "keras 3.15.1, numpy 2.4.6"
    assert not any("training" in name for name in facts)
    assert (facts["SHA-256 of the cohort"], facts["Prepared"]) == (
        "ab" * 32,
        "2026-01-02 03:04:05 UTC",
    )
    text = " ".join(facts.values())
    assert (text.count("keras"), text.count("renal-ray")) == (1, 1)


def test_versions_in_training_are_given_where_they_differ(evidence):
    prepared = {"renal-ray": "0.0.9", "keras": "3.15.1", "numpy": HOSTILE}
    facts = facts_with(
        evidence, prepared, [{**prepared, "keras": "3.14.0", "jax": "0.9"}, prepared]
    )
    assert facts["Versions in training, where others"] == "jax 0.9, keras 3.14.0 and 3.15.1"
    assert (facts["Prepared by"], facts["Report by"]) == (
        "renal-ray 0.0.9",
        f"renal-ray {__version__}",
    )
    assert facts["Versions"] == f"keras 3.15.1, numpy {HOSTILE}"
    assert facts_with(evidence, {}, [{"keras": "3.15.1"}])["Versions in training"] == "keras 3.15.1"


@given(losses, losses)
def test_loss_limit_holds_all_that_is_not_far_out(train, validation):
    top = loss_limit([curve(train), curve(validation)])
    everything = np.array([*train, *validation] * 2)
    lower, upper = np.quantile(everything, [0.25, 0.75])
    ordinary = everything[everything <= upper + 3 * (upper - lower)]
    assert top > 0
    assert top > ordinary.max() or ordinary.max() == 0
    assert top <= max(1.05 * everything.max(), 1.0)


def test_loss_limit_leaves_out_an_explosion_and_what_is_not_finite():
    usual = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert loss_limit([curve(usual), curve([1e6, *usual])]) == pytest.approx(0.945)
    assert loss_limit([curve([float("nan"), float("inf"), 0.5])]) == pytest.approx(0.525)
    assert loss_limit([curve(usual, [0.1] * 6)]) == pytest.approx(1.05)
    for empty in ([], [curve([float("nan")])], [curve([0.0, 0.0])]):
        assert loss_limit(empty) == 1


def test_limits_are_shared_unless_one_would_flatten_another():
    near = {FreezePoint.MIXED0: 1.0, FreezePoint.MIXED3: 3.9}
    far = {FreezePoint.MIXED0: 1.0, FreezePoint.MIXED3: 4.1}
    assert shared_limits(near) == dict.fromkeys(near, 3.9)
    assert shared_limits(far) == far
    assert shared_limits({}) == {}


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 2)), min_size=1, max_size=8))
def test_bars_end_where_the_metric_ends(points):
    mean, sd = (np.array(values) for values in zip(*points, strict=True))
    down, up = cut_bars(mean, sd, lowest=-1)
    assert (
        (mean - down >= -1 - 1e-12) & (mean + up <= 1 + 1e-12) & (down <= sd) & (up <= sd)
    ).all()
    inside = (sd <= mean + 1) & (sd <= 1 - mean)
    assert (down[inside] == sd[inside]).all()
    assert (up[inside] == sd[inside]).all()
