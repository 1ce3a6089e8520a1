"""What is done to an image before the models see it, for those who do it in another program."""

from typing import Any

from renal_ray.config import Study
from renal_ray.imaging.windows import WINDOWS
from renal_ray.types import Dataset

SEEN = {
    Dataset.SLICE: "the whole axial slice",
    Dataset.ROI: "pixels outside the lesion mask black (0, 0, 0)",
    Dataset.RBR: "the bounding rectangle of the lesion in the slice, nothing masked",
}

SEVERAL = {
    "largest": (
        "parts of the mask (26 neighbours) more than 10 mm apart are lesions of "
        "their own: the mask is the one of the largest volume alone"
    ),
    "all": "the mask is all of it, whether it hangs together or not",
}


def preprocessing(study: Study, dataset: Dataset) -> dict[str, Any]:
    """The content of preprocessing.json.

    Args:
        study: whose settings.
        dataset: the models'.
    """
    cropped = dataset is not Dataset.SLICE and study.images.crop
    return {
        "input": (
            "axial CT in HU with a lesion mask; slices from head to foot, rows from "
            "front to back, columns from the patient's right to left"
        ),
        "selection": {
            "min_area_fraction": study.selection.min_area_fraction,
            "max_slices": study.selection.max_slices,
            "meaning": (
                "slices whose lesion area is at least this share of the "
                "patient's largest; beyond max_slices the largest"
            ),
            "lesions": study.selection.lesions,
            "several_lesions": SEVERAL[study.selection.lesions],
        },
        "windows_hu": {channel: list(edges) for channel, edges in zip("RGB", WINDOWS, strict=True)},
        "scaling": (
            "each channel: clip to its window, scale linearly to 0..255, round half to even, 8 bits"
        ),
        "dataset": dataset,
        "region": SEEN[dataset]
        + (
            ", cropped to the lesion's box"
            if cropped
            else ""
            if dataset is Dataset.SLICE
            else ", full frame, black outside the box"
        ),
        "square": (
            "padded with black to a square in millimetres, centred, an odd line "
            "at the bottom or the right; never stretched"
        ),
        "resize": {
            "size": study.images.size,
            "filter": "bilinear with antialiasing, Pillow's Image.Resampling.BILINEAR on 8-bit RGB",
        },
        "network": "the ONNX models scale pixels themselves: x / 127.5 - 1",
        "tilt": study.cohort.tilt,
        "oblique": study.cohort.oblique,
    }
