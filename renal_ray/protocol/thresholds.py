"""From scores to a decision: the threshold of a validation fold."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve

from renal_ray.protocol.metrics import as_labels_and_scores

Rule = Literal["youden", "closest", "mcc", "sensitivity", "cost"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True)
class _Cut:
    """One threshold and what it does; counts, not rates, so that what is equal compares equal."""

    threshold: float
    tp: int
    fp: int
    fn: int
    tn: int


def choose_threshold(
    rule: Rule,
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    sensitivity: float = 0.95,
    cost_ratio: float = 1.0,
) -> float:
    """The threshold by one of the rules.

    Args:
        rule: youden | closest | mcc | sensitivity | cost.
        labels: (n,) 0 or 1, of validation samples; never of test ones.
        scores: (n,) P(malignant).
        sensitivity: that the rule `sensitivity` must reach.
        cost_ratio: of the rule `cost`: how many false alarms a missed malignant lesion is worth.

    Returns:
        One of the scores; a score at or above it is malignant.

    Raises:
        ValueError: the rule is unknown, or as the rule's own function.
    """
    if rule == "sensitivity":
        return sensitivity_threshold(labels, scores, sensitivity)
    if rule == "cost":
        return cost_threshold(labels, scores, cost_ratio)
    plain = {
        "youden": youden_threshold,
        "closest": closest_to_corner_threshold,
        "mcc": max_mcc_threshold,
    }
    if rule not in plain:
        raise ValueError(f"rule: {rule!r}; expected one of {', '.join(RULES)}")
    return plain[rule](labels, scores)


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The score at which Youden's J = SEN + SPEC - 1 is largest; of several, the highest.

    W. J. Youden, Index for rating diagnostic tests, Cancer 3 (1950) 32-35. A score at or above the
    threshold is malignant.

    Args:
        labels: (n,) 0 or 1, of validation samples; never of test ones.
        scores: (n,) P(malignant).

    Returns:
        One of the scores.

    Raises:
        ValueError: a class is missing, or a score is not finite.
    """
    return _best(
        labels, scores, lambda cut: cut.tp * (cut.fp + cut.tn) - cut.fp * (cut.tp + cut.fn)
    )


def closest_to_corner_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The score whose point of the ROC curve is nearest to the corner of SEN = SPEC = 1; of
    several, the highest.

    N. J. Perkins and E. F. Schisterman, The inconsistency of "optimal" cutpoints, Am J Epidemiol
    163 (2006) 670-675, who advise Youden's J.

    Args:
        labels: (n,) 0 or 1, of validation samples; never of test ones.
        scores: (n,) P(malignant).

    Returns:
        One of the scores.

    Raises:
        ValueError: a class is missing, or a score is not finite.
    """
    return _best(
        labels,
        scores,
        lambda cut: -((cut.fn * (cut.fp + cut.tn)) ** 2) - (cut.fp * (cut.tp + cut.fn)) ** 2,
    )


def max_mcc_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The score at which Matthews's correlation coefficient is largest; of several, the highest.

    B. W. Matthews, Biochim Biophys Acta 405 (1975) 442-451. MCC is 0 where all decisions are of one
    class.

    Args:
        labels: (n,) 0 or 1, of validation samples; never of test ones.
        scores: (n,) P(malignant).

    Returns:
        One of the scores.

    Raises:
        ValueError: a class is missing, or a score is not finite.
    """

    def signed_square(cut: _Cut) -> Fraction:
        covariance = cut.tp * cut.tn - cut.fp * cut.fn
        spread = (cut.tp + cut.fp) * (
            cut.tn + cut.fn
        )  # the classes' own sizes are the same at every cut
        return Fraction(covariance * abs(covariance), spread) if spread else Fraction(0)

    return _best(labels, scores, signed_square)


def sensitivity_threshold(labels: ArrayLike, scores: ArrayLike, sensitivity: float) -> float:
    """The highest score at which the sensitivity is at least the one asked for, and so the best
    specificity at it.

    Args:
        labels: (n,) 0 or 1, of validation samples; never of test ones.
        scores: (n,) P(malignant).
        sensitivity: to be reached, above 0, at most 1.

    Returns:
        One of the scores.

    Raises:
        ValueError: a class is missing, a score is not finite, or the sensitivity is not above 0 and
            at most 1.
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"sensitivity: {sensitivity}; expected a share above 0, at most 1")
    wanted = Fraction(str(sensitivity))  # of the decimal as written: 0.95 of 20 is 19
    return _best(labels, scores, lambda cut: cut.tp >= wanted * (cut.tp + cut.fn))


def cost_threshold(labels: ArrayLike, scores: ArrayLike, cost_ratio: float) -> float:
    """The score at which cost_ratio * FN + FP is smallest, at the classes' shares as they are in
    validation; of several, the highest.

    C. E. Metz, Basic principles of ROC analysis, Semin Nucl Med 8 (1978) 283-298. At least the
    highest score is called malignant.

    Args:
        labels: (n,) 0 or 1, of validation samples; never of test ones.
        scores: (n,) P(malignant).
        cost_ratio: what a missed malignant lesion costs, in false alarms; above 0.

    Returns:
        One of the scores.

    Raises:
        ValueError: a class is missing, a score is not finite, or the ratio is not positive.
    """
    if not 0 < cost_ratio < float("inf"):
        raise ValueError(
            f"cost_ratio: {cost_ratio}; expected a positive number of false "
            "alarms that a missed malignant lesion is worth"
        )
    ratio = Fraction(str(cost_ratio))
    return _best(labels, scores, lambda cut: -(ratio * cut.fn + cut.fp))


def _best(labels: ArrayLike, scores: ArrayLike, merit: Callable[[_Cut], Fraction | int]) -> float:
    """The threshold of the largest merit; of several, the highest: max() keeps the first, and the
    cuts come from high to low."""
    truth, values = as_labels_and_scores(labels, scores)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        raise ValueError(
            f"labels: {positives} malignant and {negatives} benign; a threshold needs both classes"
        )
    fpr, tpr, thresholds = roc_curve(truth, values, drop_intermediate=False)
    tps, fps = (
        np.rint(rate * n).astype(np.int64).tolist()
        for rate, n in ((tpr, positives), (fpr, negatives))
    )
    cuts = [
        _Cut(float(at), tp, fp, positives - tp, negatives - fp)
        for at, tp, fp in zip(thresholds, tps, fps, strict=True)
    ]
    return max(cuts[1:], key=merit).threshold  # the first entry, infinity, is no score
