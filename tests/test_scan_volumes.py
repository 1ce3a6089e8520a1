"""scan on volume files: layouts of others, label maps that are no images, masks that belong to
nobody."""

from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from scanning import HU, LESION, Seen, seen_in, volume
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.cohort.phantom import write_phantom
from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import StudyError

SERIES = np.ascontiguousarray(
    HU.T[::-1]
)  # slice 0 the most superior one, as `write_series` takes it


def tree_of(tmp_path: Path, images: str, masks: str, names: tuple[str, ...] = ("01", "02")) -> Seen:
    """Two patients whose files are called as a layout has it; values, grids and sizes are the same,
    so that the names alone tell them apart."""
    for number, name in enumerate(names):
        volume(tmp_path / "tree" / images.format(name), HU + number)
        volume(tmp_path / "tree" / masks.format(name), LESION)
    return seen_in(tmp_path / "tree")


@pytest.mark.parametrize(
    ("images", "masks", "name"),
    [
        ("imagesTr/kid_{0}_0000.nii.gz", "labelsTr/kid_{0}.nii.gz", "kid_{0}"),
        ("Dataset1/imagesTr/liver_{0}.nii.gz", "Dataset1/labelsTr/liver_{0}.nii.gz", "liver_{0}"),
        ("images/case{0}.nii.gz", "labels/case{0}.nii.gz", "case{0}"),
        ("images/case{0}.nii.gz", "masks/case{0}_mask.nii.gz", "case{0}"),
        ("case{0}/imaging.nii.gz", "case{0}/segmentation.nii.gz", "case{0}"),
        ("case{0}/imaging.nii.gz", "case{0}/aggregated_MAJ_seg.nii.gz", "case{0}"),
        ("case{0}/images/ct.nii.gz", "case{0}/masks/tumour.nii.gz", "case{0}"),
        ("case{0}/ct.nii.gz", "case{0}/masks/tumour.nii.gz", "case{0}"),
        ("tumor/p{0}_ct.nii.gz", "tumor/p{0}_seg.nii.gz", "p{0}"),
        ("tumor/p{0}.nii.gz", "tumor/p{0}_seg.nii.gz", "p{0}"),
        ("segmentation study/p{0}.nii.gz", "segmentation study/p{0} mask.nii.gz", "p{0}"),
        ("sub-{0}/ct/sub-{0}_ct.nii.gz", "sub-{0}/ct/sub-{0}_label-tumor_dseg.nii.gz", "sub_{0}"),
        (
            "sub-{0}/ct/sub-{0}_ct.nii.gz",
            "derivatives/drawn/sub-{0}/ct/sub-{0}_dseg.nii.gz",
            "sub_{0}",
        ),
        ("scans/P{0}.nrrd", "TumorMasks/P{0}.seg.nrrd", "P{0}"),
        ("a/P{0}/CT_image.mha", "b/P{0}/TumorMask.mha", "P{0}"),
    ],
)
def test_layouts_of_others_are_paired(tmp_path, images, masks, name):
    seen = tree_of(tmp_path, images, masks)
    assert seen.pairs == {
        name.format(number): (images.format(number), masks.format(number))
        for number in ("01", "02")
    }
    assert not seen.problems
    assert seen.summary.complete == 2


def test_of_the_annotators_of_kits21_the_majority_is_taken_and_the_others_are_told(tmp_path):
    case = tmp_path / "tree/case_00000"
    volume(case / "imaging.nii.gz", HU)
    others = [
        "aggregated_AND_seg",
        "aggregated_OR_seg",
        "segmentations/kidney_instance-1_annotation-1",
        "segmentations/tumor_instance-1_annotation-2",
    ]
    for name in ("aggregated_MAJ_seg", *others):
        volume(case / f"{name}.nii.gz", LESION)
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {
        "case_00000": ("case_00000/imaging.nii.gz", "case_00000/aggregated_MAJ_seg.nii.gz")
    }
    assert seen.problems == {
        ("case_00000", f"case_00000/{name}.nii.gz", "mask-unpaired") for name in others
    }


