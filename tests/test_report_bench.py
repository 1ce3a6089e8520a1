"""bench and plan on the command line, and what plan, bench and the speed table say where there is a
card, a control or no convolution to train."""

import json
from pathlib import Path

import pytest
from conftest import SmallWork
from test_report_trials import Synthetic, study_at
from test_trial_forecast import COHORT, a_study, probe_for
from typer.testing import CliRunner

from renal_ray import cli
from renal_ray.report.bench import Cohort, imagined_plan, write_bench
from renal_ray.report.evidence import read_evidence
from renal_ray.report.speed import speed_table
from renal_ray.report.text import DASH
from renal_ray.store.ledger import Ledger
from renal_ray.store.lock import held
from renal_ray.store.place import Place
from renal_ray.study_file import dump_study
from renal_ray.sweep import probing
from renal_ray.trial import forecast, status
from renal_ray.trial.forecast import Forecast, floor_of
from renal_ray.trial.probe import KindCost, Probe, write_probe
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.standing import describe
from renal_ray.trial.status import clock, slots_of
from renal_ray.types import FreezePoint, Head


def on_a_card(probe: Probe, **mib: float) -> Probe:
    """The same costs on a card of 80 GB, each kind with so much memory, 4000 MiB when not said."""
    kinds = {
        name: KindCost.model_validate(
            cost.model_dump() | {"gpu_memory_mib": mib.get(name.replace("-", "_"), 4000.0)}
        )
        for name, cost in probe.kinds.items()
    }
    return probe.model_copy(update={"gpu_memory_mib": 80000.0, "kinds": kinds})


def run(*words: object) -> str:
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_bench_counts_the_cohort_that_it_is_given(tmp_path: Path) -> None:
    study = a_study(tmp_path / "w", folds={"n": 2})
    file = tmp_path / "study.yaml"
    file.write_text(dump_study(study), encoding="utf-8")
    assert "153 training patients (44 benign, 109 malignant), 3060 images of 75 px" in run(
        "bench", file
    )
    told = run("bench", file, "--patients", 12, "--malignant", 8, "--slices", 5)
    assert "12 training patients (4 benign, 8 malignant), 60 images of 75 px" in told
    assert "`renal-ray bench --probe` measures the steps." in told
    assert told.count("not measured") == 2


