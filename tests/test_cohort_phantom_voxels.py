"""What is in a phantom: the cohort's composition, the attenuation of organs and lesions, and how
hard the task is."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renal_ray.cohort.phantom.acquisition import add_noise
from renal_ray.cohort.phantom.anatomy import draw_build
from renal_ray.cohort.phantom.body import paint_body
from renal_ray.cohort.phantom.canvas import Canvas
from renal_ray.cohort.phantom.fields import SmoothField, capsule, centred_grid, ellipsoid
from renal_ray.cohort.phantom.patient import (
    CYST,
    KIDNEY,
    LESION,
    Scan,
    build_scan,
    largest_diameter,
)
from renal_ray.cohort.phantom.plan import PatientPlan, plan_cohort, systematic
from renal_ray.types import Label

MATRIX, SLICE_MM = 96, 8.0


def test_the_paper_s_cohort_has_the_paper_s_composition() -> None:
    cohort = plan_cohort(192, 3)
    assert Counter(plan.kind for plan in cohort) == {
        "cyst": 50,
        "angiomyolipoma": 8,
        "clear_cell_rcc": 117,
        "papillary_rcc": 8,
        "chromophobe_rcc": 9,
    }
    assert Counter(plan.sex for plan in cohort) == {"male": 127, "female": 65}
    places = Counter((int(plan.label), plan.place) for plan in cohort)
    assert places == {
        (0, "exophytic"): 33,
        (0, "mesophytic"): 21,
        (0, "endophytic"): 4,
        (1, "exophytic"): 45,
        (1, "mesophytic"): 56,
        (1, "endophytic"): 33,
    }
    sizes = np.array([plan.size_mm for plan in cohort])
    assert sizes.mean() == pytest.approx(48.2, abs=2.5)
    assert sizes.min() < 12
    assert sizes.max() > 110
    assert np.mean([plan.age for plan in cohort]) == pytest.approx(62.3, abs=3)


@settings(max_examples=60, deadline=None)
@given(patients=st.integers(2, 70), seed=st.integers(0, 2**31 - 1))
def test_any_cohort_has_both_classes_and_consistent_patients(patients: int, seed: int) -> None:
    cohort = plan_cohort(patients, seed)
    assert [plan.number for plan in cohort] == list(range(1, patients + 1))
    assert {plan.label for plan in cohort} == {Label.BENIGN, Label.MALIGNANT}
    if patients >= 10:
        assert len({plan.kind for plan in cohort}) == 5
    assert {plan.scanner for plan in cohort} == {"siemens", "philips"} or patients < 4
    for plan in cohort:
        assert (
            (plan.label == Label.MALIGNANT) == plan.kind.endswith("rcc") == (plan.stage is not None)
        )
        assert (plan.grade is not None) == (plan.kind == "clear_cell_rcc")
        assert 5 <= plan.size_mm <= 160


@given(n=st.integers(0, 200), seed=st.integers(0, 1000))
def test_systematic_draws_keep_their_shares(n: int, seed: int) -> None:
    shares = {"a": 5.0, "b": 3.0, "c": 0.5}
    counts = Counter(systematic(shares, n, np.random.default_rng(seed)))
    assert sum(counts.values()) == n
    for name, share in shares.items():
        assert abs(counts[name] - n * share / 8.5) < 1


def _plan(**changes: object) -> PatientPlan:
    return replace(plan_cohort(6, 1)[0], **changes)  # type: ignore[arg-type]


def _scan(kind: str, variant: str, number: int, size_mm: float = 45.0) -> Scan:
    label = Label.MALIGNANT if kind.endswith("rcc") else Label.BENIGN
    plan = _plan(
        kind=kind, variant=variant, number=number, size_mm=size_mm, label=label, place="mesophytic"
    )
    return build_scan(plan, seed=23, matrix=MATRIX, slice_mm=SLICE_MM)


@pytest.mark.parametrize(
    ("kind", "variant", "low", "high"),
    [
        ("cyst", "simple", -5, 40),
        ("cyst", "dense", 30, 115),
        ("angiomyolipoma", "classic", -80, 45),
        ("angiomyolipoma", "fat_poor", 35, 115),
        ("clear_cell_rcc", "typical", 80, 195),
        ("clear_cell_rcc", "hypoenhancing", 35, 100),
        ("clear_cell_rcc", "cystic", 20, 125),
        ("papillary_rcc", "typical", 30, 90),
        ("chromophobe_rcc", "typical", 60, 130),
    ],
)
def test_lesions_have_the_attenuation_of_their_histology(
    kind: str, variant: str, low: float, high: float
) -> None:
    for number in (1, 2, 3):
        scan = _scan(kind, variant, number)
        assert low < scan.hu[scan.labels == LESION].mean() < high


def test_kidneys_are_in_the_corticomedullary_phase() -> None:
    scan = build_scan(_plan(size_mm=10.0), seed=2, matrix=256, slice_mm=5.0)
    kidney = scan.hu[scan.labels == KIDNEY]
    middle = np.quantile(kidney, [0.15, 0.8])
    assert 40 < middle[0] < 130  # medulla, with the sinus below it
    assert 165 < middle[1] < 230  # cortex
    assert set(np.unique(scan.labels)) <= {0, KIDNEY, LESION, CYST}


def test_organs_have_their_attenuation() -> None:
    rng = np.random.default_rng(4)
    grid = centred_grid(20, 128, 128, slice_mm=8.0, pixel_mm=(3.0, 3.0))
    build = draw_build(rng, sex="male", field_of_view_mm=384.0, largest_lesion_mm=40.0)
    canvas = Canvas(grid)
    paint_body(canvas, build, rng)

    def at(z: float, y: float, x: float) -> float:
        i, j, k = (
            int(np.argmin(np.abs(axis - value)))
            for axis, value in zip((grid.z, grid.y, grid.x), (z, y, x), strict=True)
        )
        return float(canvas.hu[i, j - 1 : j + 2, k - 1 : k + 2].mean())

    assert 80 < at(50, -10, -95) < 140  # liver
    assert 250 < at(-10, *build.aorta) < 340
    assert 40 < at(0, build.spine[0] + 34, build.spine[1] + 36) < 80  # muscle of the back
    assert at(0, -build.half_depth * 1.3, 0) == -1000
    assert -115 < np.quantile(canvas.hu[canvas.hu > -300], 0.2) < -90  # fat


def test_size_is_what_was_planned() -> None:
    for size in (6.0, 30.0, 70.0):
        scan = _scan("cyst", "simple", 1, size)
        assert scan.max_diameter_mm == pytest.approx(size, rel=0.12, abs=4.5)
        assert scan.max_diameter_mm == largest_diameter(scan.labels == LESION, scan.grid.spacing)


def test_largest_diameter_is_that_of_one_piece() -> None:
    mask = np.zeros((3, 40, 60), bool)
    mask[1, 5, 10:20] = True
    mask[1, 35, 50:55] = True
    assert largest_diameter(mask, (5.0, 1.0, 2.0)) == pytest.approx(9 * 2 + 1.5)
    assert largest_diameter(np.zeros((2, 4, 4), bool), (1.0, 1.0, 1.0)) == 0.0


def test_the_task_is_learnable_but_not_by_one_number() -> None:
    from sklearn.metrics import roc_auc_score

    labels, lesion, whole = [], [], []
    for plan in plan_cohort(60, 12):
        scan = build_scan(plan, seed=12, matrix=64, slice_mm=10.0)
        mask = scan.labels == LESION
        assert mask.any()
        plane = int(mask.sum(axis=(1, 2)).argmax())
        labels.append(int(plan.label))
        lesion.append(float(scan.hu[mask].mean()))
        whole.append(float(np.clip(scan.hu[plane], -110, 190).mean()))
    in_lesion, in_slice = roc_auc_score(labels, lesion), roc_auc_score(labels, whole)
    assert 0.75 < in_lesion < 0.99
    assert abs(in_slice - 0.5) < 0.25


def test_noise_has_the_asked_strength_and_no_mean() -> None:
    grid = centred_grid(6, 128, 128, slice_mm=5.0, pixel_mm=(1.5, 1.5))
    hu = np.zeros(grid.shape, np.float32)
    add_noise(hu, grid, np.random.default_rng(1), sigma=14.0, sharpness=0.3)
    middle = hu[:, 48:80, 48:80]
    assert middle.std() == pytest.approx(14, rel=0.15)
    assert abs(hu.mean()) < 1
    between = np.corrcoef(hu[0].ravel(), hu[1].ravel())[0, 1]
    assert abs(between) < 0.2


def test_fields_and_distances() -> None:
    axes = tuple(np.linspace(-60, 60, 41, dtype=np.float32) for _ in range(3))
    field = SmoothField(np.random.default_rng(0), 9.0)
    values = field(axes)
    assert values.std() == pytest.approx(1, abs=0.25)
    np.testing.assert_allclose(
        field((axes[0][5:7], axes[1][3:9], axes[2][:4])), values[5:7, 3:9, :4], atol=1e-5
    )
    ball = ellipsoid(axes, (0, 0, 0), (30, 30, 30))
    assert ball[20, 20, 0] == pytest.approx(30, abs=1e-3)
    assert ball[20, 20, 30] == pytest.approx(0, abs=1e-3)
    tube = capsule(axes, (-30, 0, 0), (30, 0, 0), 5.0)
    assert tube[20, 20, 30] == pytest.approx(25, abs=1e-3)
    assert tube[40, 20, 20] == pytest.approx(25, abs=1e-3)


def test_a_thick_slice_averages_over_its_thickness() -> None:
    grid = centred_grid(9, 64, 64, slice_mm=8.0, pixel_mm=(2.0, 2.0))
    canvas = Canvas(grid, 0.0)
    whole = canvas.whole()
    half_space = np.broadcast_to(
        whole.axes[0][:, None, None] - np.float32(2.0), tuple(len(axis) for axis in whole.axes)
    )
    canvas.paint(whole, half_space, 100.0)
    profile = canvas.hu[:, 32, 32]
    assert profile[:4] == pytest.approx(0, abs=1)
    assert profile[4] == pytest.approx(
        75, abs=3
    )  # the plane cuts the middle slice a quarter below its top
    assert profile[5:] == pytest.approx(100, abs=1)
