"""What is said of one patient, as every output says it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from renal_ray import __version__
from renal_ray.apply.chosen import Chosen
from renal_ray.apply.familiar import FAR_PERCENTILE, NEIGHBOURS, TAILS, Placed
from renal_ray.apply.known import WHOSE
from renal_ray.apply.reading import Seen
from renal_ray.apply.voters import Vote
from renal_ray.trial.decide import rule_of
from renal_ray.types import Label

DISCLAIMER = "For research only. Not for clinical use: no decision on a patient may rest on it."
VOTERS_NOTE = (
    "Range and standard deviation of the fold models' scores: how far models "
    "that were trained on overlapping patients agree. "
    "They are no confidence interval, and agreement does not mean that the models are right."
)
SCORE_NOTES = {
    False: (
        "The score is the mean of the fold models' outputs for malignant. It was "
        "not calibrated: 0.8 does not mean 80 of 100 patients."
    ),
    True: (
        "The score is the mean of the fold models' outputs for malignant, each calibrated "
        "on its own validation fold. On other patients it may be off."
    ),
}
PLACED_NOTE = (
    f"Embedding distance: to the {NEIGHBOURS}th nearest training patient, in units of the "
    "median validation patient's. Percentiles: among the validation "
    "patients of the study for the distance, among its training patients for the "
    "attenuation (of the roi image: within -110 to 190 HU, edges blurred). "
    "A warning is given from percentile "
    f"{FAR_PERCENTILE:g} on for the distance, and outside {TAILS[0]:g} to {TAILS[1]:g} for "
    "the attenuation: each of the three warns of about one in twenty "
    "patients like those of the study. Where nothing is unusual, the models can still be wrong."
)


@dataclass(frozen=True)
class Prediction:
    """A patient's prediction.

    Args:
        chosen: the models.
        seen: the patient as read.
        vote: of the fold models.
        placed: how the patient compares with the training cohort.
        attention: float32 (n, size, size) in 0..1, where the image models looked.
        known: role of the study's patient who has the same image: train, test, or empty.
    """

    chosen: Chosen
    seen: Seen
    vote: Vote
    placed: tuple[Placed, ...]
    attention: np.ndarray
    known: str = ""

    @property
    def patient_id(self) -> str:
        """The folder's or the manifest's name of the patient."""
        return self.seen.case.patient_id

    @property
    def decision(self) -> str:
        """benign or malignant."""
        return Label(self.vote.decision).name.lower()

    @property
    def is_calibrated(self) -> bool:
        """Whether the study turns scores into probabilities."""
        return self.chosen.run.study.calibrate != "none"

    @property
    def score_note(self) -> str:
        """What the score is, one sentence or two."""
        return SCORE_NOTES[self.is_calibrated]

    @property
    def has_map(self) -> bool:
        """Whether attention differs anywhere; below 107 pixels the last layer has one place, and no
        map is drawn."""
        return bool(np.ptp(self.attention.reshape(len(self.attention), -1), axis=1).any())

    @property
    def map_note(self) -> str:
        """What stands beside the slices, one sentence."""
        if self.has_map:
            return "Grad-CAM for malignant, mean of the fold models: where they looked"
        return "no attention map: attention is the same everywhere in images this small"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the patient unlike those of the study, and so the models less to be believed;
        one sentence each."""
        return tuple(_warning(one) for one in self.placed if one.unusual)

    @property
    def seen_before(self) -> str:
        """That the image is one of the study's own, one sentence; empty where it is not, or where
        the study kept no fingerprints."""
        why = {
            "train": "the models were made with it, and their score is no prediction",
            "test": "it counts in the study's own test already, and is no new patient",
        }
        return (
            f"the image is that of {WHOSE[self.known]} of the study: {why[self.known]}"
            if self.known
            else ""
        )

    @property
    def model_name(self) -> str:
        """Study, dataset, freeze point and head."""
        chosen = self.chosen
        return f"{chosen.run.study.name} {chosen.dataset} {chosen.freeze_point} {chosen.head}"

    def to_json(self) -> dict[str, Any]:
        """As written to prediction.json; nothing of the patient but the id that the command was
        given."""
        chosen, vote, slices = self.chosen, self.vote, self.seen.slices
        mean_auc, sd_auc = chosen.mean_auc()
        hu = slices.hu[slices.shown].astype(np.float64)
        return {
            "patient_id": self.patient_id,
            "not_for_clinical_use": DISCLAIMER,
            "program": f"renal-ray {__version__}",
            "model": {
                "study": chosen.run.study.name,
                "dataset": chosen.dataset,
                "freeze_point": chosen.freeze_point,
                "head": chosen.head,
                "validation_auc": {"mean": mean_auc, "sd": sd_auc, "level": "patient"},
                "folds": [
                    {
                        "fold": spec.fold,
                        "trial_id": spec.trial_id,
                        "weights_sha256": chosen.weights_sha256(spec),
                    }
                    for spec in chosen.voters
                ],
                "rule": rule_of(chosen.run.study),
            },
            "decision": self.decision,
            "votes_malignant": vote.votes,
            "n_models": len(vote.voters),
            "score": vote.score,
            "score_note": self.score_note,
            "voters": {
                "lowest": vote.lowest,
                "highest": vote.highest,
                "sd": vote.sd,
                "note": VOTERS_NOTE,
            },
            "by_fold": [
                {
                    "fold": one.fold,
                    "trial_id": one.trial_id,
                    "score": one.score,
                    "raw_score": one.raw_score,
                    "threshold": one.threshold,
                    "decision": Label(one.decision).name.lower(),
                }
                for one in vote.voters
            ],
            "likeness": {
                "unusual": bool(self.warnings),
                "warnings": list(self.warnings),
                "note": PLACED_NOTE,
                "measures": [
                    {
                        "name": one.name,
                        "value": one.value,
                        "percentile": one.percentile,
                        "reference_patients": one.n,
                        "unusual": one.unusual,
                    }
                    for one in self.placed
                ],
            },
            "seen_before": self.seen_before or None,
            "lesion": {
                "max_diameter_mm": slices.max_diameter_mm,
                "hu": {
                    "mean": hu.mean(),
                    "sd": hu.std(),
                    "p5": float(np.percentile(hu, 5)),
                    "p95": float(np.percentile(hu, 95)),
                },
                "slices_kept": len(slices.slice_index),
                "slices_in_series": slices.n_slices_total,
            },
            "slices": [
                {
                    "slice_index": int(index),
                    "position_mm": float(position),
                    "lesion_area_mm2": float(area),
                    "score": float(score),
                }
                for index, position, area, score in zip(
                    slices.slice_index,
                    slices.position_mm,
                    slices.lesion_area_mm2,
                    vote.slice_scores,
                    strict=True,
                )
            ],
            "findings": [
                {"code": str(one.code), "message": one.message} for one in slices.findings
            ],
            "read": {"image": slices.image_facts, "mask": slices.mask_facts},
        }


def _warning(one: Placed) -> str:
    if one.value is None:
        return (
            f"{one.name}: nothing of the lesion lies between -110 and 190 HU, so "
            "it cannot be compared with the training cohort"
        )
    if one.name == "embedding distance":
        others = "all" if one.percentile == 100 else f"{one.percentile:.0f} %"
        return (
            "the models place the patient farther from their training patients "
            f"than {others} of the {one.n} validation patients"
        )
    where = "below" if one.percentile is not None and one.percentile < 50 else "above"
    return (
        f"{one.name} is {one.value:.0f}, {where} nearly all of the {one.n} "
        f"training patients (percentile {one.percentile:.0f})"
    )