def test_bench_and_plan_probe_first_when_asked(
    tmp_path: Path, trained: SmallWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = trained.copy(tmp_path / "work")
    file = tmp_path / "study.yaml"
    file.write_text(dump_study(small.study), encoding="utf-8")
    asked = []

    def measure(study, address):
        asked.append(address)
        write_probe(Place(study.work), probe_for(study))
        return probe_for(study)

    monkeypatch.setattr(probing, "probe_study", measure)
    assert "predicted from measured steps" not in run("plan", file)
    assert asked == []
    assert "predicted from measured steps" in run("plan", file, "--probe", "--address", "auto")
    assert "image-mixed9: 2,000.0 ms a step of 8, the first 10.0 s" in run("bench", file, "--probe")
    assert asked == ["auto", None]


def test_the_page_of_bench_ends_with_the_sweep_and_has_the_papers_minutes(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    write_probe(Place(study.work), probe_for(study))
    page = write_bench(study, COHORT).splitlines()
    assert "| Zhou et al. 2019, roi | 58.5 | 56.0 |" in page
    left = Forecast(imagined_plan(study, COHORT), {}, probe_for(study)).remaining(2)
    assert page[-1] == f"What is left of the whole sweep: {clock(left)}, 2 trials at once."
    [mixed9, _] = json.loads((tmp_path / "bench" / "table4.json").read_text(encoding="utf-8"))
    assert mixed9 == {
        "dataset": "roi",
        "freeze_point": "mixed9",
        "minutes": 1.2,
        "source": "extrapolated",
        "folds_measured": 0,
        "zhou2019_minutes": 58.5,
    }


def test_controls_and_heads_of_a_freeze_point_not_selected_yet_count_at_the_middle_one(
    tmp_path: Path,
) -> None:
    """Whatever the order that the study file lists them in."""
    for order in (["mixed0", "mixed6", "mixed10"], ["mixed10", "mixed0", "mixed6"]):
        plan = imagined_plan(
            a_study(tmp_path, controls={"permuted_labels": True, "permutations": 2}).model_copy(
                update={"freeze_points": points(order)}
            ),
            COHORT,
        )
        specs = Forecast(plan, {}, None).specs
        later = [spec for spec in specs if spec.labels != "true" or spec.head is not Head.IMAGE]
        assert len(specs) == plan.total()
        assert len(later) == 2 * 2 + 2 * 2
        assert {spec.freeze_point for spec in later} == {FreezePoint.MIXED6}


def points(names: list[str]) -> list[FreezePoint]:
    return [FreezePoint(name) for name in names]


def test_trials_that_share_a_card_share_its_rate(tmp_path: Path) -> None:
    plan = imagined_plan(
        a_study(
            tmp_path,
            training={"epochs": {"image": 3000}},
            resources={"cpus": 16, "gpus_per_trial": 1},
        ),
        COHORT,
    )
    probe = on_a_card(probe_for(plan.study))
    floor = floor_of(plan).total / 100
    assert floor > 60
    assert any(
        line.endswith(f", 4 trials at once on one card: {clock(floor)}")
        for line in status._costs(plan, {}, probe)
    )
    cores = imagined_plan(
        a_study(tmp_path, training={"epochs": {"image": 3000}}, resources={"cpus": 16}), COHORT
    )
    assert any(
        line.endswith(f", 16 trials at once: {clock(floor / 16)}")
        for line in status._costs(cores, {}, probe_for(cores.study))
    )
    # Steps were measured alone: sharing a card does not make the sum of them shorter.
    single = Forecast(cores, {}, probe_for(cores.study))
    alone = [single.seconds(spec) or 0 for spec in single.specs]
    shared = Forecast(plan, {}, probe)
    assert [shared.seconds(spec) for spec in shared.specs] == pytest.approx(
        [4 * one for one in alone]
    )
    assert (shared.remaining(4) or 0) >= sum(alone)


def test_the_longest_trials_say_how_many_fit_whatever_the_order_of_freeze_points(
    tmp_path: Path,
) -> None:
    for order in (["mixed9", "mixed10"], ["mixed10", "mixed9"]):
        study = a_study(tmp_path, resources={"cpus": 16, "gpus_per_trial": 1}).model_copy(
            update={"freeze_points": points(order)}
        )
        assert slots_of(study, on_a_card(probe_for(study), image_mixed9=30000.0)) == 2


def test_the_floor_is_told_in_tflop(tmp_path: Path) -> None:
    plan = imagined_plan(a_study(tmp_path, training={"epochs": {"image": 3000}}), COHORT)
    floor = floor_of(plan)
    told = list(status._costs(plan, {}, None))
    assert told[0] == (
        f"floor, mixed9: {floor.suffixes[FreezePoint.MIXED9] / 1e3:,.1f} TFLOP to train its suffix"
    )
    assert told[2].startswith(f"floor, all: {floor.total / 1e3:,.1f} TFLOP")


def test_a_forecast_counts_a_fold_once_however_many_trials_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = imagined_plan(
        a_study(tmp_path, controls={"permuted_labels": True, "permutations": 50}), Cohort()
    )
    counted = []
    monkeypatch.setattr(
        forecast,
        "trial_load",
        lambda *of, load=forecast.trial_load: counted.append(of) or load(*of),
    )
    assert Forecast(plan, {}, probe_for(plan.study)).remaining(2)
    assert len(counted) == 3 * 2  # heads, folds


def test_status_tells_the_time_that_is_left_and_survives_a_trial_that_ends_meanwhile(
    trained: SmallWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = trained.copy(tmp_path / "work")
    write_probe(small.work, probe_for(small.study))
    first, *_ = small.plan.specs({})
    Ledger(small.work).begin(first.trial_id, first.to_json())
    small.work.write_json(f"trials/{first.trial_id}/progress.json", {})
    read = Place.read

    def gone(place: Place, name: str) -> bytes:
        if name == "progress.json":
            place.remove(name)
        return read(place, name)

    monkeypatch.setattr(Place, "read", gone)
    with held(small.work):
        lines = list(describe(small.study, small.work))
    assert not any(line.startswith(first.trial_id) for line in lines)
    assert (
        f"left: about {clock(Forecast(small.plan, {}, probe_for(small.study)).remaining(2))}"
        in lines
    )


def test_the_speed_of_what_trains_no_convolution_has_no_floor(tmp_path: Path) -> None:
    made = Synthetic(study_at(tmp_path, datasets=["roi"], freeze_points=["mixed6", "mixed10"]))
    made.train(heads=[Head.IMAGE])
    for folder in Place(str(tmp_path)).at("trials").entries():
        spec = TrialSpec.from_json(
            json.loads((tmp_path / "trials" / folder / "spec.json").read_text(encoding="utf-8"))
        )
        result = json.loads(
            (tmp_path / "trials" / folder / "result.json").read_text(encoding="utf-8")
        )
        Ledger(made.work).finish(
            spec.trial_id, result | {"samples": 570, "matrix_gflops": 40.0 + spec.fold}
        )
    table = speed_table(read_evidence(made.study))
    [mixed10] = [row.cells for row in table.rows if row.cells[0] == "mixed10"]
    assert mixed10 == ("mixed10", "10.0", DASH, "42.0", DASH, "4.75", DASH)
    [mixed6] = [row.cells for row in table.rows if row.cells[0] == "mixed6"]
    assert DASH not in mixed6
