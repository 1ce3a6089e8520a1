"""Small trees of files for the tests of scan: volume files with values of a CT or of a label map,
and what scan makes of a tree."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from renal_ray.cohort.scan.scan import Summary, scan

SHAPE = (24, 20, 6)  # columns, rows, slices
HU = np.random.default_rng(1).integers(-120, 200, SHAPE).astype(np.int16)
HU[:4] = -1000
LESION = np.zeros(SHAPE, np.uint8)
LESION[8:14, 6:12, 2:4] = 1
ORIGIN = (
    10.0,
    20.0,
    87.5,
)  # of the slices of `dicom_files.write_series`, six of them, 0.5 x 0.5 x 2.5 mm


def volume(
    path: Path,
    values: np.ndarray,
    *,
    origin: Sequence[float] = ORIGIN,
    spacing: Sequence[float] = (0.5, 0.5, 2.5),
) -> Path:
    """Writes a NIfTI file, or another by SimpleITK; columns to the left, rows to the back, slices
    to the head."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".nii.gz"):
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
        affine[:3, 3] = origin
        nib.save(nib.Nifti1Image(values, affine), path)
    else:
        import SimpleITK

        image = SimpleITK.GetImageFromArray(values.T)
        image.SetSpacing([float(one) for one in spacing])
        image.SetOrigin([-origin[0], -origin[1], origin[2]])
        SimpleITK.WriteImage(image, str(path))
    return path


@dataclass(frozen=True)
class Seen:
    """What scan wrote.

    Args:
        summary: its counts.
        pairs: patient_id -> image and mask, relative to the tree.
        problems: (patient_id, file relative to the tree, code).
        messages: of the problems.
        rows: of the manifest by patient_id.
        passed: file relative to the tree -> code.
    """

    summary: Summary
    pairs: dict[str, tuple[str, str]]
    problems: set[tuple[str, str, str]]
    messages: str
    rows: dict[str, dict[str, str]]
    passed: dict[str, str]


def seen_in(tree: Path, **options) -> Seen:
    """Scans a tree, PatientIDs kept unless told otherwise."""
    out = tree.parent / f"{tree.name}.csv"
    summary = scan([tree], out, **{"keep_ids": True, "overwrite": True, **options})
    table, problems, passed = (
        pd.read_csv(out.with_name(name), dtype=str, keep_default_na=False)
        for name in (out.name, f"{out.stem}.problems.csv", f"{out.stem}.passed-over.csv")
    )
    rows = {row["patient_id"]: row for row in table.to_dict("records")}
    assert len(rows) == len(table)
    return Seen(
        summary,
        {
            patient: (below(row["image"], tree), below(row["mask"], tree))
            for patient, row in rows.items()
        },
        {
            (row["patient_id"], below(row["file"], tree), row["code"])
            for row in problems.to_dict("records")
        },
        " ".join(problems["message"]),
        rows,
        {below(row["file"], tree): row["code"] for row in passed.to_dict("records")},
    )


def below(file: str, tree: Path) -> str:
    """A file as a manifest beside the tree names it, relative to the tree."""
    return str(Path(file).relative_to(tree.name)) if file else ""
