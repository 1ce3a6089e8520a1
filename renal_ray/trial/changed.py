"""Whether the sources say something else than when prepare read them: what every later command asks
before it vouches for a number."""

from dataclasses import dataclass

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.protocol.extend import training_side
from renal_ray.store.place import Place
from renal_ray.store.seal import openings
from renal_ray.store.stamp import CohortChanges, changes_of, read_stamps
from renal_ray.trial.plan import finished_results, make_plan
from renal_ray.trial.prepared import stamp_of

UNREAD = (
    "the cohort's table and images are not at hand here, so whether "
    "they changed since prepare was not looked at"
)
UNUSABLE = (
    "the cohort changed since prepare: its table is another one and cannot be used as it is "
    "now; `renal-ray prepare` says why"
)


@dataclass(frozen=True)
class CohortState:
    """A study's cohort against its sources.

    Args:
        changed: what changed since prepare and what that means, as a sentence; empty where nothing
            did, or nothing is known.
        note: why it is not known; empty where it is.
    """

    changed: str = ""
    note: str = ""

    @property
    def lines(self) -> list[str]:
        """For a terminal."""
        return (
            [f"WARNING: {self.changed}"]
            if self.changed
            else [f"note: {self.note}"]
            if self.note
            else []
        )


def cohort_state(study: Study, work: Place) -> CohortState:
    """Holds the sources against the stamp that prepare left; a work directory without one is
    believed.

    Args:
        study: the study as it stands.
        work: its work directory.
    """
    stamp = stamp_of(study, work)
    if stamp is None or not work.exists("cohort.parquet"):
        return CohortState()
    known, files = work.read_parquet("cohort.parquet"), read_stamps(work)
    try:
        changes = changes_of(stamp, files, known, study.cohort)
    except StudyError:  # what it says names the table, which the report does not
        return CohortState(UNUSABLE)
    if changes is None:
        return CohortState(note=UNREAD)
    if not changes:
        return CohortState()
    return CohortState(
        f"the cohort changed since prepare: {changes.counted()}; "
        f"prepare again{_anew(study, work, changes)}"
    )


def refuse_changed(study: Study, work: Place) -> CohortState:
    """Stops what would go on with a cohort that is another one by now.

    Returns:
        The state, for its note.

    Raises:
        StudyError: labels, patients, masks or images changed since prepare.
    """
    state = cohort_state(study, work)
    if state.changed:
        raise StudyError(state.changed)
    return state


def _anew(study: Study, work: Place, changes: CohortChanges) -> str:
    """How many finished trials the change costs."""
    if changes.added and openings(work):
        return ", which is refused for those added: the seal was opened"
    try:
        plan = make_plan(study, work)
    except StudyError:  # whoever needs the plan says so
        return ""
    results = finished_results(work)
    done = sum(spec.trial_id in results for spec in plan.specs(results))
    if not done:
        return ""
    training = training_side(plan.splits).keys()
    if training & {*changes.labels, *changes.removed}:
        return f", {done} of {plan.total()} trials will be trained anew"
    if (
        changes.added
        or training & changes.of_trials  # another file may show the same pixels
        or (changes.entries and study.robustness.leave_scanner_out)
    ):
        return f", up to {done} of {plan.total()} trials will be trained anew"
    return ", no trial is trained anew" + (
        "" if not changes.of_trials & plan.splits.test else ", the votes are counted anew"
    )
