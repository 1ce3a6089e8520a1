"""Which activations are cached: by disk, by what reading costs, and as told; and that it changes no
number."""

from pathlib import Path

import numpy as np
import pytest
from conftest import SmallWork, draw_patients, small_study, write_small_work

from renal_ray.config import Study
from renal_ray.problems import DamagedFileError, StudyError
from renal_ray.store.place import Place
from renal_ray.sweep import caching
from renal_ray.sweep.caching import computed_freeze_points
from renal_ray.sweep.node_checks import Report
from renal_ray.trial.plan import Plan, make_plan
from renal_ray.trial.probe import Probe, setting, write_probe
from renal_ray.trial.workshop import Workshop
from renal_ray.types import FreezePoint, Head

POINTS = ["mixed0", "mixed9", "mixed10"]


def prepared(folder: Path, **changes: object) -> tuple[Study, Place, Plan]:
    study = small_study(folder, freeze_points=POINTS, **changes)
    work, _ = write_small_work(study, draw_patients(20))
    return study, work, make_plan(study, work)


def free(monkeypatch: pytest.MonkeyPatch, disk: float, memory: float = 1e12) -> None:
    monkeypatch.setattr(caching, "_free", lambda work, nodes: disk)
    monkeypatch.setattr(
        caching.psutil, "virtual_memory", lambda: type("Memory", (), {"available": memory})
    )


def images(plan: Plan) -> int:
    return sum(person.n_images for person in plan.splits.patients if person.role == "train")


def test_all_is_cached_where_it_fits(tmp_path: Path) -> None:
    assert computed_freeze_points(*prepared(tmp_path)) == ([], [])


def test_what_the_disk_would_not_hold_is_computed_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, work, plan = prepared(tmp_path)
    small = images(plan) * 4 * (2048 + 2048)  # mixed10 pooled and mixed9, one pixel at 75 px
    free(monkeypatch, small)
    computed, said = computed_freeze_points(study, work, plan)
    assert computed == [FreezePoint.MIXED0]
    assert len(said) == 1
    assert said[0].startswith("mixed0: its activations need ")
    free(monkeypatch, 0)
    assert set(computed_freeze_points(study, work, plan)[0]) == set(POINTS)


def test_always_refuses_a_disk_that_is_too_small_and_never_computes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, work, plan = prepared(tmp_path, cache="always")
    free(monkeypatch, 1000)
    with pytest.raises(StudyError, match=r"activations of \d+ images need .* use cache: auto"):
        computed_freeze_points(study, work, plan)
    free(monkeypatch, 1e12, memory=0)
    assert computed_freeze_points(study, work, plan) == ([], [])
    study = study.model_copy(update={"cache": "never"})
    assert computed_freeze_points(study, work, plan)[0] == POINTS


@pytest.mark.parametrize(
    ("read_mib_s", "memory", "kept"), [(0.01, 0, []), (1e6, 0, POINTS), (0.01, 1e12, POINTS)]
)
def test_reading_that_costs_more_than_computing_is_not_cached(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read_mib_s: float,
    memory: float,
    kept: list[str],
) -> None:
    study, work, plan = prepared(tmp_path)
    free(monkeypatch, 1e12, memory)
    costs = {"device": "d", "matrix_gflops": {}, "prefix_first_s": 1, "kinds": {}}
    write_probe(
        work,
        Probe.model_validate(
            costs
            | {"setting": setting(study), "prefix_s_per_image": 0.01, "read_mib_s": read_mib_s}
        ),
    )
    computed, said = computed_freeze_points(study, work, plan)
    assert sorted(computed) == sorted(set(POINTS) - set(kept))
    assert all("computing them" in one for one in said)
    assert len(said) == len(computed)


@pytest.mark.parametrize("point", [FreezePoint.MIXED9, FreezePoint.MIXED10])
def test_computed_activations_give_the_trace_of_cached_ones(
    trained: SmallWork, tmp_path: Path, point: FreezePoint
) -> None:
    live = trained.copy(tmp_path / "live")
    spec = next(one for one in trained.specs(Head.IMAGE) if one.freeze_point == point)
    live.work.remove(spec.activations.folder)  # nothing to read: they can only be computed
    live.run(spec, Workshop(live.work, computed=[point]))
    cached, computed = (
        one.work.read_parquet(f"trials/{spec.trial_id}/history.parquet") for one in (trained, live)
    )
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(computed[column], cached[column], rtol=1e-4)
    with pytest.raises(
        DamagedFileError, match="not complete"
    ):  # not a silent way out: who does not ask for it is told
        live.run(spec, Workshop(live.work))


def test_half_precision_activations_change_the_auc_by_less_than_a_hundredth(
    trained: SmallWork, tmp_path: Path
) -> None:
    from conftest import activated

    study = Study.model_validate(
        trained.study.model_dump() | {"work": str(tmp_path / "half"), "activation_dtype": "float16"}
    )
    half = activated(study, draw_patients(24))
    for full in trained.specs(Head.IMAGE):
        [spec] = [
            one
            for one in half.plan.image_specs(full.dataset, full.freeze_point)
            if one.fold == full.fold
        ]
        assert spec.activations.key != full.activations.key
        found = half.run(spec)["levels"]["slice"]["metrics"]["auc"]
        assert found == pytest.approx(
            trained.results[full.trial_id]["levels"]["slice"]["metrics"]["auc"], abs=0.01
        )


def test_copies_of_a_remote_work_directory_must_fit_on_the_node_that_has_the_least() -> None:
    reports = [
        Report(True, "", "", "", (), copies_free=disk, memory_free=memory, cards=None)
        for disk, memory in ((7, 3), (5, 9))
    ]
    assert caching._free(Place("s3://bucket/work"), reports) == 5
    assert caching._memory(reports) == 3
    assert caching._free(Place("s3://bucket/work"), []) > 7
    assert "TMPDIR" in caching._where(Place("s3://bucket/work"))
