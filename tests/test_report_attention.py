"""The section on attention: its table against independent arithmetic, its cards, its pictures pixel
by pixel, and what it says when there is nothing."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_report_page import visible
from test_report_trials import HOSTILE, Synthetic, study_at

from renal_ray.config import Study, Training
from renal_ray.report import attention as section
from renal_ray.report import page
from renal_ray.report.evidence import read_evidence
from renal_ray.report.page import write_report
from renal_ray.report.render import render
from renal_ray.report.text import probability
from renal_ray.trial.attended import Explained, measured, write_explained
from renal_ray.trial.explain import Look
from renal_ray.trial.lesions import Lesion
from renal_ray.trial.pictures import Picture
from renal_ray.trial.plan import finished_results, make_plan
from renal_ray.trial.subjects import ERROR, OTHER, image_models, state, subjects

SIZE = 96
LACKING = f"the files give other pixels {HOSTILE}"


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "draw_all", lambda evidence: iter(()))


def disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return (y - 40) ** 2 + (x - 56) ** 2 < radius**2


def explain(made: Synthetic, *, opened: bool, places: int = 8) -> Explained:
    """Writes WORK/explain/ as `renal-ray explain` does, of drawn evidence: the first training
    patient has no contour, the second an empty map."""
    plan, results = make_plan(made.study, made.work), finished_results(made.work)
    models = {dataset: image_models(plan, dataset, results) for dataset in made.study.datasets}
    asked = subjects(made.study, made.work, models, opened=opened)
    rng, rows, pictures = np.random.default_rng(3), [], []
    first, second = sorted(made.splits.training)[:2]
    for subject in asked:
        evidence = rng.normal(0.5, 1, (len(subject.folds), places, places)).astype(np.float32)
        if subject.patient_id == second:
            evidence = -np.abs(evidence)
        lesion = (
            Lesion({}, LACKING)
            if subject.patient_id == first
            else Lesion({subject.dataset: disc(rng.uniform(8, 30))})
        )
        seen = Look(0, 7, evidence, rng.normal(0.5, 1, evidence.shape).astype(np.float32))
        row, attention = measured(
            subject, seen, lesion, size=SIZE, point=models[subject.dataset][0].freeze_point
        )
        rows.append(row)
        if subject.kind != OTHER:
            image = (
                rng.integers(0, 256, (SIZE // 4, SIZE // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
            )
            pictures.append(Picture.of(subject, seen, image, attention, lesion))
    return write_explained(
        made.work,
        rows,
        pictures,
        state(made.study, made.work, models, results, opened=opened),
        size=SIZE,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Synthetic, Explained, str]:
    made = Synthetic(study_at(tmp_path_factory.mktemp("work")))
    made.train()
    made.test()
    explained = explain(made, opened=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "draw_all", lambda evidence: iter(()))
        write_report(made.study)
    return made, explained, html_of(made)


def html_of(made: Synthetic) -> str:
    return (Path(made.study.work) / "report/index.html").read_text(encoding="utf-8")


def seen(html: str) -> str:
    """The text of the section alone."""
    start = html.index('<section id="attention">')
    return visible(html[start : html.index("</section>", start)])


def test_the_table_equals_independent_arithmetic(whole: tuple[Synthetic, Explained, str]) -> None:
    made, _, html = whole
    table = pd.read_csv(Path(made.study.work) / "report/tables/attention.csv").set_index("dataset")
    rows = pd.read_parquet(Path(made.study.work) / "explain/attention.parquet")
    for dataset in ("roi", "slice"):
        mine = rows[(rows["dataset"] == dataset) & (rows["part"] == "validation")]
        assert len(mine) == len(made.splits.training)
        counted = mine.dropna(subset=["share_inside"])
        assert table.loc[dataset, "n_patients"] == len(counted) == len(mine) - 2
        assert (table.loc[dataset, "n_empty"], table.loc[dataset, "n_without_contour"]) == (1, 1)
        for name in ("share_inside", "area_share"):
            mean, sd = (
                np.mean(counted[name].to_numpy(float)),
                np.std(counted[name].to_numpy(float), ddof=1),
            )
            assert table.loc[dataset, f"{name}_mean"] == pytest.approx(mean, abs=1e-5)
            assert table.loc[dataset, f"{name}_sd"] == pytest.approx(sd, abs=1e-5)
            assert f"{mean:.2f} ± {sd:.2f}" in seen(html)
        assert abs(table.loc[dataset, "redrawn_correlation_mean"]) < 0.1  # drawn independently
        assert table.loc[dataset, "freeze_point"] == "mixed6"
    assert re.search(r"Slice mixed6 8 × 8 .* ROI mixed6 8 × 8 ", seen(html))


def test_every_kind_and_every_error_has_its_card(whole: tuple[Synthetic, Explained, str]) -> None:
    made, explained, html = whole
    shown = explained.attention[explained.attention["kind"] != OTHER]
    assert (shown["kind"] == ERROR).sum() > 0
    votes = made.votes.query("head == 'image' and level == 'patient'")
    assert (shown["kind"] == ERROR).sum() == (votes["decision"] != votes["label"]).sum()
    assert html.count("<img ") == len(shown)
    everybody = explained.attention[explained.attention["part"] == "validation"]
    for dataset, mine in everybody.groupby("dataset"):
        wrong = int((mine["decision"] != mine["label"]).sum())
        assert wrong > 0
        assert mine["kind"].value_counts().drop(OTHER).to_dict() == {
            "best": 3,
            "worst": min(3, wrong),
            "uncertain": 3,
        }, dataset
    text = seen(html)
    for row in shown.itertuples():
        called, is_ = ("malignant" if one else "benign" for one in (row.decision, row.label))
        at = "" if pd.isna(row.threshold) else f", threshold {probability(row.threshold)}"
        assert (
            f"{row.patient_id}, slice 7 pathology: {is_} P(malignant) "
            f"{probability(row.score)}{at}: called {called}"
        ) in text
        if row.kind == ERROR:
            assert called != is_
            assert f"{row.votes} of 5 models say malignant" in text
    for kind, heading in section.GROUPS.items():
        assert text.count(heading) == shown[shown["kind"] == kind]["dataset"].nunique()
    best = re.findall(
        r"P\(malignant\) ([\d.]+)",
        text.split(section.GROUPS["best"])[1].split(section.GROUPS["worst"])[0],
    )
    certain = [abs(float(score) - 0.5) for score in best]
    assert certain == sorted(certain, reverse=True)


def test_the_page_stands_alone_and_is_small(whole: tuple[Synthetic, Explained, str]) -> None:
    _, _, html = whole
    sources = re.findall(r'<img src="([^"]+)" width="(\d+)" height="(\d+)" alt="([^"]+)"', html)
    assert sources
    for uri, width, height, alt in sources:
        kind, _, data = uri.partition(";base64,")
        assert kind == "data:image/webp"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert (
                image.size
                == (int(width), int(height))
                == (3 * section.PANEL + 2 * section.GAP, section.PANEL)
            )
        assert "low attenuation window of patient case" in alt
    assert len(html) < 15e6 / 10


def test_what_lacks_is_said_and_escaped(whole: tuple[Synthetic, Explained, str]) -> None:
    _, _, html = whole
    text = seen(html)
    assert f"1 patient without the lesion's contour, and not measured: {LACKING}." in text
    assert "<script>alert" not in html
    assert "not why" in text
    assert "Adebayo et al. 2018" in text


def test_same_files_give_the_same_cards(whole: tuple[Synthetic, Explained, str]) -> None:
    made, _, html = whole
    one, other = (section.read_attention(read_evidence(made.study)) for _ in range(2))
    assert one.galleries == other.galleries
    assert one.galleries[0].groups[0].cards[0].uri in html


def test_many_errors_do_not_fill_the_page(
    whole: tuple[Synthetic, Explained, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, explained, _ = whole
    errors = explained.attention[explained.attention["kind"] == ERROR].groupby("dataset").size()
    assert errors.max() > 1
    monkeypatch.setattr(section, "MOST_ERRORS", 1)
    groups = {
        dataset: groups_of(gallery)
        for dataset, gallery in zip(
            made.study.datasets,
            section.read_attention(read_evidence(made.study)).galleries,
            strict=True,
        )
    }
    for dataset, n in errors.items():
        group = groups[dataset][section.GROUPS[ERROR]]
        assert (len(group.cards), group.more) == (1, n - 1)
    attention = section.read_attention(read_evidence(made.study))
    assert f"{errors.max() - 1} more are in explain/pictures.arrow" in visible(page_of(attention))


def groups_of(gallery: section.Gallery) -> dict[str, section.Group]:
    return {group.title: group for group in gallery.groups}


def page_of(attention: section.Attention) -> str:
    """The section alone, without its tables."""
    return render("attention.html", attention=replace(attention, tables=()))


def test_nothing_explained_is_one_sentence_with_the_command(tmp_path: Path) -> None:
    made = Synthetic(study_at(tmp_path))
    made.train()
    write_report(made.study)
    assert seen(html_of(made)).strip() == (
        "Attention Maps of where the image models look have not "
        "been made; renal-ray explain makes them."
    )
    assert "<img" not in html_of(made)
    assert not (tmp_path / "report/tables/attention.csv").exists()


def test_what_no_longer_belongs_to_the_study_is_left_out(tmp_path: Path) -> None:
    made = Synthetic(study_at(tmp_path))
    made.train()

    def told(study: Study = made.study) -> str:
        return visible(page_of(section.read_attention(read_evidence(study))))

    explain(made, opened=False, places=1)
    assert "cannot say where the models look" in told()  # one place is no place
    assert section.GROUPS[ERROR] not in told()
    assert "wrong votes" not in told()
    made.test()
    assert "whose wrong votes are not among them; renal-ray explain adds them" in told()
    explain(made, opened=True)
    assert section.GROUPS[ERROR] in told()
    assert "cannot say" not in told()
    made.test()  # other votes
    assert section.GROUPS[ERROR] not in told()
    assert "whose wrong votes are not among them" in told()
    for changes in ({"training": Training(epochs={"image": 9})}, {"calibrate": "platt"}):
        changed = told(study_at(tmp_path, **changes))
        assert "are of other models, or of another rule for decisions, than the study's" in changed
        assert "P(malignant)" not in changed
    pictures = tmp_path / "explain/pictures.arrow"
    pictures.write_bytes(pictures.read_bytes()[:-100])
    assert "have not been made" in told()


def test_a_strip_shows_window_map_and_contour() -> None:
    image = np.random.default_rng(0).integers(0, 256, (section.PANEL, section.PANEL, 3), np.uint8)
    lesion = np.zeros((section.PANEL, section.PANEL), bool)
    lesion[20:60, 30:90] = True
    none = np.zeros((section.PANEL, section.PANEL), np.uint8)
    one = Picture("roi", "validation", "best", "P", 3, image, none, lesion)
    strip = section.draw_strip(one)
    assert strip.shape == (section.PANEL, 3 * section.PANEL + 2 * section.GAP, 3)
    edge = np.zeros_like(lesion)
    edge[20:60, [30, 31, 88, 89]] = edge[[20, 21, 58, 59], 30:90] = True
    for channel in range(3):
        start = channel * (section.PANEL + section.GAP)
        panel = strip[:, start : start + section.PANEL]
        np.testing.assert_array_equal(
            panel[~edge], image[..., channel][~edge][:, None].repeat(3, axis=1)
        )
        assert (panel[edge] == section.CONTOUR).all()
        assert (strip[:, start + section.PANEL : start + section.PANEL + section.GAP] == 255).all()
    small = np.zeros_like(lesion)
    small[100:110, 50:60] = True
    line = (
        section.draw_strip(replace(one, lesion=small))[:, : section.PANEL] == section.CONTOUR
    ).all(axis=-1)
    assert line.sum() == 4 * 9
    assert not line[101:109, 51:59].any()
    left = none.copy()
    left[:, : section.PANEL // 2] = 255
    half = section.draw_strip(replace(one, attention=left, lesion=np.zeros_like(lesion)))[
        :, -section.PANEL :
    ]
    top = np.array([252, 255, 164])  # the last colour of inferno
    wanted = image[..., 2][..., None] * (1 - section.OPACITY) + top * section.OPACITY
    seen, unseen = np.s_[:, : section.PANEL // 2], np.s_[:, section.PANEL // 2 :]
    np.testing.assert_allclose(half[seen].astype(float), wanted[seen], atol=1)
    np.testing.assert_array_equal(half[unseen], image[..., 2][unseen][..., None].repeat(3, axis=-1))
    everywhere = section.draw_strip(
        replace(one, attention=none + 255, lesion=np.zeros_like(lesion))
    )
    np.testing.assert_array_equal(
        everywhere, section.draw_strip(replace(one, lesion=np.zeros_like(lesion)))
    )
