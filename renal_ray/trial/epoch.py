"""What is told of a training, epoch by epoch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One row of history.parquet, and the number of samples trained on.

    Losses are categorical cross-entropies with the L2 penalty, if any, accuracies at P(malignant)
    >= 0.5.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_auc: float | None
    seconds: float
    samples: int