def test_the_mask_of_the_lesion_is_taken_beside_those_of_organs(tmp_path):
    volume(tmp_path / "tree/p1/ct.nii.gz", HU)
    for name in ("tumor", "liver", "kidney_left", "kidney_right"):
        volume(tmp_path / f"tree/p1/masks/{name}.nii.gz", LESION)
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"p1": ("p1/ct.nii.gz", "p1/masks/tumor.nii.gz")}
    assert seen.summary.unpaired == 3


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz", ".mha"])
def test_organ_masks_beside_a_ct_are_neither_patients_nor_its_lesion(tmp_path, ending):
    write_series(tmp_path / "tree/P1/ct", SERIES, patient_id="P1")
    organs = [
        "liver",
        "Heart",
        "lung_upper_lobe_left",
        "spleen",
        "vertebrae_L1",
        "costal_cartilages",
    ]
    for label, organ in enumerate(organs, 1):
        volume(tmp_path / f"tree/P1/structures/{organ}{ending}", LESION * label)
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": ("P1/ct", "")}
    told = {file for _, file, code in seen.problems if code in ("mask-unpaired", "not-ct")}
    assert told == {f"P1/structures/{organ}{ending}" for organ in organs}


@pytest.mark.parametrize(
    "values",
    [
        LESION * 255,
        np.arange(LESION.size, dtype=np.int16).reshape(LESION.shape) % 564,
        (HU - HU.min()) / np.ptp(HU),
        np.zeros(LESION.shape, np.int16),
    ],
    ids=["0/255", "0 to 563", "0 to 1", "0"],
)
def test_what_has_no_hu_is_no_image_whatever_it_is_called(tmp_path, values):
    volume(tmp_path / "tree/p1/ct.nii.gz", values)
    with pytest.raises(StudyError, match="not-ct: 1"):
        seen_in(tmp_path / "tree")
    volume(tmp_path / "tree/p2/ct.nii.gz", HU)
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"p2": ("p2/ct.nii.gz", "")}
    assert ("", "p1/ct.nii.gz", "not-ct") in seen.problems


def test_an_image_that_is_called_a_tumour_is_one(tmp_path):
    seen = tree_of(tmp_path, "lesion_{0}.nii.gz", "lesion_{0}_mask.nii.gz")
    assert seen.pairs == {
        f"lesion_{n}": (f"lesion_{n}.nii.gz", f"lesion_{n}_mask.nii.gz") for n in ("01", "02")
    }


def test_a_broken_volume_is_named(tmp_path):
    volume(tmp_path / "tree/p1/ct.nii.gz", HU)
    volume(tmp_path / "tree/p1/mask.nii.gz", LESION)
    (tmp_path / "tree/p2").mkdir()
    (tmp_path / "tree/p2/ct.nii.gz").write_bytes(b"nothing of the kind")
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"p1": ("p1/ct.nii.gz", "p1/mask.nii.gz")}
    assert seen.problems == {("", "p2/ct.nii.gz", "file-unreadable")}


@pytest.mark.parametrize(
    "mask",
    [
        "prostate/mask.nii.gz",
        "x/y/prostate/mask.nii.gz",
        "prostate_mask.nii.gz",
        "masks/other/seg.nrrd",
    ],
)
@pytest.mark.parametrize("where", ["size", "place"])
def test_a_mask_of_another_image_is_given_to_nobody(tmp_path, mask, where):
    """Whatever lies nearest in the tree: here a single patient."""
    write_series(tmp_path / "tree/head/ct", SERIES, patient_id="HEAD")
    if where == "size":
        volume(tmp_path / "tree" / mask, LESION[:, :, :5])
    else:
        volume(tmp_path / "tree" / mask, LESION, origin=(10.0, 20.0, -700.0))
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"HEAD": ("head/ct", "")}
    assert seen.problems == {("", mask, "mask-unpaired"), ("HEAD", "", "series-without-mask")}
    assert seen.summary.unpaired == 1


def test_a_mask_of_the_patients_name_and_another_size_is_told(tmp_path):
    write_series(tmp_path / "tree/P1/ct", SERIES, patient_id="P1")
    volume(tmp_path / "tree/masks/P1_mask.nii.gz", LESION[:, :, :5])
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": ("P1/ct", "")}
    assert "but the mask is of another size" in seen.messages


