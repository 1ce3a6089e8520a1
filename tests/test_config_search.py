"""The section `search` of a study file: what it accepts and what it refuses, and in which words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from renal_ray.config import Search, Space, Span, Study, WholeSpan
from renal_ray.config.search import nested
from renal_ray.problems import StudyError
from renal_ray.study_file import dump_study, load_study

BASE = {"name": "some", "work": "work", "cohort": {"manifest": "people.csv"}}
SPACE = {
    "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "optimizer": ["sgd", "adam"],
    "augmentation": {"flip": [False, True], "rotate_deg": [0, 10]},
}


def load(folder: Path, search: dict[str, Any], **changes: Any) -> Study:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(BASE | {"search": search} | changes), encoding="utf-8")
    return load_study(file)


def test_a_study_without_a_search_has_none() -> None:
    assert Study.model_validate(BASE).search is None


def test_defaults_and_round_trip(tmp_path: Path) -> None:
    study = load(tmp_path, {"space": SPACE})
    search = study.search
    assert search is not None
    assert (search.sampler, search.configurations, search.nested, search.screen) == (
        "tpe",
        30,
        False,
        None,
    )
    assert search.stop is not None
    assert (search.stop.folds, search.stop.alpha) == (2, 0.1)
    assert list(search.space.dimensions) == [
        "learning_rate",
        "optimizer",
        "augmentation.flip",
        "augmentation.rotate_deg",
    ]
    again = tmp_path / "again.yaml"
    again.write_text(dump_study(study), encoding="utf-8")
    assert load_study(again) == study


def test_whole_numbers_and_numbers_are_told_apart() -> None:
    space = Space.model_validate(
        {
            "batch_size": {"low": 8, "high": 64, "log": True},
            "dropout": {"low": 0, "high": 0.5},
            "embedding": [64, 128],
        }
    )
    assert isinstance(space.batch_size, WholeSpan)
    assert isinstance(space.dropout, Span)
    assert not isinstance(space.dropout, WholeSpan)
    assert space.embedding == [64, 128]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({}, "search.space: Field required"),
        ({"space": {}}, "space: nothing is to be searched"),
        ({"space": {"lerning_rate": [0.1]}}, "search.space.lerning_rate: unknown key"),
        ({"space": SPACE, "samplers": "tpe"}, "search.samplers: unknown key"),
        (
            {"space": {"augmentation": {"shear": [1]}}},
            "search.space.augmentation.shear: unknown key",
        ),
        ({"space": {"learning_rate": {"low": 0.1, "high": 0.1}}}, "low 0.1 is not below high 0.1"),
        (
            {"space": {"weight_decay": {"low": 0, "high": 0.1, "log": True}}},
            "low 0 has no logarithm",
        ),
        ({"space": {"learning_rate": [0.1, -1]}}, "learning_rate: -1.0 cannot be tried"),
        ({"space": {"dropout": {"low": 0, "high": 1}}}, "dropout: 1.0 cannot be tried"),
        (
            {"space": {"augmentation": {"rotate_deg": [90]}}},
            "augmentation.rotate_deg: 90.0 cannot be tried",
        ),
        ({"space": {"embedding": []}}, "embedding: no value is listed"),
        ({"space": {"batch_size": [8, 8]}}, "batch_size: a value is listed twice"),
        ({"space": {"optimizer": ["lion"]}}, "search.space.optimizer.0"),
        ({"space": {"freeze_point": ["mixed4"]}}, "search.space.freeze_point.0"),
        ({"space": SPACE, "sampler": "grid"}, "space.learning_rate: sampler: grid needs lists"),
        (
            {
                "space": {"embedding": list(range(1, 200)), "batch_size": list(range(1, 200))},
                "sampler": "grid",
            },
            "39,601 combinations are more than 10,000",
        ),
        ({"space": {"gru_units": [8, 16]}}, "space.gru_units: the image head does not read it"),
        (
            {"space": {"freeze_point": ["mixed9"]}, "freeze_point": "mixed9"},
            "it is searched over in space",
        ),
        ({"space": SPACE, "stop": {"folds": 1}}, "search.stop.folds"),
        ({"space": SPACE, "stop": {"alpha": 0.7}}, "search.stop.alpha"),
        ({"space": SPACE, "screen": {"fold": 9}}, "search.screen.fold: 9 is none of the folds"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_words(
    tmp_path: Path, search: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudyError) as caught:
        load(tmp_path, search)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("search", "study", "words"),
    [
        (
            {"dataset": "rbr"},
            {"datasets": ["roi"]},
            "search.dataset: rbr is none of the study's datasets",
        ),
        (
            {"head": "gru"},
            {"heads": {"use": ["image"]}},
            "search.head: gru is none of the study's heads",
        ),
        (
            {"nested": True},
            {"training": {"keep": "best_val_auc"}},
            "search.nested: training.keep must be last",
        ),
        ({"nested": True}, {"folds": {"n": 2}}, "search.nested: at least 3 folds"),
        ({"nested": True}, {"folds": {"n": 5, "run": [0, 1]}}, "search.nested: at least 3 folds"),
    ],
)
def test_what_the_rest_of_the_study_does_not_allow_is_refused(
    tmp_path: Path, search: dict[str, Any], study: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudyError, match=words):
        load(tmp_path, {"space": SPACE} | search, **study)


def test_the_gru_s_settings_belong_to_its_own_search() -> None:
    assert Search.model_validate(
        {"space": {"gru_units": [8], "gru_layers": [1, 2]}, "head": "gru"}
    ).space.gru_layers == [1, 2]


def test_settings_are_gathered_by_section() -> None:
    values = {"learning_rate": 0.1, "augmentation.flip": True, "augmentation.copies": 2}
    assert nested(values) == {"learning_rate": 0.1, "augmentation": {"flip": True, "copies": 2}}
    assert nested({"dropout": 0.5}) == {"dropout": 0.5}
