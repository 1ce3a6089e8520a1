"""TensorFlow and JAX give the same study: the same seed and data, the same validation AUCs but for
rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import activated, draw_patients, small_study

from renal_ray.types import Dataset, FreezePoint, Head

TOLERANCE = 0.02
FOLD = 0
TRAINING = {
    "epochs": {"image": 4, "fc": 8, "gru": 8},
    "batch_size": 16,
    "embedding": 32,
    "gru_units": 8,
}
# At 0.01 training amplifies rounding: scores of one backend with another convolution then differ by
# 0.15.
LEARNING_RATE = 0.003


def validation_aucs(folder: Path) -> dict[str, float]:
    """AUCs by head and freeze point of one fold of a small study, on the backend of this process.

    Args:
        folder: work directory, not there yet.

    Returns:
        Head and freeze point -> AUC over slices for the image head, over patients for the others.
    """
    study = small_study(
        folder,
        freeze_points=["mixed9", "mixed10"],
        folds={"n": 2, "run": [FOLD]},
        training=TRAINING | {"learning_rate": LEARNING_RATE},
    )
    small = activated(study, draw_patients(80, overlap=0.4))
    plan, aucs = small.plan, {}
    for point in study.freeze_points:
        for spec in (*plan.image_specs(Dataset.ROI, point), *plan.head_specs(Dataset.ROI, point)):
            level = small.run(spec)["levels"]["slice" if spec.head is Head.IMAGE else "patient"]
            aucs[f"{spec.head}-{point}"] = level["metrics"]["auc"]
    return aucs


def aucs_on(backend: str, folder: Path) -> dict[str, float]:
    """As `validation_aucs`, in a process of its own: Keras takes its backend when it is imported,
    once."""
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, __file__, folder],
        check=True,
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("backend") == backend
    return found


def test_both_backends_give_the_same_validation_aucs(tmp_path: Path) -> None:
    tensorflow, jax = (aucs_on(backend, tmp_path / backend) for backend in ("tensorflow", "jax"))
    assert tensorflow.keys() == {
        f"{head}-{point}" for head in Head for point in (FreezePoint.MIXED9, FreezePoint.MIXED10)
    }
    assert all(0.6 < auc < 0.98 for auc in tensorflow.values()), (
        tensorflow
    )  # else they could agree for another reason
    assert jax == pytest.approx(tensorflow, abs=TOLERANCE)


if __name__ == "__main__":
    import keras

    print(json.dumps(validation_aucs(Path(sys.argv[1])) | {"backend": keras.backend.backend()}))
