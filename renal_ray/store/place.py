"""A work directory, wherever it lies: a local or NFS path, or object storage through pyarrow.fs."""

import fcntl
import hashlib
import io
import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from renal_ray.problems import DamagedFileError, StudyError, reason

CHECKSUM = "checksum"  # of the rest of a JSON file
TEMPORARY = ".tmp-"  # what the names of unfinished writes begin with
READERS = 32  # requests to object storage at once


@dataclass(frozen=True)
class Place:
    """A directory addressed by names relative to it; picklable, so that it travels to Ray workers.

    Args:
        uri: local path, or s3://bucket/prefix or gs://bucket/prefix. What follows a question mark
            are options of the storage, as pyarrow knows
            them: s3://bucket/prefix?endpoint_override=http://host:9000&region=eu-central-1.

    Raises:
        StudyError: the URI carries a password; it would be written to the study's own file.
    """

    uri: str

    def __post_init__(self) -> None:
        if self.is_local:  # a worker's current directory is another one
            object.__setattr__(self, "uri", str(Path(self.uri.removeprefix("file://")).absolute()))
        elif "@" in urlsplit(self.uri).netloc:
            raise StudyError(
                "work: keys do not belong into a URI; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY on every node, or give the nodes a role"
            )

    @property
    def is_local(self) -> bool:
        """Whether files of the place can be opened and memory-mapped as they are."""
        return "://" not in self.uri or self.uri.startswith("file://")

    def _open(self) -> tuple[fs.FileSystem, str]:
        if self.is_local:
            return fs.LocalFileSystem(), self.uri
        parts = urlsplit(self.uri)
        try:
            filesystem = _storage(parts.scheme, parts.netloc, parts.query)
        except (pa.ArrowInvalid, OSError) as error:
            raise StudyError(
                f"work: {self.shown()} cannot be opened ({error}); give a path, "
                "s3://bucket/prefix or gs://bucket/prefix"
            ) from None
        return filesystem, (parts.netloc + unquote(parts.path)).rstrip("/")

    def path(self, name: str = "") -> Path:
        """The path of a file in a local place; use `local` for one that may be remote."""
        return Path(self._open()[1]) / name

    def at(self, name: str) -> "Place":
        """The place one directory down."""
        if self.is_local:
            return Place(f"{self.uri.rstrip('/')}/{name}")
        base, mark, options = self.uri.partition("?")
        return Place(f"{base.rstrip('/')}/{name}{mark}{options}")

    def shown(self, name: str = "") -> str:
        """The place, or a file in it, as a person is told: without the storage's options."""
        base = self.uri if self.is_local else self.uri.partition("?")[0]
        return f"{base.rstrip('/')}/{name}" if name else base

    def exists(self, name: str) -> bool:
        """Whether a file or directory of that name is there."""
        filesystem, root = self._open()
        return bool(filesystem.get_file_info(f"{root}/{name}").type != fs.FileType.NotFound)

    def entries(
        self, name: str = "", *, recursive: bool = False, hidden: bool = False
    ) -> list[str]:
        """Names below a directory, relative to it, sorted; temporary files of unfinished writes
        left out.

        Args:
            name: directory; one that does not exist is empty.
            recursive: all files below instead of the direct entries.
            hidden: the temporary files too.
        """
        filesystem, root = self._open()
        base = f"{root}/{name}".rstrip("/")
        try:
            found = filesystem.get_file_info(
                fs.FileSelector(base, allow_not_found=True, recursive=recursive)
            )
        except NotADirectoryError:
            return []
        wanted = (
            info
            for info in found
            if (hidden or not info.base_name.startswith(TEMPORARY))
            and (not recursive or info.is_file)
        )
        return sorted(info.path.removeprefix(base).lstrip("/") for info in wanted)

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """The bytes of many files in their order, None for one that is not there; of object
        storage, where each takes its time, many at once."""

        def read(name: str) -> bytes | None:
            try:
                return self.read(name)
            except FileNotFoundError:
                return None

        if self.is_local:
            yield from map(read, names)
            return
        with ThreadPoolExecutor(READERS) as readers:
            yield from readers.map(read, names)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        filesystem, root = self._open()
        with filesystem.open_input_stream(f"{root}/{name}", compression=None) as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, data: bytes) -> None:
        """Writes a file whole or not at all: a reader sees the old bytes or the new ones, never
        half."""
        filesystem, root = self._open()
        if not self.is_local:  # an object appears only once its upload is complete
            with filesystem.open_output_stream(f"{root}/{name}", compression=None) as stream:
                stream.write(data)
            return
        target = Path(root) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def append_line(self, name: str, line: str) -> None:
        """Adds one line to a text file and waits until it is on disk; earlier lines are kept as
        they are."""
        if self.is_local:
            target = self.path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
            return
        before = self.read(name) if self.exists(name) else b""
        self.write(name, before + line.encode() + b"\n")

    def remove(self, name: str) -> None:
        """Deletes a file or a directory with all below it; nothing happens where there is none."""
        filesystem, root = self._open()
        kind = filesystem.get_file_info(f"{root}/{name}").type
        if kind == fs.FileType.Directory:
            filesystem.delete_dir(f"{root}/{name}")
        elif kind == fs.FileType.File:
            filesystem.delete_file(f"{root}/{name}")

    def local(self, name: str) -> Path:
        """A path on this machine with the bytes of a file: itself, or a copy fetched once per
        version.

        Raises:
            FileNotFoundError: there is none; of a local place it is only found when the path is
                opened.
        """
        if self.is_local:
            return self.path(name)
        filesystem, root = self._open()
        with filesystem.open_input_stream(f"{root}/{name}", compression=None) as stream:
            seen = sorted(
                (stream.metadata() or {}).items()
            )  # its entity tag among them: times of object storage are whole seconds
        version = digest([self.shown(name), repr(seen)])[:24]
        copies = node_copies()
        copy = f"{version}-{PurePosixPath(name).name}"
        if not copies.exists(copy):
            with copies.path(f"{copy}.lock").open("w") as lock:
                fcntl.flock(
                    lock, fcntl.LOCK_EX
                )  # one process of a node fetches, the others wait for its copy
                if not copies.exists(copy):
                    copies.write(copy, self.read(name))
        return copies.path(copy)

    def read_json(self, name: str) -> Any:
        """A JSON file's value."""
        return json.loads(self.read(name))

    def write_json(self, name: str, value: Any) -> None:
        """Writes a value as JSON, keys in the given order, whole or not at all; NaN is refused."""
        self.write(name, json_bytes(value))

    def read_checked_json(self, name: str) -> dict[str, Any]:
        """What `write_checked_json` wrote.

        Raises:
            DamagedFileError: it was cut off or altered since.
        """
        value = checked_json(self.read(name))
        if value is None:
            raise DamagedFileError(
                f"{self.shown(name)} is damaged: delete it and run the same command again"
            )
        return value

    def write_checked_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a mapping as JSON with a checksum of its content under the key `checksum`."""
        plain = {key: one for key, one in value.items() if key != CHECKSUM}
        self.write_json(name, {**plain, CHECKSUM: _json_digest(plain)})

    def read_parquet(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        """A Parquet file as a data frame.

        Raises:
            DamagedFileError: a page has another checksum than it was written with, or the file is
                cut off.
        """
        data = self.read(name)
        try:
            return pq.read_table(
                io.BytesIO(data), columns=columns, page_checksum_verification=True
            ).to_pandas()
        except (pa.ArrowInvalid, OSError) as error:
            raise DamagedFileError(
                f"{self.shown(name)} is damaged ({reason(error)}): delete "
                "it and run the same command again"
            ) from None

    def write_parquet(self, name: str, table: pd.DataFrame | pa.Table) -> None:
        """Writes a table as Parquet with a checksum for each page, whole or not at all."""
        arrow = (
            table
            if isinstance(table, pa.Table)
            else pa.Table.from_pandas(table, preserve_index=False)
        )
        sink = io.BytesIO()
        pq.write_table(arrow, sink, write_page_checksum=True)
        self.write(name, sink.getvalue())


def json_bytes(value: Any) -> bytes:
    """A value as `Place.write_json` writes it."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def checked_json(data: bytes) -> dict[str, Any] | None:
    """The value of a file that `write_checked_json` wrote; None where it was cut off or altered
    since."""
    try:
        value: dict[str, Any] = json.loads(data)
        return value if value.pop(CHECKSUM) == _json_digest(value) else None
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


def _json_digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=16)
def _storage(scheme: str, bucket: str, options: str) -> fs.FileSystem:
    """One client a bucket and process: each has connections and credentials of its own to set
    up."""
    return fs.FileSystem.from_uri(
        f"{scheme}://{bucket}?{options}" if options else f"{scheme}://{bucket}"
    )[0]


def node_copies() -> Place:
    """Where a node keeps its copies of remote files: below TMPDIR, for this user alone.

    Raises:
        StudyError: the directory is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"renal-ray-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise StudyError(
            f"{folder} belongs to another user, and copies of the work directory's files "
            "would be read from it; set TMPDIR to another directory"
        )
    return Place(str(folder))


def digest(parts: Iterable[bytes | str]) -> str:
    """SHA-256 over parts in order, each with its length, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()
