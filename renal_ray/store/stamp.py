"""The stamp of a cohort: what its table and files were when prepare read them, and what of them is
another now."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pandas as pd

from renal_ray.cohort.kits import TABLES
from renal_ray.cohort.manifest import COLUMNS
from renal_ray.cohort.source import load_cohort
from renal_ray.config import Cohort
from renal_ray.dicom.files import files_below
from renal_ray.problems import StudyError
from renal_ray.store.place import READERS, Place, checked_json, digest

SHARDS = "slices/shards"
BLOCK = 1024  # bytes read at each of an image's places: a row of a CT slice
HEAD = 8192  # bytes read at its start, where headers are
BLOCKS = 256  # of an image in all its files; at least LEAST in each
LEAST = 4
SHORT = 32  # hexadecimal digits kept of a digest
ENTRIES = tuple(set(COLUMNS) - {"patient_id", "label", "image", "mask", "series", "lesion"})


@dataclass(frozen=True)
class FileStamp:
    """The files of one patient.

    Args:
        seen: digest of names, sizes and times, which costs no reading. While it is the same the
            files are believed to be.
        image: digest of names, sizes and samples of the content: times are no part of it, so that a
            touched file is no other one.
        mask: the same, over all of the content.
    """

    seen: str
    image: str
    mask: str


@dataclass(frozen=True)
class CohortStamp:
    """The cohort that the slices were made from.

    Args:
        table: SHA-256 of the manifest, of the table of labels or of the KiTS folder's JSON.
        folder: names, sizes and times of all files of a folder of DICOM; empty for other sources.
        patients: of each patient whose files were read, image and mask as in `FileStamp`, and the
            label.
    """

    table: str
    folder: str
    patients: Mapping[str, tuple[str, str, int]]

    def hashes(self) -> dict[str, str]:
        """As recorded in study.yaml: of the table, and of all patients' files."""
        files = digest(
            part
            for patient in sorted(self.patients)
            for part in (patient, *self.patients[patient][:2])
        )
        return {"cohort": self.table, "files": files}

    def to_json(self) -> dict[str, Any]:
        """For the marker that prepare leaves."""
        return {
            "table": self.table,
            "folder": self.folder,
            "patients": {name: list(found) for name, found in sorted(self.patients.items())},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
        return cls(
            value["table"],
            value["folder"],
            {
                name: (image, mask, label)
                for name, (image, mask, label) in value["patients"].items()
            },
        )


@dataclass(frozen=True)
class CohortChanges:
    """Who is another now than when the cohort was prepared, by id; a patient may be in several.

    Args:
        labels: those with another label.
        added: those who are new, or can be used now.
        removed: those who are gone, or cannot be used any more.
        masks: those with another mask.
        images: those with another image.
        entries: those with another age, scanner or other entry of the table.
    """

    labels: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    entries: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return any(vars(self).values())

    @property
    def of_trials(self) -> frozenset[str]:
        """Those of the stamped patients of whom a trial that read them would read something
        else."""
        return frozenset((*self.labels, *self.removed, *self.masks, *self.images))

    def counted(self) -> str:
        """The changes in numbers, then the ids: 1 label, 0 added, 1 removed: P003, P007."""
        parts = [
            _number(self.labels, "label"),
            f"{len(self.added)} added",
            f"{len(self.removed)} removed",
        ]
        parts += [
            _number(found, name)
            for found, name in ((self.masks, "mask"), (self.images, "image"))
            if found
        ]
        if self.entries:
            parts.append(f"{len(self.entries)} with another entry of the table")
        ids = sorted({one for found in vars(self).values() for one in found})
        shown = ", ".join(ids[:SHOWN]) + (
            f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        )
        return f"{', '.join(parts)}: {shown}"


SHOWN = 6  # ids in a sentence


def seen(path: Path) -> str:
    """Names, sizes and times of a patient's files: enough to see that they changed, without reading
    them."""
    stats = [(name, file.stat()) for name, file in _files(path)]
    return digest(f"{name}|{stat.st_size}|{stat.st_mtime_ns}" for name, stat in stats)


def stamp_files(image: Path, mask: Path, *, seen_before: str) -> FileStamp:
    """Reads what the stamp of a patient's files needs.

    Args:
        image, mask: a file or a folder each; one that does not exist has an empty content.
        seen_before: `seen` of both, from before anything was read of them.
    """
    files = [one for one in _files(image) if one[1] != mask]
    blocks = max(LEAST, BLOCKS // max(1, len(files)))
    return FileStamp(
        seen_before,
        _content(files, lambda file: _samples(file, blocks)),
        _content(_files(mask), _whole),
    )


def _content(files: list[tuple[str, Path]], read: Callable[[Path], bytes]) -> str:
    try:
        return digest(part for name, file in files for part in (name, read(file)))[:SHORT]
    except OSError:  # whoever cannot be read is left out by the reader, which says why
        return ""


def begin_stamp(cohort: Cohort, *, files: bool = True) -> CohortStamp:
    """The stamp of the cohort's table, and with `files` of its folder, before anything is read of
    them; sources that are not there have an empty one."""
    try:
        return CohortStamp(
            table_hash(cohort), seen(cohort.dicom) if cohort.dicom is not None and files else "", {}
        )
    except OSError:  # whoever reads them says what is wrong
        return CohortStamp("", "", {})


def table_hash(cohort: Cohort) -> str:
    """SHA-256 of the table that says who is in a cohort.

    Raises:
        FileNotFoundError: it is not there.
    """
    file = cohort.manifest or cohort.labels
    if file is None and cohort.kits is not None:
        file = next(
            (cohort.kits / name for name in TABLES if (cohort.kits / name).is_file()),
            cohort.kits / TABLES[0],
        )
    assert file is not None
    return hashlib.sha256(file.read_bytes()).hexdigest()


def read_stamps(work: Place) -> dict[str, FileStamp]:
    """What the files of each patient were when their shard was made; damaged shards and those of
    older versions say nothing."""
    names = [f"{SHARDS}/{name}" for name in work.entries(SHARDS) if name.endswith(".json")]
    parts = [checked_json(data) or {} for data in work.read_all(names) if data is not None]
    return {
        patient: FileStamp(**one)
        for part in parts
        for patient, one in part.get("stamps", {}).items()
    }


def changes_of(
    stamp: CohortStamp, files: Mapping[str, FileStamp], known: pd.DataFrame, cohort: Cohort
) -> CohortChanges | None:
    """Holds a cohort against its stamp; files are read where names, sizes or times are others, and
    headers of a folder of DICOM only then.

    Args:
        stamp: what prepare left.
        files: what was seen of the patients' files when they were stamped.
        known: cohort.parquet.
        cohort: where the patients come from.

    Returns:
        The changes; None where the sources are not at hand.

    Raises:
        StudyError: the table is another one, and cannot be used as it is now.
    """
    try:
        same_table = table_hash(cohort) == stamp.table
        if same_table and cohort.dicom is not None and seen(cohort.dicom) == stamp.folder:
            return CohortChanges()
    except OSError:
        return None
    try:
        now, _ = load_cohort(cohort)
    except (OSError, StudyError):
        if same_table:
            return None
        raise
    there, before = set(now["patient_id"]), set(stamp.patients)
    if before and not there:
        return None  # a table without its files
    labels, images, masks = [], [], []
    rows = [row for row in now.itertuples() if row.patient_id in before]
    with ThreadPoolExecutor(READERS) as readers:  # a network disk takes its time for each file
        found = list(
            readers.map(
                lambda row: _stamp_again(
                    Path(row.image), Path(row.mask), files.get(row.patient_id)
                ),
                rows,
            )
        )
    for row, one in zip(rows, found, strict=True):
        image, mask, label = stamp.patients[row.patient_id]
        images += [row.patient_id] if one.image != image else []
        masks += [row.patient_id] if one.mask != mask else []
        labels += [row.patient_id] if row.label != label else []
    kept = now[now["patient_id"].isin(known["patient_id"])].set_index("patient_id")
    old = known.set_index("patient_id").loc[kept.index]
    return CohortChanges(
        labels=tuple(sorted(labels)),
        added=tuple(sorted(there - before)),
        removed=tuple(sorted(before - there)),
        masks=tuple(sorted({*masks, *_differing(old, kept, ["lesion"])})),
        images=tuple(sorted({*images, *_differing(old, kept, ["series"])})),
        entries=_differing(old, kept, ENTRIES),
    )


def _stamp_again(image: Path, mask: Path, before: FileStamp | None) -> FileStamp:
    now = seen(image) + seen(mask)
    return (
        before
        if before is not None and before.seen == now
        else stamp_files(image, mask, seen_before=now)
    )


def _differing(old: pd.DataFrame, now: pd.DataFrame, columns: Iterable[str]) -> tuple[str, ...]:
    """Rows in which one of the columns says something else; a column that is not there says
    nothing."""
    found: set[str] = set()
    for column in columns:
        one, other = (
            [_plain(value) for value in table[column]] if column in table else [None] * len(table)
            for table in (old, now)
        )
        measured = column == "max_diameter_mm"  # where the table has none, prepare measured it
        found |= {
            str(name)
            for name, a, b in zip(now.index, one, other, strict=True)
            if a != b and not (measured and b is None)
        }
    return tuple(sorted(found))


def _plain(value: Any) -> str | float | None:
    if pd.isna(value) or value == "":
        return None
    return value if isinstance(value, str) else float(value)


def _files(path: Path) -> list[tuple[str, Path]]:
    """The files of a patient, by name relative to the folder, but for hidden ones, which no reader
    looks at; a single file has none."""
    if not path.is_dir():
        return [(".", path)] if path.is_file() else []
    return sorted(
        ((str(file.relative_to(path)), file) for file in files_below(path)),
        key=lambda one: Path(one[0]),
    )


def _whole(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _samples(file: Path, blocks: int) -> bytes:
    """SHA-256 of a file's size, its head and blocks at even distances, the last bytes among them;
    of all of it where that is no more."""
    with file.open("rb", buffering=0) as stream:
        number = stream.fileno()
        size = os.fstat(number).st_size
        if size <= HEAD + blocks * BLOCK:
            return hashlib.sha256(stream.readall()).digest()
        places = (HEAD + block * (size - HEAD - BLOCK) // blocks for block in range(1, blocks + 1))
        parts = [os.pread(number, HEAD, 0), *(os.pread(number, BLOCK, place) for place in places)]
    return hashlib.sha256(size.to_bytes(8, "little") + b"".join(parts)).digest()


def _number(found: tuple[str, ...], name: str) -> str:
    return f"{len(found)} {name}{'' if len(found) == 1 else 's'}"
