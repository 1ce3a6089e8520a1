"""The presets: each says how it is run, loads, and passes its own dry run."""

from pathlib import Path

import pytest
from conftest import REPOSITORY
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.study_file import load_study
from renal_ray.types import DATASETS, FREEZE_POINTS, HEADS

PRESETS = sorted((REPOSITORY / "configs").glob("*.yaml"))
NAMED = {preset.stem: preset for preset in PRESETS}


def test_there_are_presets() -> None:
    assert {"smoke", "paper", "kits23"} <= NAMED.keys()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_opens_with_what_one_must_know(preset: Path) -> None:
    lines = preset.read_text(encoding="utf-8").splitlines()
    for line, word in zip(lines, ("command:", "hardware:", "time:", "expect:"), strict=False):
        assert line.startswith(f"# {word}"), line
        assert len(line.removeprefix(f"# {word}").strip()) > 10
    assert f"configs/{preset.name}" in lines[0] or "make " in lines[0]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_loads_under_its_own_name(preset: Path) -> None:
    study = load_study(preset)
    assert study.name == preset.stem
    assert study.work.endswith(f"runs/{preset.stem}")


def test_the_paper_s_preset_is_the_paper_s_protocol() -> None:
    study = load_study(NAMED["paper"])
    assert (study.datasets, study.freeze_points, study.heads.use) == (
        list(DATASETS),
        list(FREEZE_POINTS),
        list(HEADS),
    )
    assert (study.folds.n, study.folds.method, study.split.test_fraction) == (5, "approximate", 0.2)
    training = study.training
    assert (training.epochs.image, training.epochs.fc, training.epochs.gru) == (150, 100, 300)
    assert (training.learning_rate, training.momentum, training.batch_size) == (0.01, 0.9, 32)
    assert (training.bn_statistics, training.keep, study.weights, study.images.size) == (
        "moving",
        "last",
        "imagenet",
        299,
    )


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("local_ray")
def test_a_preset_passes_its_dry_run(preset: Path) -> None:
    study = load_study(preset)
    done = CliRunner().invoke(app, ["run", str(preset), "--dry-run"])
    assert done.exit_code == 0, done.output
    for point in study.freeze_points:
        assert f"image at {point}: " in done.output
    for head in study.heads.use:
        assert f"{head} at " in done.output
