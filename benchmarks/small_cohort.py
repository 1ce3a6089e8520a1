"""Small patients by the thousand, for measuring how cost grows with their number."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

SHAPE = 24, 96, 96  # slices, rows, columns
AFFINE = np.array([[0, 0, -3.0, 0], [0, -3.0, 0, 0], [-5.0, 0, 0, 0], [0, 0, 0, 1]])


def write_small_cohort(folder: Path, patients: int) -> Path:
    """Writes NIfTI patients in the KiTS orientation: a round body of noise with a ball in it.

    Args:
        folder: made when absent; a cohort that is there already is kept.
        patients: how many.

    Returns:
        Path of manifest.csv.
    """
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = (y - 48) ** 2 + (x - 48) ** 2 < 40**2
    rows = []
    for number in range(patients):
        rng = np.random.default_rng(number)
        ball = ((z - 12) * 5) ** 2 + ((y - 52) * 3) ** 2 + ((x - 30) * 3) ** 2 < rng.uniform(
            12, 40
        ) ** 2
        hu = np.where(body, 40 + 60 * ball, -1000) + rng.normal(0, 12, SHAPE) * body
        for name, volume in (
            ("image", hu.astype(np.int16)),
            ("mask", np.where(ball & body, 2, 0).astype(np.uint8)),
        ):
            nib.save(nib.Nifti1Image(volume, AFFINE), folder / f"{number:05d}-{name}.nii.gz")
        rows.append(
            {
                "patient_id": f"P{number:05d}",
                "label": number % 2,
                "image": f"{number:05d}-image.nii.gz",
                "mask": f"{number:05d}-mask.nii.gz",
            }
        )
    pd.DataFrame(rows).to_csv(manifest, index=False)
    return manifest
