"""What reading a patient costs: ours against the usual ways, from files to the three datasets'
images; and the memory that it takes.

    python benchmarks/bench_ingest.py [--patients 3] [--repeats 3] [--cohorts 50 1000] [--folder
    runs/bench_ingest]

Every way ends with the same images (three windows, three datasets, 299 px) of the same kept slices,
interleaved in one process, one thread each; CPU seconds are compared, so that the figure is one a
core. The usual ways read a whole series: SimpleITK's ImageSeriesReader; pydicom slice by slice, as
MONAI's PydicomReader does; SimpleITK and nibabel (MONAI's NibabelReader) for .nii.gz. Their masks
come through SimpleITK or nibabel too.
"""

import argparse
import gc
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import nibabel as nib
import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813 - its own manual's name
from keeping import keep
from memory import peak_of_command
from PIL import Image
from pydicom import dcmread

from renal_ray.cohort.phantom import write_phantom
from renal_ray.config import Cohort, Images, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.regions import dataset_images
from renal_ray.imaging.windows import WINDOWS

SIZE = 299
COHORT = Cohort(manifest=Path("manifest.csv"))
FRACTION = 0.25  # of the largest lesion area, from which a slice is kept


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--cohorts",
        type=int,
        nargs="*",
        default=[50, 1000],
        help="numbers of patients between which memory must not grow",
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_ingest"))
    options = parser.parse_args()
    speed = {kind: compare(kind, options) for kind in ("dicom", "nii.gz")}
    for kind, rows in speed.items():
        for way, row in rows.items():
            print(
                f"{kind}: {way}: {row['cpu_s']:.2f} CPU s a patient, {row['ratio']:.1f} x ours",
                flush=True,
            )
    memory = {"one patient of 430 slices": worker_memory(options.folder)} | {
        f"{n} patients": cohort_memory(options.folder, n) for n in options.cohorts
    }
    for what, row in memory.items():
        print(
            f"prepare, {what}: "
            + ", ".join(f"{name} {value:.0f} MiB" for name, value in row.items())
        )
    packages = ("renal-ray", "pydicom", "SimpleITK", "nibabel", "numpy", "isal", "ray")
    keep("ingest", packages, vars(options), speed=speed, memory_mib=memory)


def compare(kind: str, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """CPU seconds a patient of every way to read one kind of file, and how many times ours that
    is."""
    folder = options.folder / kind
    table = pd.read_csv(
        write_phantom(
            folder,
            patients=options.patients,
            seed=3,
            format="dicom-seg" if kind == "dicom" else "kits",
            slice_mm=0.7,
        )
    )
    files = [
        (folder / image, folder / mask)
        for image, mask in zip(table["image"], table["mask"], strict=True)
    ]
    usual = (
        {"SimpleITK": sitk_dicom, "pydicom": pydicom_dicom}
        if kind == "dicom"
        else {"SimpleITK": sitk_nifti, "nibabel": nibabel_nifti}
    )
    ways: dict[str, Callable[[Path, Path], np.ndarray]] = {"renal-ray": ours, **usual}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(
        options.repeats + 1
    ):  # the first round only fills the disk cache and builds tables
        for image, mask in files:
            kept = set()
            for way, read in ways.items():
                gc.collect()
                begun = process_time()
                made = read(image, mask)
                if repeat:
                    times[way].append(process_time() - begun)
                kept.add(len(made))
            if len(kept) != 1:
                raise SystemExit(f"the ways disagree on the kept slices: {kept}")
    seconds = {way: median(values) for way, values in times.items()}
    return {
        way: {"cpu_s": round(value, 3), "ratio": round(value / seconds["renal-ray"], 2)}
        for way, value in seconds.items()
    }


def ours(image: Path, mask: Path) -> np.ndarray:
    found = read_patient(
        image, mask, cohort=COHORT, selection=Selection(min_area_fraction=FRACTION)
    )
    return np.stack(list(dataset_images(found, images=Images(size=SIZE)).values()), axis=1)


def sitk_dicom(image: Path, mask: Path) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(image)))
    volume = reader.Execute()
    origin, step = volume.GetOrigin()[2], volume.GetSpacing()[2] * volume.GetDirection()[8]
    return _from_frames(sitk.GetArrayFromImage(volume), origin, step, mask)


