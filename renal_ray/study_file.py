"""The study file, read and written: YAML with overrides laid over it, and what is wrong with it in
one sentence."""

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from renal_ray.config import NAMED_WEIGHTS, PROVENANCE, Cohort, External, Phase, Section, Study
from renal_ray.config.strict_yaml import read_yaml, write_yaml
from renal_ray.problems import StudyError

Part = TypeVar("Part", bound=Section)
Override = Annotated[str, "key.subkey=value, the value read as YAML"]


def _yaml(text: bytes | str, file: str) -> Any:
    """What YAML says.

    Raises:
        StudyError: it is none, says something twice, or is not UTF-8.
    """
    try:
        return read_yaml(text.decode() if isinstance(text, bytes) else text)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"{file}: not readable as YAML: {' '.join(str(error).split())}") from None


def _read_yaml(file: Path) -> Any:
    try:
        return _yaml(file.read_bytes(), str(file))
    except OSError as error:
        raise StudyError(f"{file}: not readable as YAML: {error}") from None


def load_study(path: Path, overrides: list[Override] | None = None) -> Study:
    """Reads a study file, or a work directory's study.yaml, and lays the overrides over it.

    Args:
        path: YAML study file, or a work directory that holds study.yaml. A directory, and that of a
            study.yaml that a command wrote there, is the study's work directory, wherever it was
            moved or copied from, unless an override names another.
        overrides: `key.subkey=value` each; the value is read as YAML.

    Returns:
        The validated study.

    Raises:
        StudyError: the file is absent or not YAML, a key is unknown, a value does not fit.
    """
    file = path / "study.yaml" if path.is_dir() else path
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        raise StudyError(
            f"{file}: no such study file; give a YAML study file or a work directory"
        ) from None
    except OSError as error:
        raise StudyError(f"{file}: not readable as YAML: {error}") from None
    lies_in_work = path.is_dir() or _is_record(file, text)
    return parse_study(text, str(file), overrides, work=str(file.parent) if lies_in_work else None)


def _is_record(file: Path, text: bytes) -> bool:
    """Whether a study file is the record of a work directory and lies in one, beside its slices."""
    if file.name != "study.yaml" or not (file.parent / "slices").is_dir():
        return False
    raw = _yaml(text, str(file))
    return isinstance(raw, dict) and PROVENANCE in raw


def parse_study(
    text: bytes, file: str, overrides: list[Override] | None = None, *, work: str | None = None
) -> Study:
    """As `load_study`, from the text of a study file.

    Args:
        text: YAML.
        file: what it is called in messages.
        overrides: as for `load_study`.
        work: the work directory that it was found in, path or URI; None where it lies elsewhere.
    """
    raw = _yaml(text, file)
    if not isinstance(raw, dict):
        raise StudyError(f"{file}: a study file is a mapping of keys to values")
    raw.pop(PROVENANCE, None)
    return _validated(raw if work is None else raw | {"work": work}, file, overrides)


def study_of_manifest(manifest: Path, overrides: list[Override] | None = None) -> Study:
    """A study that has nothing but a manifest yet, to look at its patients.

    Args:
        manifest: CSV or Parquet.
        overrides: as for `load_study`, for example cohort.lesion_labels=[1].

    Raises:
        StudyError: an override does not fit.
    """
    raw: dict[str, Any] = {
        "name": re.sub(r"[^\w.-]", "_", manifest.stem) or "manifest",
        "work": str(manifest.parent),
        "cohort": {"manifest": str(manifest)},
    }
    return _validated(raw, str(manifest), overrides)


def _validated(raw: dict[str, Any], file: str, overrides: list[Override] | None) -> Study:
    for override in overrides or []:
        _lay_over(raw, override)
    return _absolute(_fitted(Study, raw, file))


def _fitted(kind: type[Part], raw: Any, file: str) -> Part:
    """A part of a study file, validated; true and false are no numbers, though Python counts them
    as 1 and 0.

    Raises:
        StudyError: a key is unknown, or a value does not fit.
    """
    try:
        found = kind.model_validate(raw)
    except ValidationError as error:
        raise StudyError(f"{file}: {_sentence(error)}") from None
    if place := _boolean_taken_for_number(raw, found):
        raise StudyError(f"{file}: {place}: true or false is given where a number is expected")
    return found