@pytest.mark.parametrize(
    "mask",
    [
        "P1/mask.nii.gz",
        "P1/study/mask.nii.gz",
        "P1/study/masks/tumor.nii.gz",
        "P1/study/ct/mask.nrrd",
        "masks/P1.nii.gz",
        "masks/P1/seg.mha",
    ],
)
def test_a_mask_goes_to_the_series_of_its_own_folder_or_name(tmp_path, mask):
    for patient in ("P1", "P2", "P11"):
        write_series(tmp_path / f"tree/{patient}/study/ct", SERIES, patient_id=patient)
    volume(tmp_path / "tree" / mask, LESION)
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {
        "P1": ("P1/study/ct", mask),
        "P2": ("P2/study/ct", ""),
        "P11": ("P11/study/ct", ""),
    }
    row = seen.rows["P1"]
    options = {
        "cohort": Cohort(manifest="x", lesion_labels=[1]),
        "selection": Selection(),
        "series": row["series"],
    }
    got = read_patient(tmp_path / row["image"], tmp_path / row["mask"], **options)
    assert np.array_equal(got.mask, LESION.T[::-1][got.slice_index] == 1)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("P1/ct.nii.gz", "P2/mask.nii.gz"),
        ("images/case_1.nii.gz", "labels/case_2.nii.gz"),
        ("images/case_1_arterial.nii.gz", "labels/case_2.nii.gz"),
        ("case_1.nii.gz", "case_2_mask.nii.gz"),
        ("img/001.nii.gz", "msk/002.nii.gz"),
        ("images/image_1.nii.gz", "labels/label_2.nii.gz"),
        ("P1/ct", "P2/mask.nii.gz"),
        ("ct/P1", "seg/P2.nii.gz"),
        ("head/P1", "prostate/P7_mask.nii.gz"),
        ("P1/ct", "P1/P2_mask.nii.gz"),
        ("ct/P1", "masks/anna_tumor.nii.gz"),
        ("images/P1.nrrd", "masks/anna/seg.nrrd"),
    ],
)
def test_a_mask_that_is_called_as_another_patient_is_given_to_nobody(tmp_path, image, mask):
    """Although its grid is that of the only image."""
    if "." in image:
        volume(tmp_path / "tree" / image, HU)
    else:
        write_series(tmp_path / "tree" / image, SERIES, patient_id="P1")
    volume(tmp_path / "tree" / mask, LESION)
    (tmp_path / "labels.csv").write_text("patient_id,label\nP1,0\nanna,1\n", encoding="utf-8")
    seen = seen_in(tmp_path / "tree", labels=tmp_path / "labels.csv")
    assert list(seen.pairs.values()) == [(image, "")]
    assert ("", mask, "mask-unpaired") in seen.problems
    assert "the mask's name or folder is that of another" in seen.messages


@pytest.mark.parametrize(
    "mask",
    [
        "mask_2.nii.gz",
        "masks/tumor 2.nii.gz",
        "P01_mask.nii.gz",
        "../masks/tumor_v2.nii.gz",
        "masks/kidney_tumor_L1.nii.gz",
    ],
)
def test_a_number_in_a_masks_name_need_not_be_a_patient(tmp_path, mask):
    write_series(tmp_path / "tree/P1/ct", SERIES, patient_id="P1")
    path = volume((tmp_path / "tree/P1" / mask), LESION).resolve()
    assert seen_in(tmp_path / "tree").pairs == {
        "P1": ("P1/ct", str(path.relative_to(tmp_path / "tree")))
    }


def test_leading_zeros_tell_nobody_apart(tmp_path):
    for number in (1, 2):
        volume(tmp_path / f"tree/img/00{number}.nii.gz", HU)
        volume(tmp_path / f"tree/msk/{number}.nii.gz", LESION)
    assert seen_in(tmp_path / "tree").pairs == {
        f"00{n}": (f"img/00{n}.nii.gz", f"msk/{n}.nii.gz") for n in (1, 2)
    }


def test_nearness_alone_pairs_no_mask_whose_grid_cannot_be_compared(tmp_path):
    write_series(tmp_path / "tree/export/ct", SERIES, patient_id="P1")
    (tmp_path / "tree/export/mask.nii.gz").write_bytes(b"nothing of the kind")
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": ("export/ct", "")}
    assert ("", "export/mask.nii.gz", "mask-unpaired") in seen.problems


