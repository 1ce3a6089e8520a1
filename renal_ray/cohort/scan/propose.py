"""One CT series and one mask proposed for each patient; what is not clear is asked for, not
decided."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from renal_ray.cohort.scan.best import best
from renal_ray.cohort.scan.grids import Fit, fit_series, volume_grid
from renal_ray.cohort.scan.people import Mask, Person
from renal_ray.cohort.scan.references import named_slices
from renal_ray.cohort.scan.series import CtSeries
from renal_ray.config import Phase
from renal_ray.problems import Code, PatientError, Severity


@dataclass
class Proposal:
    """What a patient's row of the manifest would be.

    Args:
        person: whose.
        image: folder of the CT series; None where none could be proposed.
        series: the series.
        mask: None where none could be proposed.
        phase: of the series, as far as it is recognised.
        problems: what stands in the way, and what is to be looked at.
        damaged: the same of the series' files.
    """

    person: Person
    image: Path | None = None
    series: CtSeries | None = None
    mask: Path | None = None
    phase: str = ""
    problems: list[PatientError] = field(default_factory=list)
    damaged: list[PatientError] = field(default_factory=list)

    @property
    def obstacles(self) -> list[PatientError]:
        """The problems that stand in the way."""
        return [problem for problem in self.problems if problem.code.severity is Severity.ERROR]


def propose(person: Person, rules: Phase) -> Proposal:
    """Proposes a series and its mask.

    A series that a mask was drawn on goes before others, then the phase that the study is on; a tie
    is left open.

    Args:
        person: the patient.
        rules: which phase the study is on, and how phases are recognised.
    """
    proposal = Proposal(person)
    try:
        series, masks = pair(person, rules)
    except PatientError as error:
        proposal.problems += [*person.no_ct, error]
        return proposal
    proposal.image, proposal.series, proposal.phase = series.folder, series, phase_of(series, rules)
    masks, aside = best(masks, series.folder, person.patient)
    proposal.problems += aside
    if any(one.derived for one in series.files):
        message = (
            "the images of the series are derived ones, computed from others; look at "
            "them, and take the original series where there is one"
        )
        proposal.problems.append(PatientError(Code.DERIVED_IMAGE, message, str(series.folder)))
    if len(masks) > 1:
        several = PatientError(
            Code.SEVERAL_MASKS,
            f"{len(masks)} masks on one CT series; keep one, or name it in the manifest",
        )
        return Proposal(person, problems=[*proposal.problems, several])
    if masks:
        proposal.mask = masks[0].path
    else:
        proposal.problems.append(
            PatientError(
                Code.SERIES_WITHOUT_MASK,
                "a CT series but no mask; add the mask, or enter its path in the manifest",
            )
        )
    return proposal


def pair(person: Person, rules: Phase) -> tuple[CtSeries, list[Mask]]:
    """The series of a patient and the masks that were drawn on it.

    Raises:
        PatientError: DIFFERENT_PERSONS, FILE_MISSING, MASK_WITHOUT_SERIES, SEVERAL_SERIES or
            NOT_AXIAL.
    """
    _require_one_person(person)
    named = [one for mask in person.masks for one in _named(mask, list(person.derived.values()))]
    series = {one.key: one for one in [*person.series.values(), *named] if one.first.axial}
    if not series:
        raise _no_series(person)
    pairs = [(one, mask) for mask in person.masks for one in _drawn_on(mask, list(series.values()))]
    if person.masks and not pairs:
        if all(mask.series for mask in person.masks):
            raise PatientError(
                Code.MASK_WITHOUT_SERIES,
                f"the mask was drawn on a series that is {_absence(person)}",
            )
        raise PatientError(
            Code.SEVERAL_SERIES,
            f"{len(series)} CT series, and the mask does not say on which "
            f"it was drawn: {_listed(series, rules)}",
        )
    if not pairs:
        return _by_phase(list(series.values()), rules), []
    drawn = {one.key: one for one, _ in pairs}
    chosen = (
        next(iter(drawn.values())) if len(drawn) == 1 else _by_phase(list(drawn.values()), rules)
    )
    return chosen, [mask for one, mask in pairs if one is chosen]


def _require_one_person(person: Person) -> None:
    if len(person.parts) > 1:
        listed = "; ".join(
            f"person {n}: {', '.join(keys) or 'masks alone'}"
            for n, keys in enumerate(person.parts, 1)
        )
        message = (
            f"files of {len(person.parts)} persons have this PatientID (name, sex or birth "
            f"date differ): {listed}; enter one series in the manifest"
        )
        raise PatientError(
            Code.DIFFERENT_PERSONS, f"{message}, and give the other person an id of its own"
        )


def _no_series(person: Person) -> PatientError:
    if person.series:
        return PatientError(Code.NOT_AXIAL, "only coronal or sagittal CT series; add the axial one")
    if person.masks:
        return PatientError(
            Code.MASK_WITHOUT_SERIES,
            f"a mask ({person.masks[0].name}), but the CT series is {_absence(person)}",
        )
    return PatientError(Code.FILE_MISSING, "no CT series of this patient; add it")


def _absence(person: Person) -> str:
    """Where the series that a mask was drawn on has gone."""
    if person.no_ct:
        return "not proposed, because its values are no CT's; look at it"
    wanted = {uid for mask in person.masks for uid in mask.series}
    codes = {
        one.code for one in person.passed_over if one.code and (one.series in wanted or not wanted)
    }
    if codes:
        return (
            "passed over "
            f"({', '.join(sorted(code.meaning.rstrip('.').lower() for code in codes))}); name "
            "its folder in the manifest if it is the right one"
        )
    return "not in the folder; add that series"


def _named(mask: Mask, series: Sequence[CtSeries]) -> list[CtSeries]:
    """Series that a mask names by UID, or by their images where no UID or several fit."""
    by_uid = [one for one in series if one.first.series in mask.series]
    if len(by_uid) == 1 or mask.found is None or not series:
        return by_uid
    slices = named_slices(mask.path)
    by_slices = [one for one in by_uid or series if one.sops & slices]
    return by_slices or by_uid


def _drawn_on(mask: Mask, series: Sequence[CtSeries]) -> list[CtSeries]:
    """Series that a mask names, else that of its frame of reference or grid, else the only one."""
    named = _named(mask, series)
    if named or mask.series:
        return named
    if mask.found is None:
        return _on_grid(mask, series)
    if mask.frame_of_reference:
        same = [one for one in series if one.first.frame_of_reference == mask.frame_of_reference]
        return same if len(same) == 1 else []
    return list(series) if len(series) == 1 else []


def _on_grid(mask: Mask, series: Sequence[CtSeries]) -> list[CtSeries]:
    """The one series whose grid a label map fits best; of several that in whose folder it lies."""
    grid = volume_grid(mask.path)
    fits = [fit_series(one, grid) for one in series]
    fitting = [
        one
        for one, how in zip(series, fits, strict=True)
        if how == max(fits) and how is not Fit.OTHER
    ]
    if len(fitting) > 1:
        around = [one for one in fitting if mask.path.is_relative_to(one.folder)]
        deepest = max((len(one.folder.parts) for one in around), default=0)
        fitting = [one for one in around if len(one.folder.parts) == deepest]
    return fitting if len(fitting) == 1 else []


def _by_phase(series: list[CtSeries], rules: Phase) -> CtSeries:
    """The only series, or the only one of the study's phase.

    Raises:
        PatientError: SEVERAL_SERIES, or MIXED_ACQUISITIONS where they are acquisitions of one
            series.
    """
    if len(series) == 1:
        return series[0]
    wanted = [one for one in series if phase_of(one, rules) == rules.use]
    if len(wanted) == 1:
        return wanted[0]
    found = "none is" if not wanted else f"{len(wanted)} are"
    keyed = {one.key: one for one in series}
    parts = all(one.is_part for one in series) and len({one.series_key for one in series}) == 1
    code, what = (
        (Code.MIXED_ACQUISITIONS, "acquisitions in one CT series")
        if parts
        else (Code.SEVERAL_SERIES, "CT series")
    )
    raise PatientError(
        code,
        f"{len(series)} {what}, of which {found} {rules.use}; enter one "
        f"in the manifest: {_listed(keyed, rules)}",
    )


def phase_of(series: CtSeries, rules: Phase) -> str:
    """The contrast phase of a series by description, else by delay; empty where not one fits.

    Acquisitions of one series have one description, so the time goes before it.
    """
    text, delay = series.first.description, series.first.delay_s
    named = [
        name
        for name, rule in rules.rules.items()
        if any(re.search(pattern, text, re.IGNORECASE) for pattern in rule.description)
    ]
    timed = [
        name
        for name, rule in rules.rules.items()
        if rule.delay_s and delay is not None and rule.delay_s[0] <= delay <= rule.delay_s[1]
    ]
    if series.is_part and len(timed) == 1:
        return timed[0]
    if len(named) == 1:
        return named[0]
    candidates = [name for name in timed if not named or name in named]
    return candidates[0] if len(candidates) == 1 else ""


def _listed(series: dict[str, CtSeries], rules: Phase) -> str:
    return ", ".join(
        f"{key} ({one.n_images} images, {phase_of(one, rules) or 'phase unknown'})"
        for key, one in sorted(series.items())
    )
