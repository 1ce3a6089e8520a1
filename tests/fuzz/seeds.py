"""What is spoilt: one small patient in each kind of file, written anew for every run."""

import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from dicom_files import ct_slice, save, write_rtstruct, write_seg, write_series
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

VOLUME = np.random.default_rng(0).integers(-1000, 400, (4, 40, 44)).astype(np.int16)
LESION = np.zeros((40, 44), np.uint8)
LESION[4:11, 5:13] = 1
AFFINE = np.array([[0, 0, -0.5, 10], [0, -0.5, 0, 20], [-2.5, 0, 0, 100], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Seed:
    """A patient's files.

    Args:
        folder: holds them.
        image, mask: what a manifest would name.
    """

    folder: Path
    image: Path
    mask: Path

    def spoilt(self, target: Path, number: int, change) -> tuple[Path, Path]:
        """Copies the patient with one file changed.

        Args:
            target: folder; replaced.
            number: chooses the file.
            change: from its bytes to others.

        Returns:
            Image and mask of the copy.
        """
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.folder, target)
        files = sorted(path for path in target.rglob("*") if path.is_file())
        chosen = (
            files[number % len(files)]
            if number % 2
            else target / self.mask.relative_to(self.folder)
        )
        chosen = (
            chosen
            if chosen.is_file()
            else next(path for path in chosen.rglob("*") if path.is_file())
        )
        chosen.write_bytes(change(chosen.read_bytes()))
        return target / self.image.relative_to(self.folder), target / self.mask.relative_to(
            self.folder
        )


def write_seeds(folder: Path) -> list[Seed]:
    """Writes every seed below a folder."""
    seeds = []
    for name, syntax in (
        ("explicit", None),
        ("implicit", ImplicitVRLittleEndian),
        ("deflated", DeflatedExplicitVRLittleEndian),
        ("rle", RLELossless),
        ("j2k", JPEG2000Lossless),
        ("jpegls", JPEGLSLossless),
    ):
        here = folder / name
        slices = write_series(here / "ct", VOLUME)
        write_seg(here / "seg.dcm", [(1, slices[k], LESION) for k in (1, 2)])
        for path in (here / "ct").iterdir():
            _transcode(path, syntax)
        seeds.append(Seed(here, here / "ct", here / "seg.dcm"))
    seeds += [
        _fractional(folder / "fractional"),
        _rtstruct(folder / "rtstruct"),
        _series(folder / "series"),
        _raised(folder / "raised"),
    ]
    seeds += [
        _nifti(folder / "nifti", ".nii"),
        _nifti(folder / "gz", ".nii.gz"),
        _itk(folder / "nrrd", ".nrrd"),
        _itk(folder / "mha", ".mha"),
    ]
    return seeds


def _transcode(path: Path, syntax: str | None) -> None:
    if syntax is None:
        return
    item = dcmread(path)
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        item.compress(syntax, generate_instance_uid=False)
    else:
        item.file_meta.TransferSyntaxUID = syntax
    item.save_as(
        path,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=True,
        enforce_file_format=True,
    )


def _fractional(folder: Path) -> Seed:
    slices = write_series(folder / "ct", VOLUME)
    write_seg(folder / "seg.dcm", [(1, slices[k], LESION * 200) for k in (1, 2)], kind="FRACTIONAL")
    return Seed(folder, folder / "ct", folder / "seg.dcm")


def _rtstruct(folder: Path) -> Seed:
    slices = write_series(folder / "ct", VOLUME)
    corners = [(-8, -18), (-4, -18), (-4, -14), (-8, -14)]
    contours = [("T", np.array([(x, y, 100 - 2.5 * k) for x, y in corners])) for k in (1, 2)]
    write_rtstruct(folder / "rt.dcm", contours, series=str(slices[0].SeriesInstanceUID))
    return Seed(folder, folder / "ct", folder / "rt.dcm")


def _series(folder: Path) -> Seed:
    write_series(folder / "ct", VOLUME)
    for k in (1, 2):
        item = ct_slice(
            folder / f"mask/{k}.dcm",
            LESION.astype(np.uint16) * 255,
            (-10, -20, 100 - 2.5 * k),
            series="1.2.9",
        )
        item.Modality = "OT"
        del item.RescaleSlope, item.RescaleIntercept
        save(item)
    return Seed(folder, folder / "ct", folder / "mask")


def _labels() -> np.ndarray:
    labels = np.zeros(VOLUME.shape, np.uint8)
    labels[1:3] = LESION * 2
    return labels


def _raised(folder: Path) -> Seed:
    """Pixels above the lowest bits, and all that tells acquisitions apart."""
    slices = write_series(folder / "ct", VOLUME)
    write_seg(folder / "seg.dcm", [(1, slices[k], LESION) for k in (1, 2)])
    for k, item in enumerate(slices):
        item.BitsStored, item.HighBit, item.PixelRepresentation = 12, 15, 0
        item.PixelData = (np.frombuffer(item.PixelData, "<u2") << 4).tobytes()
        item.AcquisitionNumber, item.AcquisitionTime, item.KVP, item.ConvolutionKernel = (
            k + 1,
            f"12000{k}.5",
            "120",
            ["Br38f", "3"],
        )
        (
            item.ContrastBolusAgent,
            item.ContrastBolusStartTime,
            item.TemporalPositionIdentifier,
            item.StackID,
        ) = "agent", "115900", 1, "1"
        item.LossyImageCompression, item.LossyImageCompressionRatio, item.RescaleType = (
            "01",
            ["8", "2"],
            "hu",
        )
        save(item)
    return Seed(folder, folder / "ct", folder / "seg.dcm")


def _nifti(folder: Path, ending: str) -> Seed:
    folder.mkdir(parents=True)
    for name, values in (("ct", VOLUME), ("mask", _labels())):
        nib.save(nib.Nifti1Image(values, AFFINE), folder / f"{name}.nii")
        if ending == ".nii.gz":
            (folder / f"{name}.nii.gz").write_bytes(
                gzip.compress((folder / f"{name}.nii").read_bytes(), 1)
            )
            (folder / f"{name}.nii").unlink()
    return Seed(folder, folder / f"ct{ending}", folder / f"mask{ending}")


def _itk(folder: Path, ending: str) -> Seed:
    import SimpleITK

    folder.mkdir(parents=True)
    for name, values in (("ct", VOLUME), ("mask", _labels())):
        image = SimpleITK.GetImageFromArray(values)
        image.SetSpacing((0.5, 0.5, 2.5))
        SimpleITK.WriteImage(image, str(folder / f"{name}{ending}"), useCompression=True)
    return Seed(folder, folder / f"ct{ending}", folder / f"mask{ending}")