def _boolean_taken_for_number(raw: Any, found: Any) -> str:
    """Where the raw file has a boolean and the validated object a number; empty where nowhere."""
    if isinstance(raw, dict):
        values = (
            found
            if isinstance(found, dict)
            else dict(found)
            if isinstance(found, BaseModel)
            else {}
        )
        places = (
            (key, _boolean_taken_for_number(value, values[key]))
            for key, value in raw.items()
            if key in values
        )
        return next(
            (".".join(filter(None, (str(key), place.strip()))) for key, place in places if place),
            "",
        )
    if isinstance(raw, list):  # a validator may have sorted it
        return (
            " "
            if any(isinstance(one, bool) for one in raw)
            and not any(isinstance(one, bool) for one in found)
            else ""
        )
    return (
        " "
        if isinstance(raw, bool) and isinstance(found, int | float) and not isinstance(found, bool)
        else ""
    )


def load_phase(use: str, rules: Path | None) -> Phase:
    """The rules by which a series is proposed.

    Args:
        use: contrast phase that the study is on.
        rules: YAML of rules by phase; the defaults when omitted.

    Raises:
        StudyError: the file cannot be read, or `use` has no rule.
    """
    given = {} if rules is None else {"rules": _read_yaml(rules)}
    return _fitted(Phase, {"use": use} | given, str(rules or "--phase"))


OF_FILES = (
    "lesion_labels",
    "lesion_segments",
    "lesion_rois",
    "fractional_threshold",
    "mask_resample",
    "tilt",
    "oblique",
    "phase",
)


def load_external(file: Path, study: Study) -> External:
    """An external cohort for a study's models.

    Args:
        file: a manifest (.csv, .parquet), whose name becomes the cohort's; or YAML with `name` and
            `cohort`, as a study file has them.
        study: whose settings on how files are read hold where the YAML says nothing.

    Raises:
        StudyError: the file cannot be read, or has other keys: models, thresholds and preprocessing
            are the study's.
    """
    if file.suffix.lower() in (".csv", ".parquet"):
        raw: Any = {
            "name": re.sub(r"[^\w.-]", "_", file.stem).lstrip(".-"),
            "cohort": {"manifest": str(file)},
        }
    else:
        raw = _read_yaml(file)
    if not isinstance(raw, dict) or not isinstance(raw.get("cohort"), dict):
        raise StudyError(
            f"{file}: an external cohort is a mapping with `name` and "
            "`cohort`, or a manifest; see docs/using.md"
        )
    if strange := sorted(set(map(str, raw)) - {"name", "cohort"}):
        raise StudyError(
            f"{file}: {', '.join(strange)}: models, thresholds and preprocessing are the "
            "study's; an external cohort has `name` and `cohort` alone"
        )
    same = study.cohort.model_dump(include=set(OF_FILES))
    found = _fitted(External, {**raw, "cohort": same | raw["cohort"]}, str(file))
    return found.model_copy(update={"cohort": _settled(found.cohort)})


def _settled(cohort: Cohort) -> Cohort:
    """Paths against the current directory."""
    return cohort.model_copy(
        update={
            name: path.absolute()
            for name in ("manifest", "dicom", "labels", "kits")
            if (path := getattr(cohort, name)) is not None
        }
    )


def _absolute(study: Study) -> Study:
    """Settles every local path against the current directory, so that workers and later commands
    find it from wherever they run."""
    return study.model_copy(
        update={
            "work": study.work if "://" in study.work else str(Path(study.work).absolute()),
            "weights": study.weights
            if study.weights in NAMED_WEIGHTS
            else str(Path(study.weights).expanduser().absolute()),
            "cohort": _settled(study.cohort),
        }
    )


def _lay_over(raw: dict[str, Any], override: Override) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise StudyError(
            f"--set {override}: expected key=value, for example training.batch_size=16"
        )
    value = _yaml(text, f"--set {override}")
    *parents, last = key.strip().split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise StudyError(f"--set {override}: {parent} is a value, not a section")
    raw[last] = value


def _sentence(error: ValidationError) -> str:
    parts = []
    for item in error.errors(include_url=False):
        where = ".".join(str(step) for step in item["loc"]) or "study"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = (
                "unknown key; `renal-ray sweep --help` and the presets "
                "in configs/ show the known ones"
            )
        parts.append(f"{where}: {message}")
    return "; ".join(parts)


def dump_study(study: Study, provenance: dict[str, Any] | None = None) -> str:
    """Writes a study as YAML, as kept in the work directory.

    Args:
        study: the resolved study.
        provenance: versions and hashes to keep beside it.

    Returns:
        YAML text that `load_study` reads back to an equal study.
    """
    data: dict[str, Any] = study.model_dump(mode="json")
    if provenance is not None:
        data[PROVENANCE] = provenance
    return write_yaml(data)