def pydicom_dicom(image: Path, mask: Path) -> np.ndarray:
    slices = sorted(
        (dcmread(path) for path in image.iterdir()),
        key=lambda one: float(one.ImagePositionPatient[2]),
    )
    hu = np.stack(
        [one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices]
    )
    origin = float(slices[0].ImagePositionPatient[2])
    return _from_frames(hu, origin, float(slices[1].ImagePositionPatient[2]) - origin, mask)


def sitk_nifti(image: Path, mask: Path) -> np.ndarray:
    hu, labels = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (image, mask))
    return usual_images(hu.transpose(2, 1, 0), labels.transpose(2, 1, 0) == 2)


def nibabel_nifti(image: Path, mask: Path) -> np.ndarray:
    hu, labels = (np.asanyarray(nib.load(path).dataobj) for path in (image, mask))
    return usual_images(hu, labels == 2)


def _from_frames(hu: np.ndarray, origin: float, step: float, mask: Path) -> np.ndarray:
    """Puts a SEG's frames on the slices whose position they have."""
    seg = dcmread(mask)
    lesion = np.zeros(hu.shape, bool)
    frames = seg.pixel_array
    for frame, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        z = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        lesion[round((z - origin) / step)] |= frames[frame] > 0
    return usual_images(hu, lesion)


def usual_images(hu: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Three windows and three datasets as a competent person would write them; uint8 (kept, 3,
    size, size, 3)."""
    area = lesion.sum(axis=(1, 2))
    kept = np.flatnonzero(area >= FRACTION * area.max())
    made = []
    for k in kept:
        windows = [
            (np.clip(hu[k].astype(np.float32), low, high) - low) * (255 / (high - low))
            for low, high in WINDOWS
        ]
        rgb = np.stack([np.rint(window).astype(np.uint8) for window in windows], axis=-1)
        rows, columns = np.nonzero(lesion[k])
        box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        regions = (rgb, rgb[box] * lesion[k][box][..., None], rgb[box])
        made.append([_square(region) for region in regions])
    return np.array(made)


def _square(image: np.ndarray) -> np.ndarray:
    edge = max(image.shape[:2])
    canvas = np.zeros((edge, edge, 3), np.uint8)
    top, left = (edge - image.shape[0]) // 2, (edge - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return np.asarray(Image.fromarray(canvas).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def worker_memory(folder: Path) -> dict[str, float]:
    """Peak memory of the largest worker of prepare on a patient with about 430 slices of 512 x 512,
    MiB, from DICOM and from .nii.gz."""
    found = {}
    for kind in ("dicom-seg", "kits"):
        manifest = write_phantom(
            folder / f"long-{kind}", patients=1, seed=5, format=kind, slice_mm=0.5
        )
        found[kind] = _prepare(folder, manifest)["worker"]
    return found


def cohort_memory(folder: Path, patients: int) -> dict[str, float]:
    """Peak memory of prepare on small patients, MiB: the largest worker, and the driver."""
    from small_cohort import write_small_cohort

    return _prepare(folder, write_small_cohort(folder / f"cohort-{patients}", patients))


def _prepare(folder: Path, manifest: Path) -> dict[str, float]:
    work = folder / "work" / manifest.parent.name
    shutil.rmtree(work, ignore_errors=True)
    study = manifest.parent / "study.yaml"
    study.write_text(
        f"name: bench\nwork: {work.absolute()}\nweights: random\n"
        f"cohort: {{manifest: {manifest.absolute()}}}\n",
        encoding="utf-8",
    )
    return peak_of_command(
        [str(Path(sys.executable).with_name("renal-ray")), "prepare", str(study)]
    )


if __name__ == "__main__":
    main()
