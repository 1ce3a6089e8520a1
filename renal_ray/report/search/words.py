"""How what was searched over is written, and what of a search the other files of this folder
share."""

import math
from collections.abc import Mapping
from typing import Any

Found = Mapping[str, Any]  # WORK/search/search.json, see `renal_ray.trial.search.outcome.outcome`

STATES = {
    "complete": "complete",
    "beaten": "beaten",
    "hopeless": "without a chance",
    "screened": "screened out",
    "failed": "failed",
    "running": "not finished",
}
AXIS_NAMES = {
    "learning_rate": "Learning rate",
    "momentum": "Momentum",
    "optimizer": "Optimizer",
    "batch_size": "Batch size",
    "weight_decay": "Weight decay",
    "dropout": "Dropout",
    "embedding": "Embedding width",
    "label_smoothing": "Label smoothing",
    "gru_units": "GRU width",
    "gru_layers": "GRU layers",
    "gru_l2": "GRU L2 penalty",
    "freeze_point": "Frozen up to",
    "augmentation.flip": "Mirrored",
    "augmentation.rotate_deg": "Turned, up to °",
    "augmentation.hu_jitter": "Shifted, up to HU",
    "augmentation.copies": "Varied copies",
}


def written(value: Any) -> str:
    """A setting as a reader writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def nested_summary(found: Found) -> dict[str, float] | None:
    """Means over the outer folds that are finished: inner (maximised), auc (of the winners there)
    and own (the study file's settings); None before all are."""
    rows = found["nested"] or []
    if not rows or any(one["auc"] is None or one["own_auc"] is None for one in rows):
        return None
    return {
        name: math.fsum(one[key] for one in rows) / len(rows)
        for name, key in (("inner", "inner_mean"), ("auc", "auc"), ("own", "own_auc"))
    }


def best_row(found: Found) -> Mapping[str, Any] | None:
    """The best configuration's row, None before one is complete."""
    return None if found["best"] is None else found["configurations"][found["best"]]
