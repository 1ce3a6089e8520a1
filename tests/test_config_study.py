"""The study file: what it accepts, what it refuses, and that it says where and what."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from renal_ray.config import Study
from renal_ray.config.strict_yaml import read_yaml
from renal_ray.problems import StudyError
from renal_ray.study_file import dump_study, load_study
from renal_ray.types import DATASETS, FREEZE_POINTS, HEADS

BASE = {"name": "some", "work": "work", "cohort": {"manifest": "people.csv"}}


def study_file(folder: Path, **changes: object) -> Path:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(BASE | changes), encoding="utf-8")
    return file


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A pydantic model and all that its fields hold."""
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from models(kind)


def leaves(value: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, inner in value.items():
        yield from leaves(inner, (*path, key)) if isinstance(inner, dict) else [(*path, key)]


def test_the_definitions_defaults_stand() -> None:
    study = Study.model_validate(BASE)
    assert (study.datasets, study.freeze_points, study.heads.use) == (
        list(DATASETS),
        list(FREEZE_POINTS),
        list(HEADS),
    )
    assert (study.selection.min_area_fraction, study.selection.max_slices, study.images.size) == (
        0.25,
        None,
        299,
    )
    assert (study.split.test_fraction, study.split.stratify) == (0.2, True)
    assert (study.folds.n, study.folds.method, study.fold_numbers) == (
        5,
        "approximate",
        [0, 1, 2, 3, 4],
    )
    training = study.training
    assert (training.epochs.image, training.epochs.fc, training.epochs.gru) == (150, 100, 300)
    assert (training.batch_size, training.learning_rate, training.momentum) == (32, 0.01, 0.9)
    assert (training.embedding, training.gru_units, training.gru_l2) == (1024, 256, 1e-4)
    assert (training.keep, training.bn_statistics) == ("last", "reestimated")
    assert study.heads.freeze_points == "selected"


def test_every_key_is_described_and_no_section_takes_unknown_ones() -> None:
    found = list(models(Study))
    assert len(found) >= 10
    for model in found:
        assert model.__doc__, model
        assert model.model_config.get("extra") == "forbid", model
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert len(field.description) > 10, f"{model.__name__}.{name}"


@pytest.mark.parametrize(
    "where",
    [
        (),
        ("training",),
        ("training", "epochs"),
        ("cohort",),
        ("controls",),
        ("resources",),
        ("folds",),
    ],
)
def test_an_unknown_key_is_refused_with_file_and_place(
    tmp_path: Path, where: tuple[str, ...]
) -> None:
    raw: dict = yaml.safe_load(yaml.safe_dump(BASE))
    section = raw
    for step in where:
        section = section.setdefault(step, {})
    section["lerning_rate"] = 1
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load_study(file)
    message = str(caught.value)
    assert str(file) in message
    assert ".".join((*where, "lerning_rate")) in message
    assert "unknown key" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"datasets": []}, "datasets"),
        ({"datasets": ["roi", "roi"]}, "listed twice"),
        ({"datasets": ["kidney"]}, "datasets.0"),
        ({"freeze_points": ["mixed5"]}, "freeze_points.0"),
        ({"freeze_points": ["mixed0", "mixed0"]}, "listed twice"),
        ({"images": {"size": 74}}, "images.size"),
        ({"split": {"test_fraction": 1}}, "split.test_fraction"),
        ({"split": {"test_fraction": 0}}, "split.test_fraction"),
        ({"folds": {"n": 1}}, "folds.n"),
        ({"folds": {"n": 3, "run": [3]}}, "0..2"),
        ({"folds": {"n": 3, "run": [-1]}}, "0..2"),
        ({"folds": {"run": []}}, "folds.run"),
        ({"heads": {"use": ["fc"]}}, "add image"),
        ({"heads": {"use": ["image", "fc", "fc"]}}, "listed twice"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate"),
        ({"training": {"momentum": 1}}, "training.momentum"),
        ({"training": {"epochs": {"image": 0}}}, "training.epochs.image"),
        ({"training": {"keep": "first"}}, "training.keep"),
        ({"training": []}, "training"),
        ({"name": "a/b"}, "name"),
        ({"work": ""}, "work"),
        ({"seed": -1}, "seed"),
        ({"selection": {"min_area_fraction": 1.5}}, "selection.min_area_fraction"),
        ({"resources": {"gpus_per_trial": -1}}, "resources.gpus_per_trial"),
        ({"cohort": {}}, "exactly one"),
        ({"cohort": {"manifest": "a.csv", "kits": "b"}}, "exactly one"),
        ({"cohort": {"manifest": "a.csv", "dicom": "b", "labels": "c.csv"}}, "exactly one"),
        ({"cohort": {"dicom": "b"}}, "labels"),
        ({"cohort": {"manifest": "a.csv", "labels": "c.csv"}}, "labels"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(
    tmp_path: Path, changes: dict, said: str
) -> None:
    file = study_file(tmp_path, **changes)
    with pytest.raises(StudyError) as caught:
        load_study(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "cohort",
    [{"manifest": "a.csv"}, {"kits": "folder"}, {"dicom": "folder", "labels": "labels.csv"}],
)
def test_each_source_of_patients_stands_alone_and_becomes_absolute(
    tmp_path: Path, cohort: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = load_study(study_file(tmp_path, cohort=cohort, weights="some/file.h5"))
    for name, value in cohort.items():
        assert getattr(study.cohort, name) == tmp_path / value
    assert study.work == str(tmp_path / "work")
    assert study.weights == str(tmp_path / "some" / "file.h5")


@pytest.mark.parametrize("value", ["imagenet", "random"])
def test_named_weights_are_no_paths(tmp_path: Path, value: str) -> None:
    assert load_study(study_file(tmp_path, weights=value)).weights == value


@pytest.mark.parametrize("work", ["s3://bucket/prefix", "gs://bucket/prefix"])
def test_object_storage_is_left_as_given(tmp_path: Path, work: str) -> None:
    assert load_study(study_file(tmp_path, work=work)).work == work


def test_overrides_reach_every_depth_and_are_read_as_yaml(tmp_path: Path) -> None:
    overrides = [
        "training.epochs.image=2",
        "training.keep=best_val_auc",
        "freeze_points=[mixed9, mixed10]",
        "folds.run=[1]",
        "controls.permuted_labels=true",
        "selection.max_slices=null",
        " seed =5",
        "seed=6",
    ]
    study = load_study(study_file(tmp_path, selection={"max_slices": 3}), overrides)
    assert study.training.epochs.image == 2
    assert study.training.epochs.fc == 100
    assert study.training.keep == "best_val_auc"
    assert study.freeze_points == ["mixed9", "mixed10"]
    assert study.fold_numbers == [1]
    assert study.controls.permuted_labels is True
    assert study.selection.max_slices is None
    assert study.seed == 6  # the last one counts


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.batch_size", "expected key=value"),
        ("=3", "expected key=value"),
        ("seed=[1", "not readable as YAML"),
        ("seed.more=1", "seed is a value"),
        ("training.bach_size=16", "training.bach_size: unknown key"),
        ("epochs=3", "epochs: unknown key"),
        ("training.epochs=3", "training.epochs"),
        ("seed=abc", "seed"),
    ],
)
def test_a_bad_override_is_refused(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(StudyError, match=said.replace(".", r"\.")):
        load_study(study_file(tmp_path, seed=3), [override])


def test_what_is_dumped_loads_back_equal(tmp_path: Path) -> None:
    study = load_study(
        study_file(
            tmp_path,
            folds={"n": 3, "run": [0, 2]},
            training={"gru_l2": 1e-5, "keep": "best_val_auc"},
        )
    )
    file = tmp_path / "again.yaml"
    file.write_text(dump_study(study), encoding="utf-8")
    assert load_study(file) == study
    file.write_text(dump_study(study, {"versions": {"numpy": "0"}, "hashes": {}}), encoding="utf-8")
    assert load_study(file) == study
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["provenance"]["versions"] == {
        "numpy": "0"
    }


def test_the_record_in_a_work_directory_is_that_work_directory_too(tmp_path: Path) -> None:
    (tmp_path / "work" / "slices").mkdir(parents=True)
    study = load_study(study_file(tmp_path), [f"work={tmp_path / 'work'}"])
    record = tmp_path / "work" / "study.yaml"
    record.write_text(dump_study(study, {"hashes": {}}), encoding="utf-8")
    shutil.copytree(tmp_path / "work", tmp_path / "copy")
    assert load_study(tmp_path / "copy" / "study.yaml").work == str(tmp_path / "copy")
    assert load_study(tmp_path / "copy" / "study.yaml", ["work=/other"]).work == "/other"
    # A study file, though it was a record once: beside it lies no study.
    shutil.copy(record, tmp_path / "study.yaml")
    assert load_study(tmp_path / "study.yaml").work == study.work


@pytest.mark.parametrize("name", ["08", "0128", "1e3", "1.5e3", "-.5E3", "017", "on", "2026-01-31"])
def test_a_name_that_looks_like_a_number_loads_back_as_the_name(tmp_path: Path, name: str) -> None:
    study = load_study(study_file(tmp_path), [f"name='{name}'"])
    file = tmp_path / "again.yaml"
    file.write_text(dump_study(study, {"hashes": {"cohort": name}}), encoding="utf-8")
    assert load_study(file) == study
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["name"] == name


def test_merge_keys_are_resolved_and_no_key_given_twice(tmp_path: Path) -> None:
    nested = "deep:\n  first: &a {p: 1}\n  second: &b {<<: *a, p: 2}\nflat: {<<: *b}\n"
    assert read_yaml(nested) == {"deep": {"first": {"p": 1}, "second": {"p": 2}}, "flat": {"p": 2}}


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!int '0x10'",
        "seed: !!bool x",
        "seed: !!timestamp x",
        f"seed: {'1' * 5000}",
        f"seed: {'[' * 3000}",
    ],
    ids=["int", "bool", "timestamp", "digits", "nested"],
)
def test_what_no_reader_can_make_a_value_of_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"name: some\nwork: work\n{text}\n", encoding="utf-8")
    with pytest.raises(StudyError, match="not readable as YAML"):
        load_study(file)


