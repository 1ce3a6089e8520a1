"""What a cohort's files were when they were read: touched files are the same, exchanged ones are
not."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from renal_ray.cohort.kits import read_kits
from renal_ray.cohort.manifest import read_manifest
from renal_ray.config import Cohort
from renal_ray.problems import StudyError
from renal_ray.store.stamp import CohortStamp, FileStamp, begin_stamp, changes_of, seen, stamp_files


def stamped(cohort: Cohort, table: pd.DataFrame) -> tuple[CohortStamp, dict[str, FileStamp]]:
    """The stamp that prepare leaves."""
    files = {}
    for row in table.itertuples():
        image, mask = Path(row.image), Path(row.mask)
        files[row.patient_id] = stamp_files(image, mask, seen_before=seen(image) + seen(mask))
    labels = dict(zip(table["patient_id"], table["label"], strict=True))
    patients = {name: (one.image, one.mask, int(labels[name])) for name, one in files.items()}
    begun = begin_stamp(cohort)
    return CohortStamp(begun.table, begun.folder, patients), files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three patients: a series of twenty files, a large volume, and one whose mask lies in the
    image's folder."""
    rng = np.random.default_rng(0)
    rows = []
    for number, name in enumerate("ABC"):
        home = tmp_path / name
        (home / "ct").mkdir(parents=True)
        mask = home / "ct" / "seg.dcm" if name == "C" else home / "seg.dcm"
        mask.write_bytes(rng.bytes(5000))
        image = home / "ct"
        if name == "B":
            image = home / "image.nrrd"
            image.write_bytes(rng.bytes(3_000_000))
        else:
            for k in range(20):
                (home / "ct" / f"{k:03d}.dcm").write_bytes(rng.bytes(60_000))
        rows.append(
            {
                "patient_id": name,
                "label": number % 2,
                "image": image.relative_to(tmp_path),
                "mask": mask.relative_to(tmp_path),
                "age": 50 + number,
            }
        )
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


def both(folder: Path) -> tuple[Cohort, CohortStamp, dict[str, FileStamp], pd.DataFrame]:
    cohort = Cohort(manifest=folder / "manifest.csv")
    table = read_manifest(folder / "manifest.csv")
    stamp, files = stamped(cohort, table)
    return (
        cohort,
        CohortStamp.from_json(stamp.to_json()),
        files,
        table.drop(columns=["image", "mask"]),
    )


def overwrite(file: Path, place: int) -> None:
    """Changes one byte and nothing of size and time."""
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[place] ^= 0xFF
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def test_the_same_files_are_no_change_wherever_they_lie_and_whenever_they_were_written(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cohort, stamp, files, known = both(folder)
    assert not changes_of(stamp, files, known, cohort)
    for file in folder.rglob("*.*"):
        file.touch()
    assert not changes_of(stamp, files, known, cohort)
    there = tmp_path_factory.mktemp("there") / "cohort"
    shutil.copytree(folder, there)
    (there / "A" / "ct").rename(there / "A" / "renamed")
    manifest = there / "manifest.csv"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace("A/ct", "A/renamed"), encoding="utf-8"
    )
    assert not changes_of(stamp, files, known, Cohort(manifest=manifest))


@pytest.mark.parametrize(
    ("file", "place", "kind"),
    [
        ("A/seg.dcm", 2500, "masks"),
        ("C/ct/seg.dcm", 4999, "masks"),
        ("A/ct/007.dcm", 59_999, "images"),
        ("A/ct/011.dcm", 8000, "images"),
    ],
)
def test_one_byte_of_a_mask_of_a_header_or_at_the_end_of_a_slice_is_a_change(
    folder: Path, file: str, place: int, kind: str
) -> None:
    cohort, stamp, files, known = both(folder)
    overwrite(folder / file, place)
    found = changes_of(stamp, files, known, cohort)
    assert found is not None
    assert vars(found) == {name: ((file[0],) if name == kind else ()) for name in vars(found)}


def test_a_file_more_or_longer_is_a_change_and_so_is_a_volume_written_anew(folder: Path) -> None:
    cohort, stamp, files, known = both(folder)
    shutil.copy2(folder / "A" / "ct" / "000.dcm", folder / "A" / "ct" / "999.dcm")
    with (folder / "C" / "ct" / "001.dcm").open("ab") as stream:
        stream.write(b"\0")
    (folder / "B" / "image.nrrd").write_bytes(np.random.default_rng(1).bytes(3_000_000))
    found = changes_of(stamp, files, known, cohort)
    assert found is not None
    assert (found.images, found.masks) == (("A", "B", "C"), ())


