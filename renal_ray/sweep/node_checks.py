"""What a node says of itself before any work. Runs on the node, in seconds, and imports no
framework."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from renal_ray.problems import reason
from renal_ray.store.place import Place, node_copies
from renal_ray.sweep.cards import Card, read_cards


def asker(packages: tuple[str, ...]) -> Callable[[], dict[str, str]]:
    """Makes the question for a node's versions; a function that travels as it is, so that a node
    with another renal-ray, or with none, answers too.

    Args:
        packages: distributions to name.

    Returns:
        A function that gives version by name, Python's among them; "none" for what is not
        installed.
    """
    source = "renal-ray's files"  # a hash: two checkouts of one version may differ

    def ask() -> dict[str, str]:
        from hashlib import sha256
        from importlib.metadata import PackageNotFoundError, version
        from importlib.util import find_spec
        from pathlib import Path
        from platform import python_version

        found = {"Python": python_version()}
        for package in packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "none"
        spec = find_spec("renal_ray")
        found[source] = "none"
        if spec is not None and spec.origin is not None:
            root, total = Path(spec.origin).parent, sha256()
            for file in sorted(root.rglob("*.py")):
                total.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
            found[source] = total.hexdigest()[:12]
        return found

    return ask


@dataclass(frozen=True)
class Question:
    """What a node is asked.

    Args:
        work: the work directory.
        nonce: name of a file that the driver wrote there; its content is its name.
        weights: path of a weights file, where the study has one and needs it.
        inputs: paths of the cohort.
    """

    work: Place
    nonce: str
    weights: str | None = None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a node answers.

    Args:
        sees_driver: whether it read what the driver had written.
        write_error: why it cannot write into the work directory; empty where it can.
        weights: hash of the weights file; empty where it was not asked for or cannot be read.
        weights_error: why it cannot be read.
        missing_inputs: paths of the cohort that are not there.
        copies_free: bytes free for copies of remote files.
        memory_free: bytes of memory that are available.
        cards: what NVML shows; None without a driver of NVIDIA's.
    """

    sees_driver: bool
    write_error: str
    weights: str
    weights_error: str
    missing_inputs: tuple[str, ...]
    copies_free: int
    memory_free: int
    cards: tuple[Card, ...] | None


def look(question: Question) -> Report:
    """Answers, on the node."""
    sees_driver = _sees(question.work, question.nonce)
    weights, weights_error = _file_hash(Path(question.weights)) if question.weights else ("", "")
    return Report(
        sees_driver=sees_driver,
        write_error=_write_error(question.work) if sees_driver else "",
        weights=weights,
        weights_error=weights_error,
        missing_inputs=tuple(path for path in question.inputs if not Path(path).exists()),
        copies_free=shutil.disk_usage(node_copies().path()).free,
        memory_free=psutil.virtual_memory().available,
        cards=read_cards(),
    )


def _sees(work: Place, nonce: str) -> bool:
    try:
        return work.read(nonce) == nonce.encode()
    except FileNotFoundError:
        return False


def _write_error(work: Place) -> str:
    """Writes and takes back a file of this node's own."""
    name = f".tmp-preflight-{uuid4().hex}"
    try:
        work.write(name, name.encode())
        work.remove(name)
    except OSError as error:
        return reason(error)
    return ""


def _file_hash(path: Path) -> tuple[str, str]:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), ""
    except OSError as error:
        return "", reason(error)
