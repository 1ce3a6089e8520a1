"""The study file, read and written: YAML with overrides laid over it, and what is wrong with it in one sentence."""

import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import ValidationError

from renal_ray.config import NAMED_WEIGHTS, PROVENANCE, Cohort, External, Phase, Study
from renal_ray.problems import StudyError

Override = Annotated[str, "key.subkey=value, the value read as YAML"]


def load_study(path: Path, overrides: list[Override] | None = None) -> Study:
    """Reads a study file, or a work directory's study.yaml, and lays the overrides over it.

    Args:
        path: YAML study file, or a work directory that holds study.yaml.
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
        raise StudyError(f"{file}: no such study file; give a YAML study file or a work directory") from None
    except OSError as error:
        raise StudyError(f"{file}: not readable as YAML: {error}") from None
    return parse_study(text, str(file), overrides)


def parse_study(text: bytes, file: str, overrides: list[Override] | None = None) -> Study:
    """As `load_study`, from the text of a study file; `file` is what it is called in messages."""
    try:
        raw = yaml.safe_load(text.decode())
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"{file}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise StudyError(f"{file}: a study file is a mapping of keys to values")
    raw.pop(PROVENANCE, None)
    return _validated(raw, file, overrides)


def study_of_manifest(manifest: Path, overrides: list[Override] | None = None) -> Study:
    """A study that has nothing but a manifest yet, to look at its patients.

    Args:
        manifest: CSV or Parquet.
        overrides: as for `load_study`, for example cohort.lesion_labels=[1].

    Raises:
        StudyError: an override does not fit.
    """
    raw: dict[str, Any] = {"name": re.sub(r"[^\w.-]", "_", manifest.stem) or "manifest", "work": str(manifest.parent), "cohort": {"manifest": str(manifest)}}
    return _validated(raw, str(manifest), overrides)


def _validated(raw: dict[str, Any], file: str, overrides: list[Override] | None) -> Study:
    for override in overrides or []:
        _lay_over(raw, override)
    try:
        return _absolute(Study.model_validate(raw))
    except ValidationError as error:
        raise StudyError(f"{file}: {_sentence(error)}") from None


def load_phase(use: str, rules: Path | None) -> Phase:
    """The rules by which a series is proposed.

    Args:
        use: contrast phase that the study is on.
        rules: YAML of rules by phase; the defaults when omitted.

    Raises:
        StudyError: the file cannot be read, or `use` has no rule.
    """
    try:
        given = {} if rules is None else {"rules": yaml.safe_load(rules.read_text(encoding="utf-8"))}
        return Phase.model_validate({"use": use} | given)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"{rules}: not readable as YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise StudyError(f"{rules or '--phase'}: {_sentence(error)}") from None


OF_FILES = ("lesion_labels", "lesion_segments", "lesion_rois", "fractional_threshold", "mask_resample", "tilt", "oblique", "phase")


def load_external(file: Path, study: Study) -> External:
    """An external cohort for a study's models.

    Args:
        file: a manifest (.csv, .parquet), whose name becomes the cohort's; or YAML with `name` and `cohort`, as a study file has them.
        study: whose settings on how files are read hold where the YAML says nothing.

    Raises:
        StudyError: the file cannot be read, or has other keys: models, thresholds and preprocessing are the study's.
    """
    if file.suffix.lower() in (".csv", ".parquet"):
        raw: Any = {"name": re.sub(r"[^\w.-]", "_", file.stem).lstrip(".-"), "cohort": {"manifest": str(file)}}
    else:
        try:
            raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise StudyError(f"{file}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("cohort"), dict):
        raise StudyError(f"{file}: an external cohort is a mapping with `name` and `cohort`, or a manifest; see docs/using.md")
    if strange := sorted(set(map(str, raw)) - {"name", "cohort"}):
        raise StudyError(
            f"{file}: {', '.join(strange)}: models, thresholds and preprocessing are the study's; an external cohort has `name` and `cohort` alone"
        )
    same = study.cohort.model_dump(include=set(OF_FILES))
    try:
        found = External.model_validate({**raw, "cohort": same | raw["cohort"]})
    except ValidationError as error:
        raise StudyError(f"{file}: {_sentence(error)}") from None
    return found.model_copy(update={"cohort": _settled(found.cohort)})


def _settled(cohort: Cohort) -> Cohort:
    """Paths against the current directory."""
    return cohort.model_copy(update={name: path.absolute() for name in ("manifest", "dicom", "labels", "kits") if (path := getattr(cohort, name)) is not None})


def _absolute(study: Study) -> Study:
    """Settles every local path against the current directory, so that workers and later commands find it from wherever they run."""
    return study.model_copy(
        update={
            "work": study.work if "://" in study.work else str(Path(study.work).absolute()),
            "weights": study.weights if study.weights in NAMED_WEIGHTS else str(Path(study.weights).expanduser().absolute()),
            "cohort": _settled(study.cohort),
        }
    )


def _lay_over(raw: dict[str, Any], override: Override) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise StudyError(f"--set {override}: expected key=value, for example training.batch_size=16")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise StudyError(f"--set {override}: the value is not YAML") from None
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
            message = "unknown key; `renal-ray sweep --help` and the presets in configs/ show the known ones"
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
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
