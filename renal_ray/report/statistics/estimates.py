"""Metrics with 95 % confidence intervals, each by the method that suits its samples."""

from collections.abc import Mapping
from dataclasses import dataclass

from renal_ray.config import Statistics
from renal_ray.protocol.delong import auc_interval
from renal_ray.protocol.intervals import wilson
from renal_ray.protocol.metrics import METRICS, Confusion, confusion
from renal_ray.protocol.resampling import resampled_metrics
from renal_ray.report.statistics.samples import Samples
from renal_ray.report.text import two

WILSON = "Wilson"
BOOTSTRAP = {"bca": "patient bootstrap, BCa", "percentile": "patient bootstrap, percentile"}
NO_INTERVAL = ""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Args:
        value: None where undefined.
        lower: lower end; None where there is no interval.
        upper: upper end.
        method: how the interval was made; empty without one.
    """

    value: float | None
    lower: float | None = None
    upper: float | None = None
    method: str = NO_INTERVAL

    @property
    def interval(self) -> str:
        """The interval as words: 0.85 to 0.97; empty where there is none."""
        return (
            f"{two(self.lower)} to {two(self.upper)}"
            if self.lower is not None and self.upper is not None
            else ""
        )

    @property
    def words(self) -> str:
        """Value and interval: 0.93 (0.85 to 0.97)."""
        return f"{two(self.value)} ({self.interval})" if self.interval else two(self.value)

    def columns(self, name: str) -> dict[str, float | str | None]:
        """Columns of a CSV."""
        return {
            name: self.value,
            f"{name}_lower_95": self.lower,
            f"{name}_upper_95": self.upper,
            f"{name}_method": self.method or None,
        }


UNKNOWN = Estimate(None)


def estimates(
    samples: Samples, settings: Statistics, *, seed: int, per_patient: bool, independent: bool
) -> dict[str, Estimate]:
    """Every metric with its interval.

    Args:
        samples: scored samples; none give undefined values.
        settings: of the study file.
        seed: of the bootstrap.
        per_patient: one sample a patient: AUC by DeLong. Else patients are drawn with all their
            slices.
        independent: the decisions of different patients are independent, as the vote's are on the
            test: proportions by Wilson. Those of validation share thresholds that were chosen on
                them; they are drawn anew.

    Returns:
        auc, acc, sen, spec, ppv, npv, mcc.
    """
    if not len(samples):
        return dict.fromkeys(METRICS, UNKNOWN)
    drawn = resampled_metrics(
        samples.labels,
        samples.scores,
        samples.decisions,
        patients=samples.patients.astype(str),
        n=settings.bootstrap,
        seed=seed,
    )
    found = {}
    shares = proportions(confusion(samples.labels, samples.decisions)) if per_patient else {}
    for name in METRICS:
        interval = drawn[name].interval(settings.interval)
        method = BOOTSTRAP[interval.method] if interval.lower is not None else NO_INTERVAL
        found[name] = Estimate(interval.value, interval.lower, interval.upper, method)
        # A bootstrap of decisions that are all right, or all wrong, has no width; Wilson's interval
        # has.
        if name in shares and (independent or not method):
            found[name] = shares[name]
    if per_patient and (auc := auc_interval(samples.labels, samples.scores)) is not None:
        found["auc"] = Estimate(auc.auc, auc.lower, auc.upper, auc.method)
    return found


def proportions(counts: Confusion) -> dict[str, Estimate]:
    """ACC, SEN, SPEC, PPV and NPV of independent patients with Wilson's interval."""
    tp, fn, fp, tn = counts.tp, counts.fn, counts.fp, counts.tn
    parts = {
        "acc": (tp + tn, tp + fn + fp + tn),
        "sen": (tp, tp + fn),
        "spec": (tn, tn + fp),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
    }
    return {name: proportion(part, whole) for name, (part, whole) in parts.items()}


def proportion(part: int, whole: int) -> Estimate:
    """A share of independent patients with Wilson's interval; undefined of nobody."""
    interval = wilson(part, whole)
    return Estimate(part / whole, *interval, WILSON) if interval else UNKNOWN


def methods(found: Mapping[str, Estimate]) -> list[str]:
    """The methods of some estimates, each once."""
    return list(dict.fromkeys(estimate.method for estimate in found.values() if estimate.method))
