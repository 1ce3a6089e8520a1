"""The lesion mask of a patient, whatever kind of file it is."""

from pathlib import Path
from typing import Protocol

from renal_ray.config import Cohort
from renal_ray.dicom.headers import Header, read_headers
from renal_ray.imaging.images.nifti import NiftiVolume, open_nifti
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.masks.lesion import Lesion
from renal_ray.imaging.masks.seg import DicomSeg, open_seg
from renal_ray.problems import Code, PatientError

NIFTI_ENDINGS = (".nii", ".nii.gz")


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI by its name."""
    return path.name.lower().endswith(NIFTI_ENDINGS)


class Mask(Protocol):
    """A mask whose header has been read."""

    @property
    def references(self) -> References:
        """What it says of the image it was drawn on."""
        ...

    def lesion(self, image: ImageSource) -> Lesion:
        """The lesion on the image's grid."""
        ...


class SegMask:
    """A DICOM SEG with the segments that are the lesion."""

    def __init__(self, seg: DicomSeg, segments: list[str] | None) -> None:
        self._seg, self._segments = seg, segments
        self.references = seg.references

    def lesion(self, image: ImageSource) -> Lesion:
        """The merged frames of the lesion's segments."""
        return self._seg.lesion(image, segments=self._segments)


class LabelMap:
    """A NIfTI label map with the values that are the lesion; it lies on the image where its geometry says so."""

    references = References()

    def __init__(self, volume: NiftiVolume, labels: list[int]) -> None:
        self._volume, self._labels = volume, labels

    def lesion(self, image: ImageSource) -> Lesion:
        """The voxels whose rounded value is one of the lesion's."""
        if not image.grid.matches(self._volume.grid):
            raise PatientError(
                Code.MASK_OFF_GRID,
                f"the label map's grid {self._volume.grid.shape} (slices, rows, columns) is not the image's {image.grid.shape} in size, spacing and position; "
                "use the mask that was drawn on this image",
            )
        slices, mask, present = self._volume.labelled(self._labels)
        if not len(slices):
            raise PatientError(
                Code.MASK_EMPTY, f"the label map holds the values {present} and none of cohort.lesion_labels {self._labels}; name the lesion's value there"
            )
        return Lesion(slices, mask)


def open_mask(path: Path, cohort: Cohort) -> Mask:
    """Opens a lesion mask; each kind of file has its reader here.

    Args:
        path: DICOM SEG, a folder that holds one, or a NIfTI label map.
        cohort: which values or segments are the lesion.

    Returns:
        The mask, its pixels still to be placed on an image.

    Raises:
        PatientError: MASK_UNSUPPORTED for another kind of file, SEVERAL_MASKS, or what stops the reading.
    """
    if is_nifti(path):
        return LabelMap(open_nifti(path), cohort.lesion_labels)
    header = _one_mask(read_headers(path, ["Modality"]))
    modality = header.text("Modality")
    if modality == "SEG":
        return SegMask(open_seg(header.path), cohort.lesion_segments)
    raise PatientError(Code.MASK_UNSUPPORTED, f"a mask of modality {modality or 'unknown'}; give a DICOM SEG or a NIfTI label map")


def _one_mask(headers: list[Header]) -> Header:
    """The mask among DICOM files: the only SEG, else the only file."""
    segs = [header for header in headers if header.text("Modality") == "SEG"] or headers
    if not segs:
        raise PatientError(Code.MASK_UNSUPPORTED, "the mask is neither NIfTI nor DICOM; give a DICOM SEG or a NIfTI label map")
    if len(segs) > 1:
        raise PatientError(Code.SEVERAL_MASKS, f"the folder holds {len(segs)} masks; name the file of one")
    return segs[0]
