"""The section of a search in the report: numbers against hand arithmetic, optimism marked,
everything escaped, the same bytes again."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from searches import best_at, hunt_of, play, study_with
from test_report_page import visible

from renal_ray.report import canvas, page
from renal_ray.report.page import write_report
from renal_ray.report.search.figure import search_drawings
from renal_ray.report.search.sentences import search_caveats, search_sentences
from renal_ray.report.search.tables import configurations_table, nested_table, search_tables
from renal_ray.report.search.words import AXIS_NAMES, nested_summary, written
from renal_ray.store.place import Place
from renal_ray.trial.search.outcome import keep_outcome, outcome

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
    "weight_decay": {"low": 1e-5, "high": 0.1, "log": True},
    "optimizer": ["sgd", "adam"],
    "augmentation": {"flip": [False, True]},
}


@pytest.fixture(scope="module", autouse=True)
def _coarse_png() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "PNG_DPI", 40)
        yield


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A nested search, as search.json holds it."""
    study = study_with(
        tmp_path_factory.mktemp("work"),
        {"space": SPACE, "configurations": 9, "startup": 4, "nested": True},
    )
    hunt, results = hunt_of(study), {}
    play(hunt, best_at(0.2), results, workers=2)
    return outcome(hunt, results, ())


def test_every_dimension_has_a_name() -> None:
    from renal_ray.config.search import AugmentationSpace, Space

    names = {name for name in Space.model_fields if name != "augmentation"} | {
        f"augmentation.{name}" for name in AugmentationSpace.model_fields
    }
    assert names == AXIS_NAMES.keys()


def test_the_table_is_ranked_and_its_numbers_are_those_of_the_folds(found: dict[str, Any]) -> None:
    table = configurations_table(found)
    data = table.data.set_index("number")
    assert len(data) == 9
    for row in found["configurations"]:
        aucs = list(row["aucs"].values())
        assert data.loc[row["number"], "auc_mean"] == pytest.approx(np.mean(aucs))
        assert (
            np.isnan(data.loc[row["number"], "auc_sd"])
            if len(aucs) < 2
            else data.loc[row["number"], "auc_sd"] == pytest.approx(np.std(aucs, ddof=1))
        )
        assert data.loc[row["number"], "folds"] == len(aucs)
    complete = table.data[table.data["state"] == "complete"]
    assert complete.index.tolist() == list(
        range(len(complete))
    )  # complete ones first, whatever the mean of those that were given up
    assert complete["auc_mean"].is_monotonic_decreasing
    assert table.rows[0].cells[0].endswith("(best)")
    assert table.data.iloc[0]["number"] == found["best"]
    given_up = [row.cells[1] for row in table.rows if row.cells[1] != "complete"]
    assert given_up
    assert all(
        re.fullmatch(
            r"(beaten by|without a chance against) (the study "
            r"file|\d+): −0\.\d{3}(, p (< )?0\.\d{3})?",
            standing,
        )
        for standing in given_up
    )
    assert any("Study file" in row.cells[0] for row in table.rows)


def test_the_nested_number_is_the_mean_over_outer_folds_and_the_one_to_report(
    found: dict[str, Any],
) -> None:
    summary = nested_summary(found)
    assert summary is not None
    assert summary["auc"] == pytest.approx(np.mean([row["auc"] for row in found["nested"]]))
    assert summary["own"] == pytest.approx(np.mean([row["own_auc"] for row in found["nested"]]))
    assert nested_table(found).rows[-1].cells[4] == f"{summary['auc']:.3f}"
    text = " ".join(search_sentences(found))
    assert f"Nested cross-validation: mean AUC {summary['auc']:.3f}" in text
    assert "This is the number to report." in text
    best = found["configurations"][found["best"]]
    assert f"{best['mean']:.3f} was searched for" in text
    assert "Optimistic:" not in text


def test_without_nesting_the_optimism_is_marked(found: dict[str, Any]) -> None:
    text = " ".join(search_sentences(found | {"nested": None}))
    assert (
        "Optimistic: the best mean of 9 configurations over the same "
        "folds is the largest of 9 noisy values"
    ) in text
    assert "Set search.nested: true" in text
    unfinished = copy.deepcopy(found)
    unfinished["nested"][0]["auc"] = None
    assert nested_summary(unfinished) is None
    assert "The nested cross-validation is not finished." in " ".join(search_sentences(unfinished))


