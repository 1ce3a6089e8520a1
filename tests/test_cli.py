"""The command line: exit codes, and one sentence for what cannot run."""

import re
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from conftest import SmallWork
from typer.testing import CliRunner

import renal_ray
from renal_ray import cli
from renal_ray.problems import StrictError, StudyError
from renal_ray.study_file import dump_study

COMMANDS = ("prepare", "plan", "sweep", "test", "explain", "report", "run", "status")


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def study_file(folder: Path, **changes: object) -> Path:
    file = folder / "study.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "name": "some",
                "work": str(folder / "work"),
                "cohort": {"manifest": str(folder / "people.csv")},
            }
            | changes
        ),
        encoding="utf-8",
    )
    return file


def refused(result: Result, *said: str) -> None:
    """Exit code 2, and one sentence on stderr that says it."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("renal-ray: ")
    for word in said:
        assert word in line


def test_the_version() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output.strip()) == (0, renal_ray.__version__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", renal_ray.__version__)


def test_without_a_command_there_is_help() -> None:
    result = invoke()
    assert "Usage: " in result.output
    for command in ("phantom", *COMMANDS):
        assert command in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_no_study_file_is_refused(command: str, tmp_path: Path) -> None:
    refused(invoke(command, tmp_path / "nowhere.yaml"), "no such study file", "nowhere.yaml")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_key_is_refused(command: str, tmp_path: Path) -> None:
    refused(
        invoke(command, study_file(tmp_path), "--set", "training.lerning_rate=1"),
        "training.lerning_rate",
        "unknown key",
    )
    assert not (tmp_path / "work").exists()


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("command", ["plan", "test", "report"])
def test_an_unprepared_study_is_refused(command: str, tmp_path: Path) -> None:
    refused(invoke(command, study_file(tmp_path)), "renal-ray prepare")


def test_the_status_of_an_unprepared_study(tmp_path: Path) -> None:
    result = invoke("status", study_file(tmp_path))
    assert (result.exit_code, result.output) == (
        0,
        "some: not prepared yet; run `renal-ray prepare`\n",
    )
    assert not (tmp_path / "work").exists()


def test_a_work_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    refused(
        invoke("prepare", study_file(tmp_path, work=str(tmp_path / "file" / "work"))),
        "cannot be written",
    )


def test_another_study_s_work_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "study.yaml").write_text("name: other\n", encoding="utf-8")
    refused(invoke("prepare", study_file(tmp_path)), "holds the study 'other'")


@pytest.mark.usefixtures("local_ray")
def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(invoke("prepare", study_file(tmp_path)), "people.csv")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StudyError("a: b; do c"), 2),
        (StrictError("--strict: patient p: code"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_went_wrong_becomes_an_exit_code(
    error: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.study, "working", fails)
    result = invoke("sweep", study_file(tmp_path))
    assert result.exit_code == code
    assert "Traceback" not in result.output
    if code == 130:
        assert "the same command continues from there" in result.stderr
    else:
        assert result.stderr == f"renal-ray: {error}\n"


def test_a_defect_is_no_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not the user's doing shows its traceback."""

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.study, "open_study", fails)
    assert isinstance(invoke("plan", study_file(tmp_path)).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    "words",
    [
        ["prepare"],
        ["plan", "a", "b"],
        ["nonsense"],
        ["plan", "a", "--nonsense"],
        ["phantom", "x", "--patients", "0"],
    ],
)
def test_wrong_usage_exits_with_2(words: list[str]) -> None:
    assert invoke(*words).exit_code == 2


@pytest.mark.usefixtures("local_ray")
def test_strict_exits_with_1(phantom_manifest: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "people.csv"
    lines = phantom_manifest.read_text(encoding="utf-8").splitlines()
    cells = [line.split(",") for line in lines]
    for row in cells[1:]:
        row[2:4] = [str(phantom_manifest.parent / name) for name in row[2:4]]
    cells[1][3] = str(tmp_path / "gone.dcm")
    manifest.write_text("\n".join(",".join(row) for row in cells) + "\n", encoding="utf-8")
    file = study_file(
        tmp_path, images={"size": 75}, weights="random", folds={"n": 2, "method": "stratified"}
    )
    for command in ("prepare", "run"):
        result = invoke(command, file, "--strict")
        assert result.exit_code == 1, result.output
        assert "renal-ray: --strict: patient phantom-0001" in result.stderr
        assert "file-missing" in result.stderr
        assert not (tmp_path / "work" / "splits.json").exists()
    result = invoke("prepare", file)
    assert result.exit_code == 0, result.output
    assert "prepared 17 patients" in result.output
    assert "1 patients left out" in result.output
    assert "file-missing: 1, see quarantine.csv" in result.output


def test_the_phantom_command(tmp_path: Path) -> None:
    result = invoke(
        "phantom", tmp_path / "out", "--patients", "2", "--seed", "3", "--format", "kits"
    )
    assert result.exit_code == 0, result.output
    assert result.output.strip().endswith(f"wrote {tmp_path / 'out' / 'manifest.csv'}")
    assert len((tmp_path / "out" / "manifest.csv").read_text(encoding="utf-8").splitlines()) == 3
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("", encoding="utf-8")
    refused(invoke("phantom", tmp_path / "full", "--patients", "2"))


def test_plan_status_and_report_of_a_trained_study(trained: SmallWork, tmp_path: Path) -> None:
    small = trained.copy(tmp_path / "work")
    file = tmp_path / "study.yaml"
    file.write_text(dump_study(small.study), encoding="utf-8")
    planned = invoke("plan", file)
    assert planned.exit_code == 0, planned.output
    assert (
        "12 trials (roi x mixed9, mixed10 x 2 folds; heads image, fc, gru), 0 of them finished"
        in planned.output
    )
    told = invoke("status", file)
    assert (told.exit_code, told.output.splitlines()[0]) == (
        0,
        "small: 0 of 12 trials finished, 0 failed, 0 running, 12 waiting",
    )
