"""One CT series and one mask proposed for each patient; what is not clear is asked for, not decided."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from renal_ray.cohort.scan.people import CtSeries, Mask, Person
from renal_ray.config import Phase
from renal_ray.problems import Code, PatientError


@dataclass
class Proposal:
    """What a patient's row of the manifest would be.

    Args:
        person: whose.
        image: folder of the CT series; None where none could be proposed.
        series: its key.
        mask: None where none could be proposed.
        phase: of the series, as far as it is recognised.
        problems: what stands in the way, and what is to be looked at.
    """

    person: Person
    image: Path | None = None
    series: str = ""
    mask: Path | None = None
    phase: str = ""
    problems: list[PatientError] = field(default_factory=list)


def propose(person: Person, rules: Phase) -> Proposal:
    """Proposes a series and its mask.

    A series that a mask was drawn on goes before others, then the phase that the study is on; a tie is left open.

    Args:
        person: the patient.
        rules: which phase the study is on, and how phases are recognised.
    """
    proposal = Proposal(person)
    try:
        series, mask = pair(person, rules)
    except PatientError as error:
        proposal.problems.append(error)
        return proposal
    proposal.image, proposal.series, proposal.phase = series.folder, series.key, phase_of(series, rules)
    if mask is None:
        proposal.problems.append(PatientError(Code.SERIES_WITHOUT_MASK, "a CT series but no mask; add the mask, or enter its path in the manifest"))
    else:
        proposal.mask = mask.path
    return proposal


def pair(person: Person, rules: Phase) -> tuple[CtSeries, Mask | None]:
    """The series of a patient and the mask that was drawn on it.

    Raises:
        PatientError: FILE_MISSING, MASK_WITHOUT_SERIES, SEVERAL_SERIES, SEVERAL_MASKS or NOT_AXIAL.
    """
    if not person.series:
        if person.masks:
            raise PatientError(Code.MASK_WITHOUT_SERIES, f"a mask ({person.masks[0].name}) but no CT series; add the series")
        raise PatientError(Code.FILE_MISSING, "no CT series of this patient; add it")
    series = {key: one for key, one in person.series.items() if one.first.axial}
    if not series:
        raise PatientError(Code.NOT_AXIAL, "only coronal or sagittal CT series; add the axial one")
    pairs = [(one, mask) for mask in person.masks for one in _drawn_on(mask, series, person)]
    if person.masks and not pairs:
        if all(mask.series for mask in person.masks):
            raise PatientError(Code.MASK_WITHOUT_SERIES, "the mask was drawn on a series that is not in the folder; add that series")
        raise PatientError(Code.SEVERAL_SERIES, f"{len(series)} CT series, and the mask does not say on which it was drawn: {_listed(series, rules)}")
    if not pairs:
        return _by_phase(list(series.values()), rules), None
    drawn = {one.key: one for one, _ in pairs}
    chosen = next(iter(drawn.values())) if len(drawn) == 1 else _by_phase(list(drawn.values()), rules)
    masks = [mask for one, mask in pairs if one is chosen]
    if len(masks) > 1:
        raise PatientError(Code.SEVERAL_MASKS, f"{len(masks)} masks on one CT series; keep one, or name it in the manifest")
    return chosen, masks[0]


def _drawn_on(mask: Mask, series: dict[str, CtSeries], person: Person) -> list[CtSeries]:
    """Series that a mask can belong to: those it refers to, else those of its frame of reference, else the only one."""
    if mask.series:
        return [one for one in series.values() if one.first.series in mask.series]
    if mask.frame_of_reference:
        same = [one for one in series.values() if one.first.frame_of_reference == mask.frame_of_reference]
        return same if len(same) == 1 else []
    return list(series.values()) if len(series) == 1 else []


def _by_phase(series: list[CtSeries], rules: Phase) -> CtSeries:
    """The only series, or the only one of the study's phase.

    Raises:
        PatientError: SEVERAL_SERIES.
    """
    if len(series) == 1:
        return series[0]
    wanted = [one for one in series if phase_of(one, rules) == rules.use]
    if len(wanted) == 1:
        return wanted[0]
    found = "none is" if not wanted else f"{len(wanted)} are"
    keyed = {one.key: one for one in series}
    raise PatientError(Code.SEVERAL_SERIES, f"{len(series)} CT series, of which {found} {rules.use}; enter one in the manifest: {_listed(keyed, rules)}")


def phase_of(series: CtSeries, rules: Phase) -> str:
    """The contrast phase of a series: by its description, else by the time since the injection; empty where neither or more than one fits."""
    text, delay = series.first.description, series.first.delay_s
    named = [name for name, rule in rules.rules.items() if any(re.search(pattern, text, re.IGNORECASE) for pattern in rule.description)]
    if len(named) == 1:
        return named[0]
    timed = [name for name, rule in rules.rules.items() if rule.delay_s and delay is not None and rule.delay_s[0] <= delay <= rule.delay_s[1]]
    candidates = [name for name in timed if not named or name in named]
    return candidates[0] if len(candidates) == 1 else ""


def _listed(series: dict[str, CtSeries], rules: Phase) -> str:
    return ", ".join(f"{key} ({len(one.files)} files, {phase_of(one, rules) or 'phase unknown'})" for key, one in sorted(series.items()))
