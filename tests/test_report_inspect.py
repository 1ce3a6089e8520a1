"""The contact sheets: everybody is on the page, with what is wrong, and nothing that unseals or
tells who somebody is."""

import base64
import html
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import write_seg, write_series
from PIL import Image
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import StudyError
from renal_ray.report.inspect.page import write_page
from renal_ray.report.inspect.sheet import THUMB, Request, draw
from renal_ray.study_file import study_of_manifest


@pytest.fixture
def manifest(phantom_manifest: Path, tmp_path: Path) -> Path:
    """Four phantom patients without labels; the second has another's mask, the third a file that is
    not there, the fourth no mask yet."""
    table = pd.read_csv(phantom_manifest).head(4)
    for column in ("image", "mask"):
        table[column] = [str(phantom_manifest.parent / name) for name in table[column]]
    table.loc[1, "mask"] = table.loc[0, "mask"]
    table.loc[2, "image"] = "<b>gone</b>/ct"
    table["label"] = ""
    table.loc[3, "mask"] = ""
    table.to_csv(tmp_path / "m.csv", index=False)
    return tmp_path / "m.csv"


def sheets(page: Path) -> list[str]:
    return re.findall(r"<article.*?</article>", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("workers", [1, 2])
def test_everybody_is_on_the_page_in_order(manifest, tmp_path, workers):
    seen = write_page(study_of_manifest(manifest), tmp_path / "page.html", workers=workers)
    assert (seen.patients, seen.refused) == (4, 3)
    assert seen.codes == {"file-missing": 2, "mask-without-series": 1}
    found = sheets(tmp_path / "page.html")
    assert [re.search(r"<h2>(\S+)", one)[1] for one in found] == pd.read_csv(manifest)[
        "patient_id"
    ].tolist()
    assert "mask-without-series" in found[1]
    assert found[0].count("<img") >= 7
    assert "DICOM series of" in found[0]
    assert "slices kept" in found[0]
    assert not list(tmp_path.glob(".tmp*"))


def test_the_page_stands_alone_and_is_small(manifest, tmp_path):
    write_page(study_of_manifest(manifest), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "<b>gone</b>" not in text
    assert len(sheets(tmp_path / "page.html")[0]) < 160_000  # 120 kB of pictures in base64


def test_no_label_is_shown(phantom_manifest, tmp_path):
    """Whoever is sealed stays sealed: two cohorts that differ in their labels alone have one
    page."""
    table = pd.read_csv(phantom_manifest).head(2)
    pages = []
    for labels in ((0, 1), (1, 0)):
        table["label"] = labels
        for column in ("image", "mask"):
            table[column] = [str(phantom_manifest.parent / Path(name)) for name in table[column]]
        table.to_csv(tmp_path / "m.csv", index=False)
        write_page(study_of_manifest(tmp_path / "m.csv"), tmp_path / "page.html")
        pages.append((tmp_path / "page.html").read_bytes())
    assert pages[0] == pages[1]


def test_the_outline_is_the_masks(phantom_manifest):
    row = pd.read_csv(phantom_manifest).iloc[0]
    image, mask = (phantom_manifest.parent / row[name] for name in ("image", "mask"))
    study = study_of_manifest(phantom_manifest)
    sheet = draw(Request("P", image, mask, "", "", study.cohort, study.selection))
    found = read_patient(image, mask, cohort=study.cohort, selection=study.selection)
    n = 0
    picture = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(sheet.thumbs[n].uri.partition(",")[2]))).convert(
            "RGB"
        )
    ).astype(int)
    coloured = picture[..., 0] - picture[..., 2] > 70  # the outline alone is not grey
    rows, columns = (
        np.flatnonzero(found.mask[n].any(axis=axis)) * THUMB / found.mask.shape[1]
        for axis in (1, 0)
    )
    assert coloured.any()
    where = np.nonzero(coloured)
    assert abs(where[0].min() - rows.min()) < 4
    assert abs(where[1].max() - columns.max()) < 4


