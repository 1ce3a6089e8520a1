"""What is suspected of an image or a lesion - and what is not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from renal_ray.cohort.phantom import write_phantom
from renal_ray.config import Cohort, Selection
from renal_ray.imaging.checks import lesion_findings
from renal_ray.imaging.images.open import open_image
from renal_ray.imaging.images.source import References
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.survey import fingerprint, survey_findings, survey_slices
from renal_ray.problems import Code

COHORT = Cohort(manifest="unused.csv")


@pytest.fixture(scope="module")
def phantoms(phantom_manifest):
    """Surveyed slices and spacing of phantom patients."""
    table = pd.read_csv(phantom_manifest)
    sources = [open_image(phantom_manifest.parent / name, References(), COHORT) for name in table["image"]]
    return [(source.read(survey_slices(source.grid.shape[0])), source.grid.spacing) for source in sources]


def codes(hu, spacing) -> set[Code]:
    return {finding.code for finding in survey_findings(hu, spacing)}


def test_nothing_is_suspected_of_phantoms(phantoms):
    assert [codes(*one) for one in phantoms] == [set()] * len(phantoms)


def test_a_missing_intercept_is_seen(phantoms):
    for hu, spacing in phantoms:
        assert codes(np.maximum(hu, -1024) + 1024, spacing) == {Code.INTERCEPT_SUSPECTED}


@pytest.mark.parametrize("wrong", [lambda hu: hu * 4.0, lambda hu: hu * 0.7, lambda hu: hu + 600, lambda hu: np.zeros_like(hu) - 1000])
def test_wrong_values_are_seen(phantoms, wrong):
    for hu, spacing in phantoms:
        assert codes(wrong(hu.astype(np.float32)), spacing) & {Code.IMAGE_HU_IMPLAUSIBLE, Code.INTERCEPT_SUSPECTED}


@pytest.mark.parametrize(
    ("flip", "what"),
    [(lambda hu: hu[:, ::-1], "front to back"), (lambda hu: hu[::-1], "head to foot"), (lambda hu: hu[:, :, ::-1], "left to right")],
)
def test_flipped_anatomy_is_suspected(phantoms, flip, what):
    messages = [" ".join(finding.message for finding in survey_findings(flip(hu), spacing)) for hu, spacing in phantoms]
    assert sum(what in message for message in messages) >= 0.9 * len(phantoms)


def test_fingerprints_are_of_the_pixels_alone(phantoms):
    prints = [fingerprint(hu) for hu, _ in phantoms]
    assert all(prints)
    assert len(frozenset.union(*prints)) == sum(map(len, prints))  # nobody shares one
    assert fingerprint(phantoms[0][0].astype(np.float32)) == prints[0]
    assert fingerprint(np.zeros((2, 4, 4), np.int16)) == frozenset()


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    manifest = write_phantom(tmp_path_factory.mktemp("one") / "cohort", patients=1, seed=1, matrix=128, slice_mm=10)
    row = pd.read_csv(manifest).iloc[0]
    return read_patient(manifest.parent / row["image"], manifest.parent / row["mask"], cohort=COHORT, selection=Selection())


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
    changed = {name: np.full_like(patient.hu, value) if name == "hu" else value for name, value in change.items()}
    assert [finding.code for finding in lesion_findings(replace(patient, **changed))] == [code]
