"""plan --probe measures every kind of trial in processes of their own."""

from pathlib import Path

import pytest
from conftest import draw_patients, small_study, write_small_work

from renal_ray.problems import StudyError
from renal_ray.sweep.probing import probe_study
from renal_ray.trial.probe import read_probe
from renal_ray.trial.status import describe_plan


@pytest.mark.usefixtures("local_ray")
def test_every_kind_is_measured_and_kept(tmp_path: Path) -> None:
    study = small_study(
        tmp_path / "work", freeze_points=["mixed9", "mixed10"], heads={"use": ["image", "fc"]}
    )
    work, _ = write_small_work(study, draw_patients(20))
    probe = probe_study(study)
    assert read_probe(work, study) == probe
    assert set(probe.kinds) == {"image-mixed9", "image-mixed10", "fc"}
    for cost in probe.kinds.values():
        assert 0 < cost.step_s < cost.first_s  # the first step compiles
        assert cost.batch == study.training.batch_size
        assert cost.memory_mib > 100
        assert cost.gpu_memory_mib is None
    assert probe.matrix_gflops["float32"] > 1
    assert probe.read_mib_s > 1
    assert 0 < probe.prefix_s_per_image < probe.prefix_first_s
    assert not list(Path(work.uri).glob(".tmp-*"))
    assert any("predicted from measured steps" in line for line in describe_plan(study, work))
    assert read_probe(work, study.model_copy(update={"precision": "mixed_bfloat16"})) is None


@pytest.mark.usefixtures("local_ray")
def test_a_kind_that_cannot_run_is_named(tmp_path: Path) -> None:
    study = small_study(
        tmp_path / "work",
        heads={"use": ["image"]},
        images={"size": 75},
        training={"batch_size": 2**40},
    )
    with pytest.raises(
        StudyError,
        match=r"plan --probe: the frozen layers cannot be run here: .*; lower training.batch_size",
    ):
        probe_study(study)
    assert not (tmp_path / "work" / "probe.json").exists()
