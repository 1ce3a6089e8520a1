"""Every model with intervals: validation out of fold, and the sealed test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from renal_ray.protocol.cross_validation import CorrectedMean, corrected_mean
from renal_ray.protocol.metrics import METRICS, confusion, mean_sd
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.estimates import Estimate, estimates
from renal_ray.report.statistics.samples import Scored
from renal_ray.report.tables import Row, Table, group_row
from renal_ray.report.text import METRIC_NAMES, POOLED, plus_minus, two
from renal_ray.types import Head


@dataclass(frozen=True)
class Evaluated:
    """A model with its estimates.

    Args:
        scored: the model and its samples.
        fold_aucs: AUC of each fold.
        fold_mean: their mean with Nadeau and Bengio's interval; None with fewer than two folds.
        validation: metric -> pooled out-of-fold estimate.
        test: metric -> estimate of the vote on the sealed test; undefined where not tested.
    """

    scored: Scored
    fold_aucs: tuple[float | None, ...]
    fold_mean: CorrectedMean | None
    validation: Mapping[str, Estimate]
    test: Mapping[str, Estimate]

    @cached_property
    def fold_estimate(self) -> Estimate:
        """Mean AUC over folds, its interval cut at 0 and 1."""
        mean = mean_sd(self.fold_aucs)[0]
        if self.fold_mean is None or self.fold_mean.lower is None or self.fold_mean.upper is None:
            return Estimate(mean)
        return Estimate(
            mean, max(0.0, self.fold_mean.lower), min(1.0, self.fold_mean.upper), "Nadeau-Bengio"
        )


def evaluated(evidence: Evidence, scored: Scored) -> Evaluated:
    """A model with its estimates.

    Args:
        evidence: what the work directory says.
        scored: the model and its samples.
    """
    study, per_patient = evidence.study, scored.model.level == "patient"
    sides = [evidence.splits.fold(trial.spec.fold) for trial in scored.folds]
    aucs = tuple(trial.metrics(scored.model.level)["auc"] for trial in scored.folds)
    mean = (
        corrected_mean(
            aucs, [len(side.train) for side in sides], [len(side.validation) for side in sides]
        )
        if sides
        else None
    )
    return Evaluated(
        scored=scored,
        fold_aucs=aucs,
        fold_mean=mean,
        validation=estimates(
            scored.validation,
            study.statistics,
            seed=study.seed,
            per_patient=per_patient,
            independent=False,
        ),
        test=estimates(
            scored.test,
            study.statistics,
            seed=study.seed,
            per_patient=per_patient,
            independent=True,
        ),
    )


def frozen_note(evidence: Evidence) -> str:
    """What random frozen layers have seen of validation patients, as a sentence; empty for
    pretrained ones."""
    if evidence.study.weights != "random":
        return ""
    return (
        " The statistics of the random frozen layers were set, without labels, over images of "
        "all training patients, those of the validation fold among them."
    )


def validation_intervals(evidence: Evidence, models: Sequence[Evaluated]) -> Table:
    """Table S1: pooled out-of-fold metrics with intervals, and the mean over folds with a corrected
    one."""
    rows, data = [], []
    width = 3 + len(METRICS)
    for dataset in evidence.study.datasets:
        rows.append(group_row(evidence, dataset, width))
        for one in (m for m in models if m.scored.model.dataset is dataset):
            samples, mean, sd = one.scored.validation, *mean_sd(one.fold_aucs)
            values = [one.validation[name] for name in METRICS]
            rows.append(
                Row(
                    (
                        one.scored.model.name,
                        samples.counts,
                        plus_minus(mean, sd),
                        *(two(value.value) for value in values),
                    )
                )
            )
            rows.append(
                Row(
                    (
                        "95 % CI",
                        "",
                        one.fold_estimate.interval,
                        *(value.interval for value in values),
                    ),
                    "interval",
                )
            )
            data.append(
                _row(one, samples_of="validation")
                | {"fold_auc_mean": mean, "fold_auc_sd": sd}
                | _corrected(one)
            )
    return Table(
        name="validation-intervals",
        title="Table S1. Validation with 95 % confidence intervals at the selected freeze point",
        columns=(
            "Model",
            "n (patients)",
            "AUC, mean ± SD over folds",
            *(f"{METRIC_NAMES[name]}, pooled" for name in METRICS),
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=(
            "Pooled: all folds together, each patient scored by the fold model not trained on "
            "that patient and decided with that model's own threshold. "
            f"{POOLED}{frozen_note(evidence)}",
            (
                "Thresholds and freeze point were chosen on these same patients, so pooled values "
                "are somewhat optimistic; the sealed test is the honest figure."
            ),
            "CI under the mean over folds: t interval with the variance of Nadeau and Bengio "
            "(Mach Learn 2003), because folds share training patients; cut "
            f"at 0 and 1. {method_note(evidence, test=False)}",
        ),
    )


def test_intervals(evidence: Evidence, models: Sequence[Evaluated]) -> Table:
    """Table S7: the vote on the sealed test with intervals."""
    rows, data = [], []
    for dataset in evidence.study.datasets:
        rows.append(group_row(evidence, dataset, 2 + len(METRICS)))
        for one in (m for m in models if m.scored.model.dataset is dataset):
            samples, values = one.scored.test, [one.test[name] for name in METRICS]
            rows.append(
                Row(
                    (one.scored.model.name, samples.counts, *(two(value.value) for value in values))
                )
            )
            if len(samples):
                rows.append(Row(("95 % CI", "", *(value.interval for value in values)), "interval"))
            data.append(_row(one, samples_of="test"))
    return Table(
        name="test-intervals",
        title="Table S7. Sealed test, vote of the fold models, with 95 % confidence intervals",
        columns=("Model", "n (patients)", *(METRIC_NAMES[name] for name in METRICS)),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=(method_note(evidence, test=True),),
    )


def method_note(evidence: Evidence, *, test: bool) -> str:
    """How the intervals of a table were made, with sources."""
    settings = evidence.study.statistics
    kind = (
        "BCa (Efron 1987; percentile where that does not exist)"
        if settings.interval == "bca"
        else "percentile"
    )
    drawn = (
        f"{settings.bootstrap} resamples of patients within each class, {kind}, seed "
        f"{evidence.study.seed}; none where all resamples agree"
    )
    slices = (
        " Per slice: every metric by bootstrap, the slices of a patient drawn together."
        if Head.IMAGE in evidence.study.heads.use
        else ""
    )
    if test:
        return (
            "Per patient: AUC by DeLong (1988) on the logit scale, proportions by "
            f"Wilson's score interval, MCC by bootstrap ({drawn}).{slices}"
        )
    return (
        "Per patient: AUC by DeLong (1988) on the logit scale, the others by bootstrap "
        f"({drawn}); where every decision is right, or wrong, the bootstrap "
        f"has no width and the interval is Wilson's.{slices} The bootstrap does "
        "not repeat the choice of thresholds and freeze point."
    )


def _row(one: Evaluated, *, samples_of: str) -> dict[str, object]:
    samples = one.scored.validation if samples_of == "validation" else one.scored.test
    found = one.validation if samples_of == "validation" else one.test
    counts = {
        "n": len(samples),
        "n_patients": samples.n_patients,
        "n_malignant": int(samples.labels.sum()),
    }
    columns = {key: value for name in METRICS for key, value in found[name].columns(name).items()}
    cells = vars(confusion(samples.labels, samples.decisions))  # tp, fn, fp, tn
    return one.scored.model.keys() | {"n_folds": len(one.fold_aucs)} | counts | cells | columns


def _corrected(one: Evaluated) -> dict[str, float | None]:
    found = one.fold_estimate
    return {
        "fold_auc_corrected_se": one.fold_mean.se if one.fold_mean else None,
        "fold_auc_lower_95": found.lower,
        "fold_auc_upper_95": found.upper,
    }