@pytest.mark.parametrize("mask", ["B/mask.nii.gz", "B/masks/mask.nii.gz"])
def test_of_two_series_of_one_grid_that_is_taken_in_whose_folder_the_mask_lies(tmp_path, mask):
    write_series(tmp_path / "tree/P1/A", SERIES, series="1.2.5")
    write_series(tmp_path / "tree/P1/B", SERIES, series="1.2.6")
    volume(tmp_path / "tree/P1" / mask, LESION)
    assert seen_in(tmp_path / "tree").pairs == {"P1": ("P1/B", f"P1/{mask}")}
    (tmp_path / "tree/P1" / mask).rename(tmp_path / "tree/P1/mask.nii.gz")
    assert seen_in(tmp_path / "tree").pairs == {"P1": ("", "")}


def test_where_no_mask_is_proposed_none_is_said_to_be(tmp_path):
    volume(tmp_path / "tree/s1/ct.nii.gz", HU)
    for name in ("kidney_left", "kidney_right", "aorta"):
        volume(tmp_path / f"tree/s1/segmentations/{name}.nii.gz", LESION)
    seen = seen_in(tmp_path / "tree")
    assert ("s1", "s1/segmentations/aorta.nii.gz", "mask-unpaired") in seen.problems
    assert "2 other masks of this image go before it, and none of them is proposed" in seen.messages


def test_masks_of_many_patients_in_one_folder_are_given_by_their_names(tmp_path):
    for patient in ("KiTS-00001", "KiTS-00002", "ÄB 7"):
        write_series(
            tmp_path / f"tree/ct/{len(patient)}{patient[-1]}",
            SERIES,
            patient_id=patient if patient.isascii() else "Z7",
        )
    for name in ("kits_00001_tumor", "seg KiTS-00002", "Z7", "nobody_mask"):
        volume(tmp_path / f"tree/masks/{name}.nii.gz", LESION)
    seen = seen_in(tmp_path / "tree")
    masks = {patient: mask for patient, (_, mask) in seen.pairs.items()}
    assert masks == {
        "KiTS-00001": "masks/kits_00001_tumor.nii.gz",
        "KiTS-00002": "masks/seg KiTS-00002.nii.gz",
        "Z7": "masks/Z7.nii.gz",
    }
    assert ("", "masks/nobody_mask.nii.gz", "mask-unpaired") in seen.problems


def test_of_two_series_that_is_taken_on_whose_grid_the_mask_lies(tmp_path):
    write_series(tmp_path / "tree/thick", SERIES[::2], series="1.2.5", step=5.0)
    write_series(tmp_path / "tree/thin", SERIES, series="1.2.6")
    volume(tmp_path / "tree/mask.nii.gz", LESION)
    assert seen_in(tmp_path / "tree").pairs == {"P1": ("thin", "mask.nii.gz")}


@pytest.mark.parametrize("image", ["nifti", "nrrd"])
@pytest.mark.parametrize("mask", ["seg", "rtstruct", "nifti"])
def test_phantoms_of_volume_files_are_found_as_they_were_written(tmp_path, image, mask):
    write_phantom(
        tmp_path / "tree",
        patients=2,
        seed=3,
        matrix=64,
        slice_mm=10.0,
        image=image,
        mask=mask,
        workers=1,
    )
    seen = seen_in(tmp_path / "tree")
    endings = {"nifti": ".nii.gz", "nrrd": ".nrrd"}
    wanted = {"nifti": "mask.nii.gz", "seg": "seg.dcm", "rtstruct": "rtstruct.dcm"}[mask]
    names = ("phantom-0001", "phantom-0002")
    assert seen.pairs == {
        name: (f"{name}/ct{endings[image]}", f"{name}/{wanted}") for name in names
    }
    assert not seen.problems


def test_the_console_counts_what_has_no_row(tmp_path):
    volume(tmp_path / "tree/p1/ct.nii.gz", HU)
    volume(tmp_path / "tree/p1/mask.nii.gz", LESION)
    volume(tmp_path / "tree/elsewhere/mask.nii.gz", LESION[:5])
    (tmp_path / "labels.csv").write_text("patient_id,label\np1,0\np9,1\n", encoding="utf-8")
    result = CliRunner().invoke(
        app,
        [
            "scan",
            str(tmp_path / "tree"),
            "-o",
            str(tmp_path / "m.csv"),
            "--labels",
            str(tmp_path / "labels.csv"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "1 patients, 1 of them with image and mask" in result.output
    assert "1 masks without a row" in result.output
    assert "1 patients of" in result.output
