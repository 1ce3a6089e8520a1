"""A patient from files to kept slices: selection, diameter, decoding on demand, privacy."""

import pickle
import warnings

import nibabel as nib
import numpy as np
import pytest
from dicom_files import BIRTH_DATE, NAME, save, write_seg, write_series
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.images import dicom_series
from renal_ray.imaging.masks.lesion import Lesion, kept, max_diameter_mm
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.survey import survey_slices
from renal_ray.problems import Code, PatientError

COHORT = Cohort(manifest="unused.csv")


def lesion_with(areas: list[int], first: int = 0) -> Lesion:
    mask = np.zeros((len(areas), 1, max(areas)), bool)
    for n, area in enumerate(areas):
        mask[n, 0, :area] = True
    return Lesion(np.arange(first, first + len(areas)), mask)


@pytest.mark.parametrize(
    ("areas", "options", "expected"),
    [
        ([1, 2, 4, 8, 3, 1], {"min_area_fraction": 0.25}, [1, 2, 3, 4]),
        ([1, 2, 4, 8, 3, 1], {"min_area_fraction": 0}, [0, 1, 2, 3, 4, 5]),
        ([1, 2, 4, 8, 3, 1], {"min_area_fraction": 1}, [3]),
        ([3, 10, 7], {"min_area_fraction": 0.7}, [1, 2]),
        ([3, 10, 1], {"min_area_fraction": 0.3}, [0, 1]),
        ([1, 2, 4, 8, 3, 1], {"max_slices": 2}, [2, 3]),
        (
            [5, 9, 2, 9, 9],
            {"max_slices": 2},
            [1, 3],
        ),  # of three equal ones the two nearest to the middle
        ([4, 4, 4, 4], {"max_slices": 1}, [1]),  # equally near: the upper
        ([9, 1, 1, 1, 8], {"max_slices": 2, "min_area_fraction": 0}, [0, 4]),  # area before place
        ([4, 4], {"max_slices": 5}, [0, 1]),
    ],
)
def test_selection(areas, options, expected):
    assert kept(lesion_with(areas, first=10), Selection(**options)).tolist() == expected


@given(
    st.integers(1, 2**30).flatmap(lambda seed: st.just(np.random.default_rng(seed))),
    st.floats(0.3, 3),
    st.floats(0.3, 3),
)
def test_diameter_is_the_longest_distance_on_the_outline(rng, row_spacing, column_spacing):
    mask = rng.random((2, rng.integers(1, 9), rng.integers(1, 9))) < 0.4
    mask[:, 0, 0] = True
    edges = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    brute = max(
        pdist(
            (np.argwhere(m)[:, None] + edges).reshape(-1, 2) * (row_spacing, column_spacing)
        ).max()
        for m in mask
    )
    assert max_diameter_mm(
        Lesion(np.arange(2), mask), (row_spacing, column_spacing)
    ) == pytest.approx(brute)


def test_diameter_of_known_shapes():
    y, x = np.mgrid[-30:31, -30:31]
    disc = (x**2 + y**2 <= 20**2)[None]
    assert max_diameter_mm(Lesion(np.array([0]), disc), (0.5, 0.5)) == pytest.approx(20.5, abs=0.3)
    assert max_diameter_mm(lesion_with([1]), (0.7, 0.7)) == pytest.approx(0.7)
    assert max_diameter_mm(lesion_with([3, 8]), (0.7, 0.5)) == pytest.approx(4.0)


@pytest.fixture
def patient(tmp_path):
    """Ten slices, the lesion on slices 3 to 6, largest on 4."""
    rng = np.random.default_rng(3)
    volume = rng.integers(-200, 300, (10, 16, 16)).astype(np.int16)
    lesion = np.zeros(volume.shape, bool)
    for k, width in ((3, 2), (4, 9), (5, 8), (6, 1)):
        lesion[k, 2 : 2 + width, 3 : 3 + width] = True
    slices = write_series(tmp_path / "ct", volume, shuffle=4)
    write_seg(tmp_path / "seg.dcm", [(1, slices[k], lesion[k]) for k in range(10)])
    return tmp_path, volume, lesion, slices


def test_only_kept_slices_are_decoded(patient, monkeypatch):
    folder, volume, lesion, _ = patient
    decoded = []
    native_pixels = dicom_series.native_pixels

    def counting(header):
        decoded.append(float(header.dataset.get("ImagePositionPatient")[2]))
        return native_pixels(header)

    monkeypatch.setattr(dicom_series, "native_pixels", counting)
    got = read_patient(folder / "ct", folder / "seg.dcm", cohort=COHORT, selection=Selection())
    assert got.slice_index.tolist() == [4, 5]
    surveyed = survey_slices(len(volume)).tolist()
    assert sorted(decoded) == sorted(100 - 2.5 * k for k in {4, 5, *surveyed})
    assert np.array_equal(got.hu, volume[[4, 5]])
    assert np.array_equal(got.mask, lesion[[4, 5]])
    assert got.position_mm.tolist() == [90.0, 87.5]
    assert got.lesion_area_mm2.tolist() == [81 * 0.25, 64 * 0.25]
    assert (got.slice_index.dtype, got.position_mm.dtype, got.lesion_area_mm2.dtype) == (
        np.int32,
        np.float32,
        np.float32,
    )
    assert got.spacing_mm == (0.5, 0.5)
    assert got.n_slices_total == 10
    assert got.max_diameter_mm == pytest.approx(
        np.hypot(4.5, 4.0)
    )  # a square's corners are cut at the middles of the edges


