"""From scores to a decision: the threshold of a validation fold."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve

from renal_ray.protocol.metrics import as_labels_and_scores


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The score at which Youden's J = SEN + SPEC - 1 is largest; of several, the highest.

    W. J. Youden, Index for rating diagnostic tests, Cancer 3 (1950) 32-35. A score at or above the threshold is malignant.

    Args:
        labels: (n,) 0 or 1, of validation samples; never of test ones.
        scores: (n,) P(malignant).

    Returns:
        One of the scores.

    Raises:
        ValueError: a class is missing, or a score is not finite.
    """
    truth, values = as_labels_and_scores(labels, scores)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        raise ValueError(f"labels: {positives} malignant and {negatives} benign; a threshold needs both classes")
    fpr, tpr, thresholds = roc_curve(truth, values, drop_intermediate=False)
    # Counts, not rates: J of two thresholds is then equal exactly when it is equal. The first entry, infinity, is no score.
    j = np.rint(tpr * positives).astype(np.int64) * negatives - np.rint(fpr * negatives).astype(np.int64) * positives
    return float(thresholds[1:][np.argmax(j[1:])])
