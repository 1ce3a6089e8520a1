"""The fold models' vote on patients, and where they looked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from renal_ray.apply.chosen import LEVEL, Chosen
from renal_ray.protocol.vote import majority
from renal_ray.trial.score import activations_of, fold_outputs
from renal_ray.trial.workshop import Workshop
from renal_ray.types import Head


@dataclass(frozen=True)
class Voter:
    """What one fold model says of a patient.

    Args:
        fold: its validation fold.
        trial_id: its trial.
        score: P(malignant) of the patient, calibrated where the study says so.
        threshold: from which it says malignant.
        raw_score: what the network said.
        decision: 1 malignant, 0 benign.
    """

    fold: int
    trial_id: str
    score: float
    threshold: float
    raw_score: float
    decision: int


@dataclass(frozen=True)
class Vote:
    """What the fold models say of a patient.

    Args:
        voters: each of them, by fold.
        votes: how many say malignant.
        decision: 1 malignant, 0 benign, by their majority.
        score: mean of their scores.
        slice_scores: float64 (slices,), mean P(malignant) of the image models for each slice.
        embeddings: by trial_id of the image trial, float32 (slices, width).
    """

    voters: tuple[Voter, ...]
    votes: int
    decision: int
    score: float
    slice_scores: np.ndarray
    embeddings: dict[str, np.ndarray]

    @property
    def lowest(self) -> float:
        """The lowest of the voters' scores."""
        return min(voter.score for voter in self.voters)

    @property
    def highest(self) -> float:
        """The highest of the voters' scores."""
        return max(voter.score for voter in self.voters)

    @property
    def sd(self) -> float | None:
        """Standard deviation of the voters' scores (ddof = 1); None with a single voter."""
        return (
            float(np.std([voter.score for voter in self.voters], ddof=1))
            if len(self.voters) > 1
            else None
        )


def vote(chosen: Chosen, images: Sequence[np.ndarray], workshop: Workshop) -> list[Vote]:
    """Lets the fold models vote on some patients.

    Args:
        chosen: the models.
        images: each patient's slices as the models' dataset shows them, uint8 (n, size, size, 3).
        workshop: compiled models.

    Returns:
        A vote for each patient.

    Raises:
        DamagedFileError: the weights of a trial are not those that it wrote.
    """
    counts = [len(one) for one in images]
    ends = np.cumsum(counts)[:-1]
    activations = activations_of(images, chosen.images[0], workshop)
    scores: dict[str, list[float]] = {}
    by_slice: list[list[np.ndarray]] = []
    embedded: dict[str, list[np.ndarray]] = {}
    for output in fold_outputs(chosen.trials, activations, counts, chosen.run.work, workshop):
        if output.spec.head is Head.IMAGE:
            by_slice.append(np.split(output.scores, ends))
            embedded[output.spec.trial_id] = np.split(output.embeddings, ends)
            # Rounded to float32, as the study's own patient-level scores were before its thresholds
            # were fixed on them.
            scores[output.spec.trial_id] = [
                float(np.float32(one.mean(dtype=np.float64))) for one in by_slice[-1]
            ]
        else:
            scores[output.spec.trial_id] = [float(one) for one in output.scores]
    return [_count(chosen, n, scores, by_slice, embedded) for n in range(len(images))]


def _count(
    chosen: Chosen,
    n: int,
    scores: dict[str, list[float]],
    by_slice: list[list[np.ndarray]],
    embedded: dict[str, list[np.ndarray]],
) -> Vote:
    voters = []
    for spec in chosen.voters:
        decides, raw = chosen.decisions[spec.trial_id][LEVEL], scores[spec.trial_id][n]
        score, said = float(decides.probabilities([raw])[0]), int(decides.malignant([raw])[0])
        voters.append(Voter(spec.fold, spec.trial_id, score, decides.threshold, raw, said))
    counted = majority([[voter.decision] for voter in voters], [[voter.score] for voter in voters])
    calibrated = [
        chosen.decisions[spec.trial_id]["slice"].probabilities(one[n])
        for spec, one in zip(chosen.images, by_slice, strict=True)
    ]
    per_slice = np.mean(calibrated, axis=0)
    embeddings = {trial_id: one[n] for trial_id, one in embedded.items()}
    return Vote(
        tuple(voters),
        int(counted.votes[0]),
        int(counted.decision[0]),
        float(counted.score[0]),
        per_slice,
        embeddings,
    )


def attention(chosen: Chosen, images: np.ndarray, workshop: Workshop) -> np.ndarray:
    """Where the image models looked, averaged over them.

    Args:
        chosen: the models.
        images: of one patient, uint8 (n, size, size, 3).
        workshop: compiled models.

    Returns:
        float32 (n, size, size) in 0..1.
    """
    return np.asarray(np.mean(list(_maps(chosen, images, workshop)), axis=0, dtype=np.float32))


def _maps(chosen: Chosen, images: np.ndarray, workshop: Workshop) -> Iterator[np.ndarray]:
    from renal_ray.trial.explain import attention_maps

    for spec in chosen.images:
        yield attention_maps(spec, images, chosen.run.work, workshop)
