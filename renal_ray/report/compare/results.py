"""Validation, test and training time of several studies in one table each."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from renal_ray.protocol.cross_validation import corrected_mean
from renal_ray.protocol.delong import auc_interval
from renal_ray.protocol.metrics import confusion
from renal_ray.report.compare.studies import Compared
from renal_ray.report.statistics.estimates import UNKNOWN, Estimate, proportions
from renal_ray.report.statistics.samples import Samples, Scored, selected_models
from renal_ray.report.tables import Row, Table, validation_summary
from renal_ray.report.text import DASH, counted, dataset_name, plus_minus, two
from renal_ray.report.trials import Trial
from renal_ray.types import Dataset, Head

Scores = dict[tuple[Dataset, Head, str], Scored]


def validation_table(studies: Sequence[Compared]) -> Table:
    """Validation of every model in every study: mean ± SD over folds with the corrected interval,
    and the AUC pooled out of fold."""
    columns = (
        "Study",
        "Frozen up to",
        "Folds",
        "AUC, mean ± SD",
        "95 % CI of the mean",
        "AUC, out of fold",
        "95 % CI",
        "ACC",
        "SEN",
        "SPEC",
    )
    rows, data = [], []
    for title, key, found in _models(studies):
        rows.append(Row((title, *[""] * (len(columns) - 1)), "group"))
        for one, scored in found:
            summary = validation_summary(scored.folds, key[2])
            mean, pooled = (
                _mean(one, scored.folds, key[2]),
                _auc(scored.validation) if key[2] == "patient" else UNKNOWN,
            )
            shown = (
                plus_minus(*summary["auc"]),
                mean.interval or DASH,
                two(pooled.value),
                pooled.interval or DASH,
            )
            point = str(scored.model.freeze_point)
            rows.append(
                Row(
                    (
                        one.name,
                        point,
                        str(len(scored.folds)),
                        *shown,
                        *(plus_minus(*summary[name]) for name in ("acc", "sen", "spec")),
                    )
                )
            )
            data.append(
                _keys(one, scored)
                | {
                    "n_folds": len(scored.folds),
                    "n_patients": scored.validation.n_patients,
                    **mean.columns("auc_mean"),
                    "auc_sd": summary["auc"][1],
                    **pooled.columns("auc_oof"),
                }
            )
            data[-1] |= {
                f"{name}_{part}": value
                for name in ("acc", "sen", "spec")
                for part, value in zip(("mean", "sd"), summary[name], strict=True)
            }
    return Table(
        name="validation",
        title="Validation at each study's selected freeze point",
        columns=columns,
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
        notes=(
            "Mean ± SD over folds; its interval with the variance corrected for overlapping "
            "training sets (Nadeau and Bengio 2003), cut at 0 and 1. Out of "
            "fold: patients pooled over folds, DeLong on the logit scale, per patient only; "
            "the scores of different fold models share no scale, so that a "
            "pooled AUC can lie below the mean. Freeze points and "
            "thresholds were chosen on these same folds.",
        ),
    )


def test_table(studies: Sequence[Compared]) -> Table:
    """The vote of every model in every study on its own sealed patients."""
    columns = (
        "Study",
        "Frozen up to",
        "Patients",
        "AUC",
        "95 % CI",
        "ACC",
        "95 % CI of ACC",
        "SEN",
        "SPEC",
    )
    rows, data = [], []
    for title, key, found in _models(studies):
        tested = [(one, scored) for one, scored in found if len(scored.test)]
        if key[2] != "patient" or not tested:
            continue
        rows.append(Row((title, *[""] * (len(columns) - 1)), "group"))
        for one, scored in tested:
            auc, shares = (
                _auc(scored.test),
                proportions(confusion(scored.test.labels, scored.test.decisions)),
            )
            shown = (
                two(auc.value),
                auc.interval or DASH,
                two(shares["acc"].value),
                shares["acc"].interval,
                two(shares["sen"].value),
                two(shares["spec"].value),
            )
            rows.append(
                Row((one.name, str(scored.model.freeze_point), str(len(scored.test)), *shown))
            )
            columns_of = {
                name: value
                for metric in ("acc", "sen", "spec")
                for name, value in shares[metric].columns(metric).items()
            }
            data.append(
                _keys(one, scored) | {"n": len(scored.test), **auc.columns("auc"), **columns_of}
            )
    return Table(
        name="test",
        title="Sealed test, majority vote, per patient",
        columns=columns,
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
        notes=("AUC: DeLong on the logit scale; ACC: Wilson.", *_untested(studies)),
    )


def _untested(studies: Sequence[Compared]) -> Iterator[str]:
    """Why a study is not in the test table."""
    for one in studies:
        test = one.evidence.test
        if not test.opened:
            yield f"{one.name} is not in this table: its seal is closed."
        elif test.other_rule:
            yield (
                f"{one.name} is not in this table: its votes were counted under another rule "
                "of threshold or calibration than its study file has now."
            )
        elif test.votes is None or test.votes.empty:
            yield f"{one.name} is not in this table: there are no votes of its present models."


def time_table(studies: Sequence[Compared]) -> Table:
    """Minutes of training by dataset, freeze point and head, summed over the finished folds."""
    rows, data = [], []
    cells = list(
        dict.fromkeys(
            (t.spec.dataset, t.spec.freeze_point, t.spec.head)
            for one in studies
            for t in one.evidence.trials.true
        )
    )
    for dataset, point, head in cells:
        shown = []
        keys = {"dataset": str(dataset), "freeze_point": str(point), "head": str(head)}
        for one in studies:
            trials = one.evidence.cell(dataset, point, head)
            minutes = (
                sum(float(trial.result["seconds"]["total"]) for trial in trials) / 60
                if trials
                else None
            )
            shown.append(f"{two(minutes)} ({counted(len(trials), 'fold')})" if trials else DASH)
            data.append({"study": one.name, **keys, "n_folds": len(trials), "minutes": minutes})
        rows.append(Row((dataset_name(dataset), str(point), str(head), *shown)))
    totals = [
        sum(float(t.result["seconds"]["total"]) for t in one.evidence.trials.finished) / 60
        for one in studies
    ]
    rows.append(
        Row(
            (
                "All trials",
                "",
                "",
                *(
                    f"{two(total)} ({len(one.evidence.trials.finished)})"
                    for one, total in zip(studies, totals, strict=True)
                ),
            ),
            "extra",
        )
    )
    return Table(
        name="training-minutes",
        title="Training time, minutes",
        columns=("Dataset", "Frozen up to", "Head", *(one.name for one in studies)),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=3,
        notes=(
            (
                "Wall time of the finished trials, summed over folds; in brackets how "
                "many. The studies may have run on different machines."
            ),
        ),
    )


def scores_of(one: Compared) -> Scores:
    """The models of a study at its selected freeze points, by dataset, head and level."""
    return {
        (scored.model.dataset, scored.model.head, scored.model.level): scored
        for scored in selected_models(one.evidence)
    }


def _models(
    studies: Sequence[Compared],
) -> Iterator[tuple[str, tuple[Dataset, Head, str], list[tuple[Compared, Scored]]]]:
    """Every model that a study has: its name, and the studies that have it."""
    known = [(one, scores_of(one)) for one in studies]
    for key in sorted(
        {key for _, scores in known for key in scores},
        key=lambda key: (
            list(Dataset).index(key[0]),
            list(Head).index(key[1]),
            key[2] == "patient",
        ),
    ):
        found = [(one, scores[key]) for one, scores in known if key in scores]
        yield found[0][1].model.full_name, key, found


def _mean(one: Compared, trials: Sequence[Trial], level: str) -> Estimate:
    """Mean AUC over folds with the corrected interval; the sizes of the folds in patients."""
    sizes = (
        [len(one.evidence.splits.fold(trial.spec.fold).train) for trial in trials],
        [len(one.evidence.splits.fold(trial.spec.fold).validation) for trial in trials],
    )
    found = (
        corrected_mean([trial.metrics(level)["auc"] for trial in trials], *sizes)
        if trials
        else None
    )
    if found is None or found.lower is None or found.upper is None:
        return Estimate(found.mean) if found else UNKNOWN
    return Estimate(found.mean, max(0.0, found.lower), min(1.0, found.upper), "Nadeau and Bengio")


def _auc(samples: Samples) -> Estimate:
    found = auc_interval(samples.labels, samples.scores) if samples.has_both_classes else None
    return Estimate(found.auc, found.lower, found.upper, found.method) if found else UNKNOWN


def _keys(one: Compared, scored: Scored) -> dict[str, Any]:
    return {"study": one.name, **scored.model.keys()}
