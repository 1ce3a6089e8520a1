"""What is suspected of an image or a lesion - and what is not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from renal_ray.cohort.phantom import write_phantom
from renal_ray.config import Cohort, Selection
from renal_ray.imaging.checks import lesion_findings, without_nan
from renal_ray.imaging.images.open import open_image
from renal_ray.imaging.images.source import References
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.survey import fingerprint, survey_findings, survey_slices
from renal_ray.problems import Code, PatientError

COHORT = Cohort(manifest="unused.csv")


@pytest.fixture(scope="module")
def phantoms(phantom_manifest):
    """Surveyed slices and spacing of phantom patients."""
    table = pd.read_csv(phantom_manifest)
    sources = [
        open_image(phantom_manifest.parent / name, References(), COHORT) for name in table["image"]
    ]
    return [
        (source.read(survey_slices(source.grid.shape[0])), source.grid.spacing)
        for source in sources
    ]


def codes(hu, spacing) -> set[Code]:
    return {finding.code for finding in survey_findings(hu, spacing)}


def test_nothing_is_suspected_of_phantoms(phantoms):
    assert [codes(*one) for one in phantoms] == [set()] * len(phantoms)


def test_a_missing_intercept_is_seen(phantoms):
    for hu, spacing in phantoms:
        assert codes(np.maximum(hu, -1024) + 1024, spacing) == {Code.INTERCEPT_SUSPECTED}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda hu: hu * 4.0,
        lambda hu: hu * 0.7,
        lambda hu: hu + 600,
        lambda hu: np.zeros_like(hu) - 1000,
    ],
)
def test_wrong_values_are_seen(phantoms, wrong):
    for hu, spacing in phantoms:
        assert codes(wrong(hu.astype(np.float32)), spacing) & {
            Code.IMAGE_HU_IMPLAUSIBLE,
            Code.INTERCEPT_SUSPECTED,
        }


def scaled(hu, low, high):
    return (hu - hu.min()) * (high - low) / np.ptp(hu) + low


IMPLAUSIBLE = {
    "normalised": lambda hu: scaled(hu, 0, 1),
    "normalised about 0": lambda hu: scaled(hu, -1, 1),
    "z-scores": lambda hu: (hu - hu.mean()) / hu.std(),
    "z-scores of the body, air kept": lambda hu: np.where(
        hu < -300, -1000, (hu - hu[hu > -300].mean()) / hu[hu > -300].std()
    ),
    "normalised body, air kept": lambda hu: np.where(hu < -300, -1000, scaled(hu, 0, 1)),
    "picture of a window": lambda hu: np.rint(
        np.clip(np.interp(hu, (-160, 240), (0, 255)), 0, 255)
    ),
    "picture of everything": lambda hu: np.rint(scaled(hu, 0, 255)),
    "cut off at a window": lambda hu: np.clip(hu, -160, 240),
    "cut off at 0": lambda hu: np.maximum(hu, 0),
    "a tenth": lambda hu: hu * 0.1,
    "thousandths": lambda hu: hu / 1000,
    "attenuation per mm": lambda hu: 0.02 * (1 + hu / 1000),
    "negated": lambda hu: -hu,
    "intercept twice": lambda hu: hu - 1024,
    "PET": lambda hu: (
        np.interp(hu, (-300, -100, 60, 300), (0, 0.4, 1.5, 21))
        * np.random.default_rng(0).gamma(9, 1 / 9, hu.shape)
    ),
    "MR": lambda hu: np.rint(
        np.hypot(
            np.interp(hu, (-300, -100, 60, 300), (0, 500, 250, 60)),
            np.random.default_rng(0).normal(0, 15, hu.shape),
        )
    ),
    "label map": lambda hu: 1.0 * (hu > 0) + (hu > 100),
    "mask": lambda hu: 255.0 * (hu > 100),
    "mask rescaled as CT": lambda hu: (hu > 100) - 1024.0,
    "nothing": lambda hu: 0 * hu,
}


@pytest.mark.parametrize("what", IMPLAUSIBLE)
def test_values_that_are_no_hu_are_seen_whole_and_cut_out(phantoms, what):
    for hu, spacing in phantoms:
        wrong = IMPLAUSIBLE[what](hu.astype(np.float32))
        assert codes(wrong, spacing) == {Code.IMAGE_HU_IMPLAUSIBLE}


def crops(hu, spacing, rng):
    """Boxes of 50 to 220 mm, most of them filled by the body."""
    for size in rng.uniform(50, 220, (40, 2)):
        rows, columns = np.minimum(np.rint(size / spacing[1:]).astype(int), hu.shape[1:])
        row, column = (
            rng.integers(0, hu.shape[1] - rows + 1),
            rng.integers(0, hu.shape[2] - columns + 1),
        )
        cut = hu[:, row : row + rows, column : column + columns]
        if (cut > -300).mean() > 0.6:
            yield cut


def sound_variants(hu):
    """Legal ways of writing the same image."""
    rows, columns = (np.linspace(-1, 1, n) for n in hu.shape[1:])
    outside = np.hypot(rows[:, None], columns) > 1
    for padding in (-1024, -2000, -2048, -3024, -8192):
        yield np.where(outside, padding, hu)
    yield np.maximum(hu, -1000)
    yield np.minimum(hu, 1023)
    yield hu + 0.25


def test_nothing_is_suspected_of_crops_and_of_paddings(phantoms, real_data):
    rng = np.random.default_rng(3)
    folder, images = real_data / "abdomen", list(phantoms)
    for path in (
        folder / "example_ct.nii.gz",
        folder / "example_ct_dicom",
        real_data / "rtstruct_sarcoma/STS_008/dicom/CT/image",
    ):
        source = open_image(path, References(), COHORT)
        images.append((source.read(survey_slices(source.grid.shape[0])), source.grid.spacing))
    tried = 0
    for hu, spacing in images:
        for one in (*crops(hu, spacing, rng), *sound_variants(hu)):
            assert codes(one, spacing) == set()
            tried += 1
    assert tried > 100


def test_a_crop_of_one_organ_is_reported(phantoms):
    """Neither air nor fat in it: it cannot be told from another kind of image."""
    liver = np.random.default_rng(0).normal(100, 15, (7, 40, 40))
    assert codes(liver, phantoms[0][1]) == {Code.IMAGE_HU_IMPLAUSIBLE}


@pytest.mark.parametrize("radius", [55, 75, 100])
@pytest.mark.parametrize("centres", [(200,), (95, 305), (100, 300), (130, 270)])
@pytest.mark.parametrize("tumour", [0, 40])
def test_nothing_is_suspected_of_legs(radius, centres, tumour):
    """Fat, muscle and femur, apart or touching; a mass in the left one."""
    y, x = np.mgrid[:400:2, :400:2]
    hu = np.full(y.shape, -1000.0)
    for tissue, size, at in (
        (-105, radius, 200),
        (58, radius - 15, 200),
        (1000, 16, 170),
        (-40, 8, 170),
    ):
        for centre in centres:
            hu[np.hypot(x - centre, y - at) < size] = tissue
    hu[np.hypot(x - centres[-1], y - 215) < tumour] = 50
    hu = hu + np.random.default_rng(0).normal(0, 12, (7, 200, 200))
    assert codes(hu, np.array([5.0, 2, 2])) == set()


@pytest.mark.parametrize(
    ("flip", "what"),
    [
        (lambda hu: hu[:, ::-1], "front to back"),
        (lambda hu: hu[::-1], "head to foot"),
        (lambda hu: hu[:, :, ::-1], "left to right"),
    ],
)
def test_flipped_anatomy_is_suspected(phantoms, flip, what):
    messages = [
        " ".join(finding.message for finding in survey_findings(flip(hu), spacing))
        for hu, spacing in phantoms
    ]
    assert sum(what in message for message in messages) >= 0.9 * len(phantoms)


def test_fingerprints_are_of_the_pixels_alone(phantoms):
    prints = [fingerprint(hu) for hu, _ in phantoms]
    assert all(prints)
    assert len(frozenset.union(*prints)) == sum(map(len, prints))  # nobody shares one
    assert fingerprint(phantoms[0][0].astype(np.float32)) == prints[0]
    assert fingerprint(np.zeros((2, 4, 4), np.int16)) == frozenset()


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    manifest = write_phantom(
        tmp_path_factory.mktemp("one") / "cohort", patients=1, seed=1, matrix=128, slice_mm=10
    )
    row = pd.read_csv(manifest).iloc[0]
    return read_patient(
        manifest.parent / row["image"],
        manifest.parent / row["mask"],
        cohort=COHORT,
        selection=Selection(),
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"max_diameter_mm": 161.0}, Code.LESION_TOO_LARGE),
        ({"max_diameter_mm": 2.9}, Code.LESION_TOO_SMALL),
        ({"hu": -900}, Code.MASK_OUTSIDE_BODY),
        ({"hu": 700}, Code.LESION_HU_IMPLAUSIBLE),
        ({"hu": -200}, Code.LESION_HU_IMPLAUSIBLE),
    ],
)
def test_lesions_that_cannot_be(patient, change, code):
    assert lesion_findings(patient) == []
    changed = {
        name: np.full_like(patient.hu, value) if name == "hu" else value
        for name, value in change.items()
    }
    assert [finding.code for finding in lesion_findings(replace(patient, **changed))] == [code]


@pytest.mark.parametrize(
    ("where", "reported"),
    [
        (np.s_[:, :6], 0),  # outside of the body, up to the edge
        (np.s_[0, 4:6, 4:6], 0),  # in the air around it
        (np.s_[0, 12:14, 12:14], 4),
        (np.s_[1, 10:30, 12], 20),
        (np.s_[:, 20, 10], 2),
    ],
)
@pytest.mark.parametrize("tissue", [40, 40.5])
def test_where_an_image_has_no_number(where, reported, tissue):
    hu = np.full((2, 40, 40), -1000, np.float32)
    hu[:, 8:32, 8:32] = tissue
    expected, mask = hu.copy(), np.zeros((1, 40, 40), bool)
    mask[0, 20:25, 20:25] = True
    hu[where], expected[where] = np.nan, -1000
    got, findings = without_nan(hu, mask, np.array([1]))
    assert np.array_equal(got, expected)
    assert got.dtype == (np.int16 if tissue == 40 else np.float32)
    assert [one.code for one in findings] == [Code.IMAGE_HU_IMPLAUSIBLE] * (reported > 0)
    assert all(f"{reported} pixels" in one.message for one in findings)
    hu[1, 22, 22] = np.nan
    with pytest.raises(PatientError, match="1 of 25 pixels") as caught:
        without_nan(hu, mask, np.array([1]))
    assert caught.value.code is Code.HU_OUT_OF_RANGE