def test_the_best_is_compared_with_the_study_file_s_own_fold_by_fold(found: dict[str, Any]) -> None:
    own, best = found["configurations"][0], found["configurations"][found["best"]]
    difference = np.mean([best["aucs"][fold] - own["aucs"][fold] for fold in own["aucs"]])
    text = " ".join(search_sentences(found))
    assert f"Configuration {best['number']} is the best" in text
    assert f"Paired difference {difference:.3f}" in text
    nothing = found | {"best": 0}
    assert "No configuration was better than the study file's own settings" in " ".join(
        search_sentences(nothing)
    )
    begun = found | {"best": None, "is_over": False}
    assert [*search_sentences(begun)][1:] == [
        "The search is not finished: `renal-ray search` continues it.",
        "No configuration is complete yet.",
    ]


def test_a_study_with_the_best_settings_says_that_they_were_chosen(found: dict[str, Any]) -> None:
    [caveat] = search_caveats(found, found["training"])
    assert "chosen by a search over 9 configurations on these folds" in caveat
    assert "optimistic" in caveat
    assert "Nested cross-validation of that search gave" in caveat
    assert "No nested cross-validation" in next(
        search_caveats(found | {"nested": None}, found["training"])
    )
    assert [*search_caveats(found, found["training"] | {"dropout": 0.9})] == []
    assert [*search_caveats(None, found["training"])] == []


def test_the_figure_shows_every_setting_and_own_zeros_on_a_logarithmic_axis(
    found: dict[str, Any],
) -> None:
    [drawing] = search_drawings(found)
    svg = drawing.svg.decode()
    for name in ("Learning rate", "Weight decay", "(0: at the left edge)", "Optimizer", "Mirrored"):
        assert f">{name}<" in svg
    assert next(search_drawings(found)).svg == drawing.svg
    assert [*search_drawings(None)] == []
    assert [*search_tables(None)] == []


def test_values_are_written_as_a_reader_writes_them() -> None:
    assert [written(value) for value in (True, False, 0.000123456, 32, "adam")] == [
        "yes",
        "no",
        "0.0001235",
        "32",
        "adam",
    ]


@pytest.mark.parametrize("nested", [True, False])
def test_the_page_has_the_section(tmp_path: Path, nested: bool) -> None:
    study = study_with(tmp_path, {"space": SPACE, "configurations": 6, "nested": nested})
    html = Path(write_report(study).page).read_text(encoding="utf-8")
    assert "No settings were searched for" in visible(html)
    hunt, results = hunt_of(study), {}
    play(hunt, best_at(0.2), results)
    keep_outcome(hunt, Place(study.work), results, ())
    html = Path(write_report(study).page).read_text(encoding="utf-8")
    text = visible(html)
    assert "6 configurations by a tree-structured Parzen estimator" in text
    assert ("Nested cross-validation of the search" in text) == nested
    assert ("Optimistic:" in text) != nested
    assert 'id="search-slices"' in html
    assert str(tmp_path) not in html
    before = {
        path: path.read_bytes() for path in (tmp_path / "report").rglob("*") if path.is_file()
    }
    assert (tmp_path / "report" / "tables" / "search-configurations.csv").is_file()
    write_report(study)
    assert {path: path.read_bytes() for path in before} == before


def test_a_search_on_another_split_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "draw_all", lambda evidence: iter(()))
    study = study_with(tmp_path, {"space": SPACE, "configurations": 3})
    hunt, results = hunt_of(study), {}
    play(hunt, best_at(0.2), results)
    found = outcome(hunt, results, ())
    Place(study.work).write_checked_json("search/search.json", found | {"splits": "another"})
    assert "No settings were searched for" in visible(
        Path(write_report(study).page).read_text(encoding="utf-8")
    )


def test_hostile_values_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "draw_all", lambda evidence: iter(()))
    study = study_with(tmp_path, {"space": SPACE, "configurations": 3})
    hunt, results = hunt_of(study), {}
    play(hunt, best_at(0.2), results)
    found = outcome(hunt, results, ())
    found["configurations"][1]["values"]["optimizer"] = "<script>alert(1)</script>"
    Place(study.work).write_checked_json("search/search.json", found)
    html = Path(write_report(study).page).read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
