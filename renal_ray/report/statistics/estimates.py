"""Metrics with 95 % confidence intervals, by the method that suits their samples."""

from dataclasses import dataclass
from functools import cache

from renal_ray.config import Statistics
from renal_ray.protocol.bootstrap import bootstrap_bounds
from renal_ray.protocol.delong import auc_interval
from renal_ray.protocol.intervals import wilson
from renal_ray.protocol.metrics import METRICS, confusion
from renal_ray.protocol.resampling import Resampled, resampled_metrics
from renal_ray.report.statistics.samples import Samples

DELONG, WILSON, BOOTSTRAP, NONE = "DeLong", "Wilson", "patient bootstrap", ""
PROPORTIONS = ("acc", "sen", "spec", "ppv", "npv")


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval.

    Args:
        value: None where undefined.
        lower: lower end of the 95 % interval; None where there is none.
        upper: upper end.
        method: DeLong, Wilson, patient bootstrap; empty without an interval.
    """

    value: float | None
    lower: float | None
    upper: float | None
    method: str
