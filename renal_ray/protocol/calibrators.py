"""From scores to probabilities: fitted on validation, kept as numbers in JSON."""

from dataclasses import dataclass
from typing import Literal, Self, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from renal_ray.problems import StudyError
from renal_ray.protocol.logistic import fit_intercept, fit_logistic, logit
from renal_ray.protocol.metrics import as_probabilities

Kind = Literal["none", "platt", "isotonic", "temperature"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SLOPES = (
    0.01,
    100.0,
)  # of logits; above 0, so that calibration never turns the order of patients round
APPLY_LIMIT = 2.0**-53  # applied, a calibrator keeps even extreme scores apart


@dataclass(frozen=True)
class Calibrator:
    """A non-decreasing map from scores to probabilities.

    Args:
        kind: none | platt | isotonic | temperature.
        slope, intercept: of the logit; of platt and temperature (1 / T and 0).
        scores, probabilities: corners of the map, straight between them and level outside; of
            isotonic.
    """

    kind: Kind
    slope: float = 1.0
    intercept: float = 0.0
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Calibrates scores.

        Args:
            scores: (n,) P(malignant), in 0..1.

        Returns:
            (n,) probabilities in 0..1, in the order of the scores; isotonic makes some equal.

        Raises:
            ValueError: a score is not in 0..1.
        """
        values = np.asarray(scores, dtype=np.float64)
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("scores: a value is not a probability in 0..1")
        if self.kind == "none":
            return values
        if self.kind == "isotonic":
            return np.interp(values, self.scores, self.probabilities)
        return cast("NDArray[np.float64]", expit(self.slope * _wide_logit(values) + self.intercept))

    @property
    def at_limit(self) -> bool:
        """Whether the slope stands at one of SLOPES: the validation scores say nothing, or the
        contrary, and the report should tell."""
        return not SLOPES[0] * 1.001 < self.slope < SLOPES[1] / 1.001

    def to_json(self) -> dict[str, object]:
        """The calibrator as JSON's own types."""
        if self.kind == "none":
            return {"kind": "none"}
        if self.kind == "isotonic":
            return {
                "kind": "isotonic",
                "scores": list(self.scores),
                "probabilities": list(self.probabilities),
            }
        return {"kind": self.kind, "slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads what to_json wrote.

        Raises:
            StudyError: the value is no calibrator.
        """
        refused = StudyError(
            f"calibrator: {str(value)[:80]} is none; delete the file "
            "that holds it and run the command again"
        )
        if not isinstance(value, dict) or value.get("kind") not in KINDS:
            raise refused
        kind = cast("Kind", value["kind"])
        if kind == "none":
            return cls(kind)
        try:
            if kind == "isotonic":
                scores, probabilities = (
                    tuple(float(v) for v in value[name]) for name in ("scores", "probabilities")
                )
                found = cls(kind, scores=scores, probabilities=probabilities)
            else:
                found = cls(kind, slope=float(value["slope"]), intercept=float(value["intercept"]))
        except (KeyError, TypeError, ValueError) as error:
            raise refused from error
        if not found._is_sound():
            raise refused
        return found

    def _is_sound(self) -> bool:
        if self.kind != "isotonic":
            return SLOPES[0] <= self.slope <= SLOPES[1] and bool(np.isfinite(self.intercept))
        x, y = np.array(self.scores), np.array(self.probabilities)
        inside = all(((values >= 0) & (values <= 1)).all() for values in (x, y))
        return (
            len(x) == len(y) > 0
            and inside
            and bool((np.diff(x) > 0).all() and (np.diff(y) >= 0).all())
        )


def fit_calibrator(kind: Kind, labels: ArrayLike, scores: ArrayLike) -> Calibrator:
    """Fits a calibrator to validation scores.

    platt: expit(slope * logit(score) + intercept) with smoothed targets, J. C. Platt, Probabilistic
        outputs for support vector machines, 1999.
    temperature: expit(logit(score) / T), C. Guo et al., On calibration of modern neural networks,
        ICML 2017; with Platt's targets too, or a fold
    whose classes are separated, as few patients often are, would ask for T = 0. Both slopes are
    held within SLOPES: they never turn the order of patients round. isotonic: B. Zadrozny and C.
    Elkan, KDD 2002, 694-699; it wants some hundreds of patients.

    Args:
        kind: none | platt | isotonic | temperature.
        labels: (n,) 0 or 1, of validation samples; never of test ones.
        scores: (n,) P(malignant), in 0..1.

    Raises:
        ValueError: the kind is unknown, a class is missing, the lengths differ, or a score is not
            in 0..1.
    """
    truth, values = as_probabilities(labels, scores)
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r}; expected one of {', '.join(KINDS)}")
    malignant = int(truth.sum())
    if kind != "none" and malignant in (0, len(truth)):
        raise ValueError(
            f"labels: {malignant} malignant and {len(truth) - malignant} "
            "benign; a calibrator needs both classes"
        )
    if kind == "platt":
        return _platt(truth, values)
    if kind == "temperature":
        return _temperature(truth, values)
    if kind == "isotonic":
        fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(
            values, truth.astype(np.float64)
        )
        return Calibrator(
            kind,
            scores=tuple(fitted.X_thresholds_.tolist()),
            probabilities=tuple(fitted.y_thresholds_.tolist()),
        )
    return Calibrator("none")


def _platt(truth: NDArray[np.bool_], values: NDArray[np.float64]) -> Calibrator:
    x, targets = logit(values), _smoothed(truth)
    found = fit_logistic(np.column_stack([x, np.ones(len(x))]), targets) if np.ptp(x) > 0 else None
    slope, intercept = (
        found.coefficients.tolist() if found else (SLOPES[0], 0.0)
    )  # scores that are all but equal say nothing
    if found is None or not SLOPES[0] <= slope <= SLOPES[1]:
        slope = min(max(slope, SLOPES[0]), SLOPES[1])
        intercept = float(fit_intercept(targets, slope * x).coefficients[0])
    return Calibrator("platt", slope=slope, intercept=intercept)


def _temperature(truth: NDArray[np.bool_], values: NDArray[np.float64]) -> Calibrator:
    x, targets = logit(values), _smoothed(truth)

    def loss(log_slope: float) -> float:
        linear = np.exp(log_slope) * x
        return float(
            (targets * np.logaddexp(0, -linear) + (1 - targets) * np.logaddexp(0, linear)).sum()
        )

    found = minimize_scalar(
        loss,
        bounds=(np.log(SLOPES[0]), np.log(SLOPES[1])),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return Calibrator("temperature", slope=min(max(float(np.exp(found.x)), SLOPES[0]), SLOPES[1]))


def _smoothed(truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Platt's targets: what a uniform prior would expect of the next patient of either class."""
    malignant, benign = int(truth.sum()), int((~truth).sum())
    return np.where(truth, (malignant + 1) / (malignant + 2), 1 / (benign + 2))


def _wide_logit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """logit down to the smallest scores that float32 holds; above, float64 ends at 1 - 2^-53."""
    held = np.clip(values, np.finfo(np.float32).tiny, 1 - APPLY_LIMIT)
    return cast("NDArray[np.float64]", np.log(held) - np.log1p(-held))
