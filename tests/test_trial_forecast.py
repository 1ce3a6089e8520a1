"""Floor and predicted time against hand-worked sums."""

from itertools import permutations
from pathlib import Path

import pytest
from conftest import small_study

from renal_ray.config import Study
from renal_ray.model.flops import forward_gflops, suffix_gflops
from renal_ray.problems import StudyError
from renal_ray.report.bench import Cohort, imagined_plan, minutes_table, write_bench
from renal_ray.store.place import Place
from renal_ray.trial.forecast import Forecast, Load, floor_of, makespan, trial_load
from renal_ray.trial.plan import Plan
from renal_ray.trial.probe import KindCost, Probe, setting, write_probe
from renal_ray.trial.status import describe_plan
from renal_ray.types import Dataset, FreezePoint, Head

COHORT = Cohort(
    patients=12, malignant=8, slices=5
)  # two folds of 4 malignant and 2 benign patients


def a_study(work: Path, **changes: object) -> Study:
    return small_study(work, freeze_points=["mixed9", "mixed10"], **changes)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return imagined_plan(a_study(tmp_path), COHORT)


def probe_for(study: Study) -> Probe:
    cost = {"first_s": 10.0, "step_s": 2.0, "score_s": 0.5, "batch": 8, "memory_mib": 1.0}
    kinds = {
        name: KindCost.model_validate(cost | {"step_s": step})
        for name, step in (("image-mixed9", 2.0), ("image-mixed10", 0.1), ("fc", 0.1), ("gru", 0.2))
    }
    return Probe(
        setting=setting(study),
        device="a machine",
        matrix_gflops={"float32": 100.0},
        prefix_first_s=1,
        prefix_s_per_image=0.25,
        read_mib_s=100,
        kinds=kinds,
    )


def test_the_load_of_a_trial_is_its_balanced_fold(plan: Plan) -> None:
    assert trial_load(plan, Head.IMAGE, 0) == Load(train=2 * 4 * 5, validation=6 * 5)
    assert trial_load(plan, Head.GRU, 1) == Load(train=2 * 4, validation=6)


def test_the_floor_is_three_suffixes_an_image_and_epoch_and_one_pass_of_all(plan: Plan) -> None:
    floor = floor_of(plan)
    images = 2 * 40 * 3  # folds, balanced images, epochs
    assert floor.suffixes[FreezePoint.MIXED9] == pytest.approx(
        images * 3 * suffix_gflops(75, FreezePoint.MIXED9)
    )
    assert floor.suffixes[FreezePoint.MIXED10] == 0
    assert floor.prefix == pytest.approx(60 * forward_gflops(75))
    assert floor.total == pytest.approx(sum(floor.suffixes.values()) + floor.prefix)
    both = imagined_plan(
        a_study(Path(plan.study.work), datasets=["roi", "rbr"], folds={"n": 2, "run": [1]}), COHORT
    )
    assert floor_of(both).total == pytest.approx(
        floor.total + floor.prefix
    )  # half the folds of twice the datasets


def test_a_paper_sized_sweep_has_the_floor_of_its_arithmetic() -> None:
    study = Study.model_validate({"name": "p", "work": "w", "cohort": {"manifest": "m.csv"}})
    plan = imagined_plan(study, Cohort())
    floor = floor_of(plan)
    balanced = sum(trial_load(plan, Head.IMAGE, fold).train for fold in range(5))
    assert balanced == 2 * 4 * 109 * 20
    assert floor.suffixes[FreezePoint.MIXED0] == pytest.approx(
        3 * 150 * balanced * 24.3, rel=0.01
    )  # 24.3 GFLOP a training step and image
    assert floor.prefix == pytest.approx(3 * 3060 * 11.42, rel=0.001)


def test_seconds_come_from_steps_then_from_finished_trials(plan: Plan) -> None:
    mixed9, other = plan.image_specs(Dataset.ROI, FreezePoint.MIXED9)
    assert Forecast(plan, {}, None).seconds(mixed9) is None
    assert Forecast(plan, {}, None).remaining(1) is None
    forecast = Forecast(plan, {}, probe_for(plan.study))
    assert forecast.seconds(mixed9) == pytest.approx(
        3 * 5 * 2.0 + 3 * 4 * 0.5
    )  # 3 epochs of 5 steps, 4 batches scored after each
    finished = {
        mixed9.trial_id: {
            "seconds": {"total": 90.0},
            "levels": {"slice": {"metrics": {"auc": 0.5}}},
        }
    }
    assert Forecast(plan, finished, probe_for(plan.study)).seconds(other) == pytest.approx(90.0)


