"""Whether an image is one of the study's own, by the fingerprints that prepare keeps."""

from renal_ray.apply.chosen import Run
from renal_ray.problems import DamagedFileError, StudyError

SHARDS = "slices/shards"
WHOSE = {"train": "a training patient", "test": "a sealed test patient"}


def owners_of_images(run: Run) -> dict[str, str]:
    """The study's images.

    Args:
        run: a prepared study.

    Returns:
        Digest of a slice, see `imaging.survey.fingerprint` -> role of the patient who has it, train
        before test; empty where the work directory keeps no fingerprints.

    Raises:
        StudyError: a file with fingerprints is damaged.
    """
    roles = {one.patient_id: one.role for one in run.plan.splits.patients}
    owners: dict[str, str] = {}
    for name in run.work.entries(SHARDS):
        if not name.endswith(".json"):
            continue
        try:
            part = run.work.read_checked_json(f"{SHARDS}/{name}")
        except DamagedFileError as error:
            raise StudyError(
                f"{error}; images cannot be compared with those of the study"
            ) from None
        for patient, digests in part["fingerprints"].items():
            for one in digests:
                if patient in roles and owners.get(one) != "train":
                    owners[one] = roles[patient]
    return owners


def role_of(fingerprint: frozenset[str] | set[str], owners: dict[str, str]) -> str:
    """Role of the study's patient who shares an image with another: train, test, or empty where
    nobody does."""
    shared = {owners[one] for one in fingerprint if one in owners}
    return "train" if "train" in shared else "test" if shared else ""