def test_what_the_table_says_now(folder: Path) -> None:
    cohort, stamp, files, known = both(folder)
    table = pd.read_csv(folder / "manifest.csv")
    table.loc[0, "label"] = 1
    table.loc[1, "age"] = 77
    new = table.iloc[[1]].assign(patient_id="N")
    pd.concat([table.iloc[:2], new]).assign(lesion=["", "2", ""]).to_csv(
        folder / "manifest.csv", index=False
    )
    found = changes_of(stamp, files, known, cohort)
    assert found is not None
    assert (found.labels, found.added, found.removed, found.entries, found.masks) == (
        ("A",),
        ("N",),
        ("C",),
        ("B",),
        ("B",),
    )
    assert (
        found.counted()
        == "1 label, 1 added, 1 removed, 1 mask, 1 with another entry of the table: A, B, C, N"
    )
    assert found.of_trials == {"A", "B", "C"}


def test_a_patient_who_was_left_out_and_is_corrected_is_a_change(folder: Path) -> None:
    cohort, stamp, files, known = both(folder)
    (folder / "manifest.csv").write_text(
        (folder / "manifest.csv").read_text(encoding="utf-8").replace("B,1", "B,0"),
        encoding="utf-8",
    )
    found = changes_of(stamp, files, known[known["patient_id"] != "B"], cohort)
    assert found is not None
    assert found.labels == ("B",)


def test_whoever_has_another_id_is_another_patient_though_it_be_all_of_them(folder: Path) -> None:
    cohort, stamp, files, known = both(folder)
    table = pd.read_csv(folder / "manifest.csv")
    table.assign(patient_id="0" + table["patient_id"]).to_csv(folder / "manifest.csv", index=False)
    found = changes_of(stamp, files, known, cohort)
    assert found is not None
    assert (found.added, found.removed) == (("0A", "0B", "0C"), ("A", "B", "C"))


def test_hidden_files_that_nobody_reads_are_no_change(folder: Path) -> None:
    cohort, stamp, files, known = both(folder)
    (folder / "A" / "ct" / ".DS_Store").write_bytes(b"looked at")
    (folder / "A" / "ct" / ".nfs01").write_bytes(b"open elsewhere")
    assert not changes_of(stamp, files, known, cohort)


def test_sources_that_are_gone_are_not_compared_but_a_table_in_disorder_is(
    folder: Path,
) -> None:
    cohort, stamp, files, known = both(folder)
    for name in "AB":
        shutil.rmtree(folder / name)
    found = changes_of(stamp, files, known, cohort)
    assert found is not None
    assert found.removed == ("A", "B")
    shutil.rmtree(folder / "C")
    assert changes_of(stamp, files, known, cohort) is None  # a table without its files
    (folder / "manifest.csv").write_text("no;table\n", encoding="utf-8")
    with pytest.raises(StudyError):
        changes_of(stamp, files, known, cohort)
    (folder / "manifest.csv").unlink()
    assert changes_of(stamp, files, known, cohort) is None


def test_a_folder_in_the_kits_layout_and_a_folder_of_dicom(tmp_path: Path) -> None:
    from renal_ray.cohort.dicom_tree import read_dicom_tree
    from renal_ray.cohort.phantom import write_phantom

    write_phantom(tmp_path / "kits", patients=2, seed=1, format="kits", matrix=64, slice_mm=10.0)
    write_phantom(tmp_path / "dicom", patients=2, seed=1, matrix=64, slice_mm=10.0)
    kits = Cohort(kits=tmp_path / "kits")
    tree = Cohort(dicom=tmp_path / "dicom", labels=tmp_path / "dicom" / "labels.csv")
    tables = [
        read_kits(tmp_path / "kits")[0],
        read_dicom_tree(tmp_path / "dicom", tmp_path / "dicom" / "labels.csv", keep_ids=True)[0],
    ]
    for cohort, table in zip((kits, tree), tables, strict=True):
        stamp, files = stamped(cohort, table)
        assert not changes_of(stamp, files, table, cohort)
        first = table.iloc[0]
        for file in sorted(Path(first["mask"]).parent.rglob("*.*")):
            file.touch()
        assert not changes_of(stamp, files, table, cohort)
        overwrite(Path(first["mask"]), 2)
        found = changes_of(stamp, files, table, cohort)
        assert found is not None
        assert found.masks == (first["patient_id"],)