def test_a_dump_names_every_key(tmp_path: Path) -> None:
    text = dump_study(load_study(study_file(tmp_path)))
    assert set(leaves(yaml.safe_load(text))) == set(
        leaves(Study.model_validate(BASE).model_dump(mode="json"))
    )


def test_a_directory_is_the_work_directory_wherever_it_was_copied_to(tmp_path: Path) -> None:
    study = load_study(study_file(tmp_path))
    assert load_study(tmp_path) == study.model_copy(update={"work": str(tmp_path)})
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert load_study(tmp_path / "copy") == study.model_copy(
        update={"work": str(tmp_path / "copy")}
    )
    assert load_study(tmp_path / "copy", [f"work={tmp_path / 'other'}"]).work == str(
        tmp_path / "other"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 3\nseed: 4\n", "'seed' stands in line 4 and again in line 5"),
        (
            "training: {batch_size: 8}\ntraining: {momentum: 0.5}\n",
            "'training' stands in line 4 and again in line 5",
        ),
        ("training: {epochs: {image: 8, image: 9}}\n", "'image' stands in line 4 and again"),
        ("seed: 017\n", "017 in line 4 begins with a zero"),
        ("folds: {run: [0, 01]}\n", "01 in line 4 begins with a zero"),
        (
            "training: {learning_rate: on}\n",
            "training.learning_rate: Input should be a valid number",
        ),
        ("seed: yes\n", "seed: Input should be a valid integer"),
        (
            "training: {batch_size: true}\n",
            "training.batch_size: true or false is given where a number is expected",
        ),
        (
            "robustness: {mask_mm: [true, 5]}\n",
            "robustness.mask_mm: true or false is given where a number is expected",
        ),
        (
            "resources: {trial_timeout: 1:30}\n",
            "resources.trial_timeout: Input should be a valid number",
        ),
    ],
)
def test_nothing_in_a_study_file_is_lost_or_turned_into_a_number(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: some\nwork: work\ncohort: {manifest: people.csv}\n" + text, encoding="utf-8"
    )
    with pytest.raises(StudyError) as caught:
        load_study(file)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("controls: {permuted_labels: yes}", "controls.permuted_labels", True),
        ("controls: {permuted_labels: off}", "controls.permuted_labels", False),
        ("training: {learning_rate: 1e-3}", "training.learning_rate", 0.001),
        ("training: {gru_l2: 0}", "training.gru_l2", 0.0),
        (
            "cohort: {manifest: people.csv, lesion_segments: [on, '017', 3]}",
            "cohort.lesion_segments",
            ["on", "017", 3],
        ),
        ("name: 2026-01-31", "name", "2026-01-31"),
        ("selection: {max_slices: ~}", "selection.max_slices", None),
    ],
)
def test_words_stay_words_and_numbers_numbers(
    tmp_path: Path, text: str, key: str, value: object
) -> None:
    file = tmp_path / "study.yaml"
    given = [
        line
        for line in ("name: some", "work: work", "cohort: {manifest: people.csv}")
        if not text.startswith(line.split(":")[0])
    ]
    file.write_text("\n".join([*given, text]), encoding="utf-8")
    found: object = load_study(file)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "not readable as YAML"),
        ("- a list", "mapping"),
        ("", "mapping"),
        ("just words", "mapping"),
        (
            "name: !!python/object/apply:os.getcwd []\nwork: a\ncohort: {manifest: b}\n",
            "not readable as YAML",
        ),
        ("work: a", "name: Field required"),
        ("1: 2", "1"),
        ("? [a, b]\n: c\n", "not readable as YAML"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load_study(file)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_or_undecodable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such study file"):
        load_study(tmp_path / "nowhere.yaml")
    with pytest.raises(StudyError, match="no such study file"):
        load_study(tmp_path)
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(StudyError, match="not readable as YAML"):
        load_study(file)


def test_a_study_cannot_be_changed_by_accident() -> None:
    study = Study.model_validate(BASE)
    for section, name in itertools.chain(
        [(study, "seed")], [(study.training, "learning_rate"), (study.folds, "n")]
    ):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, name, 1)
