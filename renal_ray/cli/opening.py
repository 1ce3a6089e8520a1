"""Opening a study: from a file or a work directory, alone or as the one that writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from renal_ray.problems import StudyError, reason

if TYPE_CHECKING:
    from renal_ray.config import Study
    from renal_ray.store.place import Place


def load(file: str, overrides: list[str] | None) -> "Study":
    """The study of a file or of a work directory, here or in object storage; a directory that is
    given is the work directory, wherever it was moved or copied from."""
    from renal_ray.study_file import load_study, parse_study

    if "://" not in file:
        return load_study(Path(file), overrides)
    from renal_ray.store.place import Place

    work = Place(file)
    try:
        return parse_study(work.read("study.yaml"), work.shown("study.yaml"), overrides, work=file)
    except FileNotFoundError:
        raise StudyError(
            f"{work.shown('study.yaml')}: no such file; give a work directory "
            "that a study has written to, or the study file"
        ) from None
    except OSError as error:
        raise StudyError(f"{work.shown('study.yaml')} cannot be read: {reason(error)}") from None


def open_study(
    file: str, overrides: list[str] | None, *, show: bool = True
) -> "tuple[Study, Place]":
    """A study and its work directory; `show` prints the resolved study file."""
    from renal_ray.store.place import Place
    from renal_ray.study_file import dump_study

    study = load(file, overrides)
    work = Place(study.work)
    if show:
        print(dump_study(study))
    return study, work


@contextmanager
def working(file: str, overrides: list[str] | None, *, keep: bool = True) -> "Iterator[Study]":
    """Opens a study to write into its work directory, which no other run may do meanwhile; `keep`
    records it there as study.yaml."""
    from renal_ray.store.lock import held
    from renal_ray.trial.record import keep_study

    study, work = open_study(file, overrides)
    with held(work):
        if keep:
            keep_study(study, work)
        yield study
