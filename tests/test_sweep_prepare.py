"""prepare on Ray Data: the same bytes each time, what is done is kept, who cannot be read is named
and left out."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SIZE, small_study
from dicom_files import write_seg, write_series

from renal_ray.cohort.manifest import read_manifest, write_manifest
from renal_ray.config import Images, Selection, Study
from renal_ray.problems import Code, StrictError, StudyError
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.place import Place
from renal_ray.store.seal import open_seal
from renal_ray.store.slices import Slices
from renal_ray.sweep import prepare as prepare_module
from renal_ray.sweep import shards as shards_module
from renal_ray.sweep.prepare import prepare
from renal_ray.trial import prepared as word
from renal_ray.trial.plan import make_plan
from renal_ray.types import DATASETS, Dataset

pytestmark = pytest.mark.usefixtures("local_ray")

FOLDS = {"n": 2, "method": "stratified"}


def study_of(manifest: Path, work: Path, **changes: object) -> Study:
    return small_study(work, cohort={"manifest": str(manifest)}, folds=FOLDS, **changes)


def files(work: Path, *, below: str = "") -> dict[str, bytes]:
    return {
        str(path.relative_to(work)): path.read_bytes()
        for path in sorted((work / below).rglob("*"))
        if path.is_file()
    }


def times(work: Path, below: str) -> dict[str, int]:
    return {
        str(path.relative_to(work)): path.stat().st_mtime_ns
        for path in sorted((work / below).rglob("*.arrow"))
    }


def splits_of(work: Place) -> SplitSet:
    return SplitSet.from_json(work.read_json("splits.json"))


@pytest.fixture(scope="module")
def prepared(phantom_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = study_of(phantom_manifest, tmp_path_factory.mktemp("prepared") / "work")
    found = prepare(study)
    assert (found.patients, found.quarantined) == (18, ())
    return study


@pytest.fixture
def work_copy(prepared: Study, tmp_path: Path) -> Study:
    shutil.copytree(prepared.work, tmp_path / "work")
    return prepared.model_copy(update={"work": str(tmp_path / "work")})


@pytest.fixture
def cohort_copy(phantom_manifest: Path, tmp_path: Path) -> Path:
    """A cohort whose files may be spoilt."""
    shutil.copytree(phantom_manifest.parent, tmp_path / "cohort")
    return tmp_path / "cohort" / "manifest.csv"


def test_what_prepare_leaves(prepared: Study, phantom_manifest: Path) -> None:
    work = Place(prepared.work)
    cohort = work.read_parquet("cohort.parquet")
    manifest = read_manifest(phantom_manifest)
    assert set(cohort["patient_id"]) == set(manifest["patient_id"])
    assert set(manifest.columns) - {"image", "mask"} <= set(
        cohort.columns
    )  # folder names may tell who somebody is
    assert not {"image", "mask"} & set(cohort.columns)
    assert cohort["n_images"].dtype.kind == cohort["n_lesions"].dtype.kind == "i"
    assert (cohort["n_lesions"] == 1).all()
    splits = splits_of(work)
    assert {one.patient_id: one.n_images for one in splits.patients} == dict(
        zip(cohort["patient_id"], cohort["n_images"], strict=True)
    )
    assert len(splits.test) == 4
    for dataset in DATASETS:
        slices = Slices(work, dataset, sealed=splits.test)
        assert slices.counts() == dict(zip(cohort["patient_id"], cohort["n_images"], strict=True))
        assert slices.images(splits.training[0]).shape[1:] == (SIZE, SIZE, 3)
        assert [name.rsplit("-", 1)[0] for name in work.entries(f"slices/{dataset}")] == [
            "index.parquet",
            "shard-00000",
            "shard-00001",
            "shard-00002",
        ]
    assert work.read("quarantine.csv") == b"patient_id,file,code,message,severity\n"


def test_the_same_input_gives_the_same_bytes(
    prepared: Study, phantom_manifest: Path, tmp_path: Path
) -> None:
    again = study_of(phantom_manifest, tmp_path / "again")
    prepare(again)
    one, other = files(Path(prepared.work)), files(Path(again.work))
    assert one.keys() == other.keys()
    assert len([name for name in one if name.endswith(".arrow")]) == 9
    assert {name for name in one if one[name] != other[name]} == set()


def test_a_second_run_keeps_every_shard(work_copy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Path(work_copy.work)
    before, bytes_before = times(work, "slices"), files(work)
    monkeypatch.setattr(prepare_module, "Sharder", None)  # would be needed to read anybody
    prepare(work_copy)
    assert times(work, "slices") == before
    assert files(work) == bytes_before


def test_only_the_shard_of_changed_files_is_read_again(
    cohort_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(cohort_copy, tmp_path / "work")
    prepare(study)
    good = files(tmp_path / "work")
    parts = {
        path.name: path.stat().st_mtime_ns
        for path in (tmp_path / "work" / "slices" / "shards").iterdir()
    }
    image = Path(read_manifest(cohort_copy)["image"][9])
    next(iter(sorted(image.glob("*.dcm")))).touch()
    prepare(study)
    again = {
        path.name: path.stat().st_mtime_ns
        for path in (tmp_path / "work" / "slices" / "shards").iterdir()
    }
    assert {name for name in parts if parts[name] != again[name]} == {"shard-00001.json"}
    now = files(tmp_path / "work")
    assert {name for name in good if good[name] != now[name]} == {
        "slices/shards/shard-00001.json"
    }  # the pixels are what they were


@pytest.mark.parametrize(
    "change", [{"images": Images(size=SIZE + 5)}, {"selection": Selection(max_slices=1)}]
)
def test_other_settings_read_everybody_again(work_copy: Study, change: dict) -> None:
    work = Place(work_copy.work)
    before = times(Path(work.uri), "slices")
    prepare(work_copy.model_copy(update=change))
    after = times(Path(work.uri), "slices")
    assert not before.keys() & after.keys()  # other content, other names; the old files are gone
    assert len(after) == len(before)
    slices = Slices(work, Dataset.ROI, sealed=())
    if "images" in change:
        assert slices.images(next(iter(slices.where))).shape[1:] == (SIZE + 5, SIZE + 5, 3)
    else:
        assert set(slices.counts().values()) == {1}


def test_settings_changed_midway_and_back_are_not_mixed(work_copy: Study) -> None:
    """A run with other settings that was killed after its first Arrow file must not be vouched for
    by the JSON of the run before."""
    good = files(Path(work_copy.work), below="slices")
    [shard, *_] = shards_module.make_shards(
        work_copy.model_copy(update={"images": Images(size=SIZE + 5)}), _usable(work_copy)
    )
    sharder = shards_module.Sharder(
        work_copy.model_copy(update={"images": Images(size=SIZE + 5)}), Place(work_copy.work)
    )
    real, calls = shards_module.slices.write_shard, []

    def killed(*arguments: object, **named: object) -> list[dict]:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*arguments, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module.slices, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            sharder(shard)
    assert files(Path(work_copy.work), below="slices") != good
    prepare(work_copy)
    assert files(Path(work_copy.work), below="slices") == good


def _usable(study: Study) -> pd.DataFrame:
    assert study.cohort.manifest is not None
    return read_manifest(study.cohort.manifest)


def test_a_cohort_that_shrinks_and_grows_back(
    work_copy: Study, phantom_manifest: Path, tmp_path: Path
) -> None:
    good = files(Path(work_copy.work))
    manifest = read_manifest(phantom_manifest)
    fewer = tmp_path / "fewer.csv"
    write_manifest(manifest[:14], fewer)
    cohort = work_copy.cohort.model_copy(update={"manifest": fewer})
    assert prepare(work_copy.model_copy(update={"cohort": cohort})).patients == 14
    assert not list((Path(work_copy.work) / "slices/roi").glob("shard-00002*"))
    assert prepare(work_copy).patients == 18
    now = files(Path(work_copy.work))
    assert {name for name in good if good[name] != now.get(name)} == set()


def spoil(cohort: Path) -> dict[str, Code]:
    """A patient with a truncated file, one whose mask is gone, one whose mask is another's, one
    without a label."""
    table = pd.read_csv(cohort, dtype=str)
    manifest = read_manifest(cohort)
    truncated = sorted(Path(manifest["image"][0]).glob("*.dcm"))[3]
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 2])
    Path(manifest["mask"][5]).unlink()
    table.loc[9, "label"] = ""
    table.to_csv(cohort, index=False)
    ids = manifest["patient_id"]
    return {ids[0]: Code.FILE_TRUNCATED, ids[5]: Code.FILE_MISSING, ids[9]: Code.LABEL_MISSING}


def test_who_cannot_be_read_is_quarantined_and_the_others_go_on(
    cohort_copy: Path, tmp_path: Path
) -> None:
    expected = spoil(cohort_copy)
    study = study_of(cohort_copy, tmp_path / "work")
    found = prepare(study)
    assert found.patients == 15
    assert {one.patient_id: one.code for one in found.quarantined} == expected
    table = pd.read_csv(tmp_path / "work" / "quarantine.csv", keep_default_na=False)
    assert list(table.columns) == ["patient_id", "file", "code", "message", "severity"]
    assert dict(zip(table["patient_id"], table["code"], strict=True)) == {
        name: str(code) for name, code in expected.items()
    }
    assert (table["message"].str.len() > 15).all()
    work = Place(study.work)
    for dataset in DATASETS:
        assert not Slices(work, dataset, sealed=()).counts().keys() & expected.keys()
    assert not set(splits_of(work).labels) & expected.keys()
    told = table[table["code"] == "file-truncated"].iloc[0]
    assert told["file"].startswith(
        f"{told['patient_id']}/ct"
    )  # relative to the manifest: the folders above may tell who somebody is
    # Strict on the same work directory: the patients are as unreadable as before.
    with pytest.raises(StrictError, match="--strict: patient"):
        prepare(study, strict=True)


def test_strict_stops_at_a_patient_who_cannot_be_read(cohort_copy: Path, tmp_path: Path) -> None:
    manifest = read_manifest(cohort_copy)
    first = sorted(Path(manifest["image"][0]).glob("*.dcm"))[3]
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    study = study_of(cohort_copy, tmp_path / "work")
    with pytest.raises(
        StrictError, match=rf"--strict: patient {manifest['patient_id'][0]} .*file-truncated"
    ):
        prepare(study, strict=True)
    assert not (tmp_path / "work" / "splits.json").exists()
    assert prepare(study).patients == 17
    with pytest.raises(StrictError, match="--strict"):
        prepare(study, strict=True)


def test_nobody_left_is_an_error_that_says_why(cohort_copy: Path, tmp_path: Path) -> None:
    for path in cohort_copy.parent.rglob("seg.dcm"):
        path.write_bytes(b"not DICOM")
    with pytest.raises(
        StudyError, match=r"no patient can be used; 18 were left out, see .*quarantine\.csv"
    ) as caught:
        prepare(study_of(cohort_copy, tmp_path / "work"))
    assert not isinstance(caught.value, StrictError)
    assert len(pd.read_csv(tmp_path / "work" / "quarantine.csv")) == 18


def test_who_can_be_read_again_comes_back(cohort_copy: Path, tmp_path: Path) -> None:
    """What kept a patient out may lie outside the files: a quarantined patient is tried anew."""
    manifest = read_manifest(cohort_copy)
    mask = Path(manifest["mask"][5])
    good, times_of_mask = mask.read_bytes(), mask.stat()
    mask.write_bytes(b"\0" * len(good))
    study = study_of(cohort_copy, tmp_path / "work")
    assert len(prepare(study).quarantined) == 1
    mask.write_bytes(good)
    os.utime(mask, ns=(times_of_mask.st_atime_ns, times_of_mask.st_mtime_ns))
    assert prepare(study).patients == 18


def test_a_defect_met_on_one_patient_does_not_end_the_cohort(
    prepared: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Patient Jane Doe, born 1950")

    study = prepared.model_copy(update={"work": str(tmp_path / "work")})
    [shard, *_] = shards_module.make_shards(study, _usable(study))
    monkeypatch.setattr(shards_module, "read_patient", broken)
    part = json.loads(shards_module.Sharder(study, Place(study.work))(shard)["part"])
    assert {one["code"] for one in part["quarantined"]} == {"unexpected"}
    assert len(part["quarantined"]) == 8
    assert "Jane" not in json.dumps(part)


@pytest.mark.parametrize("lesions", ["largest", "all"])
def test_who_has_several_lesions_is_counted_and_kept(tmp_path: Path, lesions: str) -> None:
    lesion = np.zeros((4, 60, 100), bool)
    lesion[1:3, 20:40, 10:30] = lesion[2:4, 22:40, 70:90] = True
    slices = write_series(
        tmp_path / "ct", np.full(lesion.shape, 40, np.int16), spacing=(1.5, 1.5), step=5
    )
    write_seg(tmp_path / "seg.dcm", [(1, slices[k], lesion[k]) for k in range(1, 4)])
    pd.DataFrame([{"patient_id": "P", "label": 1, "image": "ct", "mask": "seg.dcm"}]).to_csv(
        tmp_path / "m.csv", index=False
    )
    study = study_of(tmp_path / "m.csv", tmp_path / "work", selection={"lesions": lesions})
    [shard] = shards_module.make_shards(study, _usable(study))
    part = json.loads(shards_module.Sharder(study, Place(study.work))(shard)["part"])
    [measured] = part["measured"]
    assert (measured["n_lesions"], measured["n_images"]) == (2, 3)
    assert (
        measured["max_diameter_mm"] < 50
        if lesions == "largest"
        else measured["max_diameter_mm"] > 110
    )
    assert [one["code"] for one in part["warnings"]].count("several-lesions") == 1
    other = study.model_copy(
        update={"selection": Selection(lesions="all" if lesions == "largest" else "largest")}
    )
    assert shards_module.make_shards(other, _usable(study))[0]["key"] != shard["key"]


def test_what_was_prepared_before_lesions_were_told_apart_keeps_its_word(work_copy: Study) -> None:
    work = Place(work_copy.work)
    assert work.read_json(word.MARKER)["settings"]["selection"] == {
        "min_area_fraction": 0.25,
        "max_slices": None,
    }
    word.require(work_copy, work)
    with pytest.raises(StudyError, match="another selection"):
        word.require(work_copy.model_copy(update={"selection": Selection(lesions="all")}), work)


def test_a_cohort_that_cannot_be_split_is_prepared_all_the_same(work_copy: Study) -> None:
    work = Place(work_copy.work)
    found = prepare(
        work_copy.model_copy(update={"folds": work_copy.folds.model_copy(update={"n": 9})})
    )
    assert "too few for 9 folds" in found.no_split
    assert not work.exists("splits.json")
    with pytest.raises(StudyError, match="no split could be drawn"):
        make_plan(
            work_copy.model_copy(update={"folds": work_copy.folds.model_copy(update={"n": 9})}),
            work,
        )
    assert prepare(work_copy).no_split == ""


def test_after_the_seal_was_opened_the_split_stands(work_copy: Study) -> None:
    work = Place(work_copy.work)
    before = work.read("splits.json")
    prepare(work_copy.model_copy(update={"seed": 18}))  # before, it may be drawn anew
    assert work.read_json("splits.json")["seed"] == 18
    prepare(work_copy)
    assert work.read("splits.json") == before
    open_seal(work, patients=4, slices=1, models=[])
    everything = files(Path(work.uri))
    prepare(work_copy)
    with pytest.raises(StudyError, match=r"seal .* opened under another split"):
        prepare(work_copy.model_copy(update={"seed": 18}))
    with pytest.raises(StudyError, match="seal"):
        prepare(work_copy.model_copy(update={"folds": work_copy.folds.model_copy(update={"n": 9})}))
    assert files(Path(work.uri)) == everything
