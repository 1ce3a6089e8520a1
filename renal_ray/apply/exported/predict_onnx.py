"""Runs the exported fold models; needs nothing but numpy and onnxruntime. For research only. Not
for clinical use.

python predict_onnx.py              checks the models against the stored example
python predict_onnx.py IMAGES.npy   scores one patient: uint8 RGB (slices, size, size, 3), the
lesion's slices from head to foot,
                                    made as preprocessing.json says; see `three_windows`
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
EDGES = ((-110.0, 190.0), (20.0, 120.0), (-40.0, 60.0))  # HU of the red, green and blue channel


def three_windows(hu: np.ndarray) -> np.ndarray:
    """HU (...) to 8-bit RGB (..., 3): each channel clipped to its window and scaled linearly to
    0..255."""
    channels = [
        (np.clip(hu.astype(np.float64), low, high) - low) / (high - low) * 255
        for low, high in EDGES
    ]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def run(name: str, **inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs of one of the models, in the order in which its file has them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(HERE / "onnx" / name), providers=["CPUExecutionProvider"]
    )
    return [np.asarray(one) for one in session.run(None, inputs)]


def calibrated(raw: float, calibrator: dict[str, Any]) -> float:
    """A model's output as the probability that its threshold is held against, to the precision of
    float32."""
    value = float(np.float32(raw))
    if calibrator["kind"] == "isotonic":
        value = float(np.interp(value, calibrator["scores"], calibrator["probabilities"]))
    elif calibrator["kind"] != "none":
        inside = min(max(value, float(np.finfo(np.float32).tiny)), 1 - 2.0**-53)
        value = float(
            1
            / (
                1
                + np.exp(
                    -calibrator["slope"] * np.log(inside / (1 - inside)) - calibrator["intercept"]
                )
            )
        )
    return float(np.float32(value))


def score(images: np.ndarray) -> dict[str, Any]:
    """What the fold models say of one patient.

    Args:
        images: uint8 (slices, size, size, 3).

    Returns:
        By head: each fold model's calibrated score, its decision at its own threshold, and the
        majority.
    """
    config = json.loads((HERE / "config.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for fold in config["folds"]:
        probabilities, embedding = run(fold["image"]["onnx"], images=images)
        scores = {"image": float(probabilities[:, 1].mean(dtype=np.float64))}
        if "fc" in fold:
            scores["fc"] = float(
                run(fold["fc"]["onnx"], strongest=embedding.max(axis=0, keepdims=True))[0][0, 1]
            )
        if "gru" in fold:
            lengths = np.array([len(embedding)], np.int32)
            scores["gru"] = float(
                run(fold["gru"]["onnx"], sequence=embedding[None], lengths=lengths)[0][0, 1]
            )
        for head, raw in scores.items():
            threshold, value = (
                fold[head]["threshold"]["patient"],
                calibrated(raw, fold[head]["calibrator"]["patient"]),
            )
            told = {
                "fold": fold["fold"],
                "score": value,
                "threshold": threshold,
                "malignant": value >= threshold,
            }
            found.setdefault(head, {"by_fold": []})["by_fold"].append(told)
    for said in found.values():
        votes = [one["malignant"] for one in said["by_fold"]]
        said["score"] = float(np.mean([one["score"] for one in said["by_fold"]]))
        said["votes_malignant"], said["n_models"] = sum(votes), len(votes)
        tie = 2 * sum(votes) == len(votes) and said["score"] >= 0.5
        said["decision"] = "malignant" if 2 * sum(votes) > len(votes) or tie else "benign"
    return found


def example(size: int) -> np.ndarray:
    """Three images of waves, uint8 (3, size, size, 3): nobody's, and the same everywhere."""
    row, column = np.mgrid[:size, :size].astype(np.float64)
    phases = np.arange(9).reshape(3, 1, 1, 3)
    waves = np.sin(row[None, :, :, None] / (5 + 2 * phases)) + np.cos(
        column[None, :, :, None] / (4 + phases)
    )
    return np.asarray(np.clip(np.floor(127.5 + 60 * waves), 0, 255), np.uint8)


def check() -> tuple[float, float]:
    """The largest difference between the scores of the example here and where the models were
    exported, and what it may be."""
    expected = json.loads((HERE / "example.json").read_text(encoding="utf-8"))
    found = score(example(expected["size"]))
    pairs = [
        (found[head]["by_fold"][k]["score"], value)
        for head, values in expected["scores"].items()
        for k, value in enumerate(values)
    ]
    return max(abs(one - other) for one, other in pairs), expected["tolerance"]


def main() -> int:
    """Checks the models, or scores a patient."""
    if len(sys.argv) > 2:
        print(__doc__)
        return 2
    if len(sys.argv) == 2:
        print(
            json.dumps(
                {"not_for_clinical_use": "For research only.", **score(np.load(sys.argv[1]))},
                indent=1,
            )
        )
        return 0
    difference, tolerance = check()
    print(
        f"largest difference from the stored scores: {difference:.2e} "
        f"({'as' if difference <= tolerance else 'NOT as'} expected: at most {tolerance:g})"
    )
    return 0 if difference <= tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