def coloured(thumb: str) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the yellow outline, and of the blue one."""
    picture = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(thumb.partition(",")[2]))).convert("RGB")
    ).astype(int)
    warmth = picture[..., 0] - picture[..., 2]
    return np.flatnonzero((warmth > 70).any(axis=0)), np.flatnonzero((warmth < -70).any(axis=0))


@pytest.mark.parametrize("shown", ["largest", "all"])
def test_of_several_lesions_the_page_tells_which_one_is_shown(tmp_path, shown):
    """A tumour in each kidney; the lower slices have the smaller one alone."""
    lesion = np.zeros((8, 60, 100), bool)
    lesion[1:5, 20:40, 10:30] = lesion[4:7, 22:30, 80:90] = True
    lesion[6, 20:32, 78:92] = True
    slices = write_series(
        tmp_path / "ct", np.full(lesion.shape, 40, np.int16), spacing=(1.5, 1.5), step=5
    )
    write_seg(tmp_path / "seg.dcm", [(1, slices[k], lesion[k]) for k in range(1, 7)])
    table = pd.DataFrame([{"patient_id": "P", "label": "", "image": "ct", "mask": "seg.dcm"}])
    table.to_csv(tmp_path / "m.csv", index=False)
    study = study_of_manifest(tmp_path / "m.csv", [f"selection.lesions={shown}"])
    sheet = draw(
        Request("P", tmp_path / "ct", tmp_path / "seg.dcm", "", "", study.cohort, study.selection)
    )
    seen = {
        int(one.caption.partition(":")[0]): (one.caption, *coloured(one.uri))
        for one in sheet.thumbs
    }
    assert sheet.facts[-1].startswith("2 lesions: 41.4 mm across, 18.0 ml, slices 1 to 4; ")
    assert sheet.facts[-1].endswith(", slices 4 to 6")
    assert list(seen) == [1, 2, 3, 4, 6]
    caption, yellow, blue = seen[4]
    middle = THUMB * 60 // 100
    assert "mm²" in caption
    assert yellow.min() < middle
    if shown == "largest":
        assert yellow.max() < middle < blue.min()
        assert seen[6][1].min() > middle  # the largest that this slice has
        assert not len(seen[6][2])
    else:
        assert yellow.max() > middle
        assert not len(blue)
    assert not len(seen[2][2])
    codes = write_page(study, tmp_path / "page.html").codes
    assert codes["several-lesions"] == 1
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "2 lesions more than 10 mm apart, 41, 2" in text
    assert "a blue one a lesion that they do not" in text


def test_a_path_that_leads_out_of_the_manifests_folder_is_not_followed(
    phantom_manifest, tmp_path, monkeypatch
):
    row = pd.read_csv(phantom_manifest).head(1)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").symlink_to(phantom_manifest.parent)
    for column in ("image", "mask"):
        row[column] = f"../there/{row[column][0]}"
    row.to_csv(tmp_path / "here/m.csv", index=False)
    monkeypatch.chdir(tmp_path / "here")
    seen = write_page(study_of_manifest(Path("m.csv")), Path("page.html"))
    assert seen.codes == {"path-outside": 1}


def test_only_who_is_asked_for(phantom_manifest, tmp_path):
    first = pd.read_csv(phantom_manifest)["patient_id"].iloc[0]
    result = CliRunner().invoke(
        app,
        [
            "inspect",
            str(phantom_manifest),
            "--patients",
            first,
            "-o",
            str(tmp_path / "page.html"),
            "--workers",
            "1",
        ],
    )
    assert result.exit_code == 0, result.output
    assert len(sheets(tmp_path / "page.html")) == 1
    with pytest.raises(StudyError, match="nobody"):
        write_page(study_of_manifest(phantom_manifest), tmp_path / "page.html", patients=["nobody"])


def test_every_value_is_escaped(manifest, tmp_path):
    hostile = "<script>alert(1)</script>".replace("/", "|")
    table = pd.read_csv(manifest)
    table.loc[0, "patient_id"] = hostile
    table.to_csv(manifest, index=False)
    write_page(study_of_manifest(manifest), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert hostile not in text
    assert html.escape(hostile) in text
