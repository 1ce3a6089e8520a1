"""A phantom patient in the KiTS23 layout: NIfTI volumes whose slices run along the first axis, and
an entry of kits23.json."""

from pathlib import Path
from typing import Any

import numpy as np

from renal_ray.cohort.kits import AGE, label_in, number_in
from renal_ray.cohort.phantom.patient import Scan
from renal_ray.cohort.phantom.plan import PatientPlan

_T_STAGES = {"II": "2a", "III": "3"}
_GRADES = {"I": "1", "II": "2", "III": "3", "IV": "4"}


def write_nifti(folder: Path, scan: Scan) -> None:
    """Writes folder/imaging.nii.gz (int16 HU) and folder/segmentation.nii.gz (uint8 labels),
    orientation (I, P, L) as the real download.

    Args:
        folder: the case's folder; made anew.
        scan: the volume, whose axes already run down, back and left.
    """
    import nibabel as nib

    folder.mkdir(parents=True)
    dz, dy, dx = scan.grid.spacing
    affine = np.array(
        [[0, 0, -dx, 0], [0, -dy, 0, 0], [-dz, 0, 0, 0], [0, 0, 0, 1]], float
    )  # NIfTI points to right, front and head
    affine[:3, 3] = -scan.grid.x[0], -scan.grid.y[0], scan.grid.z[0]
    nib.save(nib.Nifti1Image(scan.hu, affine), folder / "imaging.nii.gz")
    nib.save(nib.Nifti1Image(scan.labels, affine), folder / "segmentation.nii.gz")


def entry(case_id: str, plan: PatientPlan, max_diameter_mm: float) -> dict[str, Any]:
    """The case's entry of kits23.json, with the real file's keys and words as far as a phantom has
    them; sizes in cm."""
    size_cm = round(max_diameter_mm / 10, 1)
    small = "1a" if size_cm <= 4 else "1b"
    return {
        "case_id": case_id,
        "gender": plan.sex,
        "age_at_nephrectomy": plan.age,
        "radiographic_size": size_cm,
        "pathologic_size": size_cm,
        "malignant": bool(plan.label),
        "pathology_t_stage": _T_STAGES.get(plan.stage or "", small) if plan.label else "na",
        "pathology_n_stage": "0" if plan.label else "na",
        "pathology_m_stage": "0" if plan.label else "na",
        "tumor_histologic_subtype": plan.kind,
        "tumor_isup_grade": _GRADES.get(plan.grade or "", "na"),
    }


def row_of_entry(case_id: str, pathology: dict[str, Any], max_diameter_mm: float) -> dict[str, Any]:
    """The manifest's row of a real case; label empty where its pathology is unknown.

    Args:
        case_id: name of the case and of its folder.
        pathology: its entry of the pathology file, which may hold its case_id alone.
        max_diameter_mm: largest in-plane diameter of the tumour in the segmentation, mm.
    """
    label, grade = label_in(pathology), str(pathology.get("tumor_isup_grade"))
    stage = str(pathology.get("pathology_t_stage"))[:1]
    return {
        "patient_id": case_id,
        "label": label,
        "image": f"{case_id}/imaging.nii.gz",
        "mask": f"{case_id}/segmentation.nii.gz",
        "sex": pathology.get("gender"),
        "age": number_in(pathology, AGE),
        "histology": pathology.get("tumor_histologic_subtype"),
        "max_diameter_mm": round(max_diameter_mm, 1),
        "stage": {"1": "I", "2": "II", "3": "III", "4": "IV"}.get(stage) if label else None,
        "grade": {number: name for name, number in _GRADES.items()}.get(grade),
        "phase": "corticomedullary",
    }