def test_what_remains_is_prefix_compilation_and_trials(plan: Plan) -> None:
    forecast = Forecast(plan, {}, probe_for(plan.study))
    long, short = 3 * 5 * 2.0 + 3 * 4 * 0.5, 3 * 5 * 0.1 + 3 * 4 * 0.5
    heads = [3 * 1 * step + 3 * 1 * 0.5 for step in (0.1, 0.1, 0.2, 0.2)]
    assert len(forecast.specs) == plan.total() == 8
    assert forecast.remaining(1) == pytest.approx(
        60 * 0.25 + 40 + 2 * long + 2 * short + sum(heads)
    )
    assert forecast.remaining(8) == pytest.approx(60 * 0.25 / 8 + 40 + long)


def test_makespan_is_longest_first() -> None:
    assert makespan([], 3) == 0
    assert makespan([5, 3, 3, 2, 2], 2) == 8  # 5 + 2 and 3 + 3 + 2
    for order in permutations([7.0, 1.0, 4.0]):
        assert makespan(list(order), 2) == 7
    assert makespan([1.0] * 10, 4) == 3


def test_table_4_says_of_each_cell_where_it_comes_from(tmp_path: Path) -> None:
    study = a_study(tmp_path / "w")
    plan = imagined_plan(study, COHORT)
    specs = plan.image_specs(Dataset.ROI, FreezePoint.MIXED9)
    nothing = minutes_table(plan, {}, None)
    assert set(nothing["source"]) == {"not measured"}
    assert nothing["minutes"].isna().all()
    results = {
        spec.trial_id: {"seconds": {"total": 60.0}, "levels": {"slice": {"metrics": {"auc": 0.5}}}}
        for spec in specs
    }
    table = minutes_table(plan, results, probe_for(study)).set_index("freeze_point")
    assert table.loc["mixed9", ["minutes", "source", "folds_measured"]].tolist() == [
        2.0,
        "measured",
        2,
    ]
    assert table.loc["mixed10", "source"] == "extrapolated"
    assert table.loc["mixed10", "zhou2019_minutes"] == 56.0
    half = {
        specs[0].trial_id: {
            "seconds": {"total": 60.0},
            "levels": {"slice": {"metrics": {"auc": 0.5}}},
        }
    }
    assert (
        minutes_table(plan, half, None).set_index("freeze_point").loc["mixed9", "source"]
        == "extrapolated"
    )  # one fold tells of the other

    page = write_bench(study, COHORT)
    assert "– not measured" in page
    write_probe(plan_work(study), probe_for(study))
    page = write_bench(study, COHORT)
    assert "| roi | 1.2 extrapolated | 0.2 extrapolated |" in page
    assert "a machine" in page
    assert {path.name for path in (tmp_path / "w" / "bench").iterdir()} == {
        "table4.csv",
        "table4.json",
        "table4.md",
    }
    assert "not measured" in write_bench(
        a_study(tmp_path / "w", precision="mixed_bfloat16"), COHORT
    )  # the probe holds for its own setting alone
    with pytest.raises(StudyError, match="needs both classes"):
        imagined_plan(study, Cohort(patients=3, malignant=2, slices=5))


def plan_work(study: Study) -> Place:
    return Place(study.work)


def test_a_plan_tells_floor_and_time(tmp_path: Path) -> None:
    from conftest import draw_patients, write_small_work

    study = a_study(tmp_path)
    work, _ = write_small_work(study, draw_patients(20))
    told = "\n".join(describe_plan(study, work))
    assert "floor, mixed9:" in told
    assert "`renal-ray plan --probe` measures" in told
    write_probe(work, probe_for(study))
    told = "\n".join(describe_plan(study, work))
    assert "at the 100 GFLOP/s of a matrix product (a machine, float32), 2 trials at once" in told
    assert "predicted from measured steps" in told