def test_diameter_does_not_depend_on_the_selection(patient):
    folder = patient[0]
    few = read_patient(
        folder / "ct", folder / "seg.dcm", cohort=COHORT, selection=Selection(max_slices=1)
    )
    all_of_them = read_patient(
        folder / "ct", folder / "seg.dcm", cohort=COHORT, selection=Selection(min_area_fraction=0)
    )
    assert few.max_diameter_mm == all_of_them.max_diameter_mm
    assert len(all_of_them.hu) == 4


@pytest.mark.parametrize("code", ["RAS", "LPS", "IPL", "ASL"])
def test_nifti_mask_over_a_dicom_series(patient, code):
    folder, volume, lesion, _ = patient
    affine = np.array(
        [[-0.5, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, -2.5, 100], [0, 0, 0, 1.0]]
    )  # LPS (-10, -20, 100) in RAS, slices downwards
    mask = nib.Nifti1Image(lesion.transpose(2, 1, 0).astype(np.uint8), affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(code)
    )
    nib.save(mask.as_reoriented(turn), folder / "mask.nii.gz")
    cohort = Cohort(manifest="unused.csv", lesion_labels=[1])
    got = read_patient(folder / "ct", folder / "mask.nii.gz", cohort=cohort, selection=Selection())
    assert np.array_equal(got.hu, volume[[4, 5]])
    assert np.array_equal(got.mask, lesion[[4, 5]])


@pytest.mark.parametrize("missing", ["ct", "seg.dcm"])
def test_missing_files(patient, missing):
    folder = patient[0]
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(PatientError) as caught:
        read_patient(folder / "ct", folder / "seg.dcm", cohort=COHORT, selection=Selection())
    assert caught.value.code is Code.FILE_MISSING
    assert caught.value.file == str(folder / missing)


def test_errors_survive_the_way_between_processes(patient):
    folder = patient[0]
    with pytest.raises(PatientError) as caught:
        read_patient(folder / "ct", folder / "nothing", cohort=COHORT, selection=Selection())
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (copy.code, copy.message, copy.file) == (
        caught.value.code,
        caught.value.message,
        caught.value.file,
    )


@pytest.mark.parametrize("name", ["seg.dcm", "ct/I0001.dcm", "image.nii", "mask.nii"])
def test_damaged_files_are_refused_and_never_crash(patient, name):
    """Bytes changed or cut off at random places of the header."""
    folder, volume, lesion, _ = patient
    affine = np.diag([-0.5, -0.5, -2.5, 1.0])
    nib.save(nib.Nifti1Image(volume.T.copy(), affine), folder / "image.nii")
    nib.save(nib.Nifti1Image(lesion.T * np.uint8(2), affine), folder / "mask.nii")
    image, mask = ("image.nii", "mask.nii") if name.endswith(".nii") else ("ct", "seg.dcm")
    rng = np.random.default_rng(5)
    path = folder / name
    whole = path.read_bytes()
    start, end = (0, 348) if name.endswith(".nii") else (132, min(len(whole), 1500))
    refused = 0
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.integers(start, end)] = rng.choice([0, 32, 65, 92, 255])
        path.write_bytes(
            damaged[: rng.integers(start, len(whole))] if rng.random() < 0.4 else damaged
        )
        try:
            read_patient(folder / image, folder / mask, cohort=COHORT, selection=Selection())
        except PatientError as error:
            refused += 1
            assert error.file in (str(folder / image), str(folder / mask))  # noqa: PT017
    assert 5 < refused < 40


@pytest.mark.parametrize(
    "keyword", ["PixelSpacing", "ImagePositionPatient", "RescaleSlope", "Rows"]
)
def test_nothing_of_the_patient_is_said(patient, keyword, capfd, caplog):
    """A value that is no number, and the error and the warnings about it quote neither it nor the
    patient."""
    folder, _, _, slices = patient
    path = save(slices[3])
    data = path.read_bytes()
    tag = slices[3].data_element(keyword).tag
    start = data.index(
        int(tag.group).to_bytes(2, "little") + int(tag.element).to_bytes(2, "little")
    )
    length = int.from_bytes(data[start + 6 : start + 8], "little")
    canary = (NAME * 10).encode()[:length]
    path.write_bytes(data[: start + 8] + canary + data[start + 8 + length :])
    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always")
        with pytest.raises(PatientError) as caught:
            read_patient(folder / "ct", folder / "seg.dcm", cohort=COHORT, selection=Selection())
    said = " ".join(
        [
            str(caught.value),
            *(str(w.message) for w in caught_warnings),
            *capfd.readouterr(),
            caplog.text,
        ]
    )
    for secret in (
        "CANARY",
        BIRTH_DATE,
        slices[3].SeriesInstanceUID,
        slices[3].SOPInstanceUID,
        "CAN",
    ):
        assert secret not in said
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
