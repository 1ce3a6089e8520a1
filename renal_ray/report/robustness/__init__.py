"""How far the results hold for other seeds and folds, fewer patients, another scanner, another
mask: kept apart from the study's own tables."""

from collections.abc import Iterator

from renal_ray.protocol.scanners import why_not_left_out
from renal_ray.report.canvas import Drawing
from renal_ray.report.evidence import Evidence
from renal_ray.report.robustness.figures import draw_curve, draw_masks
from renal_ray.report.robustness.learning import learning_table
from renal_ray.report.robustness.masks import mask_table
from renal_ray.report.robustness.repeats import repeats_table
from renal_ray.report.robustness.scanners import scanner_table
from renal_ray.report.tables import Table
from renal_ray.report.text import counted, listed
from renal_ray.trial.masks import masks_wanted


def robustness_tables(evidence: Evidence) -> list[Table]:
    """Repeats, leave-one-scanner-out, learning curve and masks; a table without rows where it was
    not asked for or is not finished."""
    return [
        repeats_table(evidence),
        scanner_table(evidence),
        learning_table(evidence),
        mask_table(evidence),
    ]


def robustness_drawings(evidence: Evidence) -> Iterator[Drawing]:
    """The learning curve and the sensitivity to the mask, where there is something to draw."""
    if any(trial.spec.sides and trial.spec.sides.share < 1 for trial in evidence.trials.beside):
        yield draw_curve(evidence)
    if len(evidence.masks):
        yield draw_masks(evidence)


def robustness_sentences(evidence: Evidence) -> list[str]:
    """What was not asked for, cannot be done or is not finished."""
    study, said = evidence.study, []
    asked = {
        "other seeds and folds (repeats)": study.repeats > 1,
        "another scanner (robustness.leave_scanner_out)": study.robustness.leave_scanner_out,
        "fewer patients (robustness.learning_curve)": bool(study.robustness.learning_curve),
        "another mask (robustness.mask_mm)": bool(study.robustness.mask_mm),
    }
    if absent := [name for name, is_asked in asked.items() if not is_asked]:
        said.append(
            "Not asked for, so that nothing here says how far the "
            f"results hold for {listed(absent)}."
        )
    if study.robustness.leave_scanner_out and (
        why := why_not_left_out(evidence.scanners, study.robustness.scanner_patients)
    ):
        said.append(f"{why[:1].upper()}{why[1:]}.")
    done = {name: len(evidence.trials_of(name)) for name in evidence.beside}
    if lacking := [
        f"{counted(wanted - done[name], 'trial')} of {wanted} ({name})"
        for name, wanted in evidence.beside.items()
        if done[name] < wanted
    ]:
        said.append(f"Not finished yet: {listed(lacking)}; tables are over what there is.")
    wanted, measured = (
        masks_wanted(study),
        evidence.masks[["dataset", "fold"]].drop_duplicates().shape[0],
    )
    if measured < wanted:
        said.append(
            f"Masks of {measured} of {wanted} folds are measured; `renal-ray sweep` "
            "measures the others once their trials are finished."
        )
    return said
