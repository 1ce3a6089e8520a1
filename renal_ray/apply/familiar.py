"""How much a patient is like those that the models were trained on: by the lesion's attenuation,
and by where the models place it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from renal_ray.apply.chosen import Chosen
from renal_ray.store.ledger import Ledger
from renal_ray.store.slices import Slices
from renal_ray.trial.feed import read_embeddings
from renal_ray.types import Dataset

NEIGHBOURS = 5
FAR_PERCENTILE = 95.0  # one in twenty patients like those of the study is warned of, too
TAILS = (2.5, 97.5)
SLICES_LOOKED_AT = 4  # of a training patient, for its attenuation
RED_HU = (-110.0, 190.0)  # window of the red channel


@dataclass(frozen=True)
class Attenuation:
    """The lesion as the networks see it: within -110 to 190 HU, fat and air below left out.

    Args:
        mean, sd: HU over the lesion's pixels in the kept slices; None where nothing of the lesion
            lies in the window.
    """

    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class Placed:
    """One number of a patient among those of the training cohort.

    Args:
        name: which.
        value: the patient's; None where it cannot be told.
        percentile: share of the reference patients below, in percent, of equal ones half; None
            likewise.
        n: reference patients.
        unusual: whether a warning is due.
    """

    name: str
    value: float | None
    percentile: float | None
    n: int
    unusual: bool


@dataclass(frozen=True)
class Neighbourhood:
    """Distances in one fold model's embedding.

    Args:
        training: float32 (n, width), a unit vector a training patient of the fold.
        typical: median distance of the fold's validation patients; 0 where the embedding tells
            nobody apart.
        validation: (m,) distances of the validation patients, as a share of the typical one.
    """

    training: np.ndarray
    typical: float
    validation: np.ndarray

    def relative(self, embeddings: np.ndarray) -> float | None:
        """Distance of a patient, as a share of the typical one; None where there is no typical one.

        Args:
            embeddings: float32 (slices, width).
        """
        return (
            float(_distances(_direction(embeddings)[None], self.training)[0]) / self.typical
            if self.typical > 0
            else None
        )


@dataclass(frozen=True)
class Reference:
    """What a patient is compared with: training patients only, the sealed ones are not looked at.

    Args:
        folds: by trial_id of the image trial.
        mean_hu, sd_hu: (n,) of the training patients' lesions.
    """

    folds: Mapping[str, Neighbourhood]
    mean_hu: np.ndarray
    sd_hu: np.ndarray

    def place(self, attenuation: Attenuation, embeddings: Mapping[str, np.ndarray]) -> list[Placed]:
        """Compares a patient.

        The embedding distance is that to the fifth nearest training patient (Y. Sun et al.,
        Out-of-distribution detection with deep nearest neighbors, ICML 2022: unit vectors,
        Euclidean distance), of each fold model, as a share of the median over its validation
        patients, and the median over the fold models of that. Its percentile is among the
        validation patients of all folds, each judged by the model that did not train on them. A
        warning is due from the 95th percentile on; for mean and SD of the attenuation below the
        2.5th or above the 97.5th.

        Args:
            attenuation: of the patient, by `attenuation`.
            embeddings: by trial_id of the image trial, float32 (slices, width).
        """
        told = [
            one
            for trial_id, values in embeddings.items()
            if (one := self.folds[trial_id].relative(values)) is not None
        ]
        away = float(np.median(told)) if told else None
        pooled = np.concatenate(
            [one.validation for one in self.folds.values() if one.typical > 0] or [np.zeros(0)]
        )
        rank = _percentile(away, pooled)
        placed = [
            Placed(
                "embedding distance",
                away,
                rank,
                len(pooled),
                rank is not None and rank >= FAR_PERCENTILE,
            )
        ]
        for name, value, all_of in (
            ("lesion mean HU as seen", attenuation.mean, self.mean_hu),
            ("lesion SD of HU as seen", attenuation.sd, self.sd_hu),
        ):
            rank = _percentile(value, all_of)
            placed.append(
                Placed(
                    name,
                    value,
                    rank,
                    len(all_of),
                    value is None or (rank is not None and not TAILS[0] <= rank <= TAILS[1]),
                )
            )
        return placed


def attenuation(images: np.ndarray) -> Attenuation:
    """Mean and SD of a lesion's attenuation.

    Args:
        images: uint8 (n, size, size, 3) of the dataset roi, black outside the lesion.
    """
    inside = images.any(axis=-1)
    if not inside.any():
        return Attenuation(None, None)
    hu = RED_HU[0] + images[..., 0][inside].astype(np.float64) / 255 * (RED_HU[1] - RED_HU[0])
    return Attenuation(float(hu.mean()), float(hu.std()))


def read_reference(chosen: Chosen) -> Reference:
    """Reads the training patients' lesions and embeddings.

    Args:
        chosen: the models.

    Raises:
        DamagedFileError: a trial's embeddings are not those that it wrote.
    """
    looked_at = [one for one in _training_attenuation(chosen) if one.mean is not None]
    values = np.array([(one.mean, one.sd) for one in looked_at], np.float64).reshape(-1, 2)
    return Reference(dict(_neighbourhoods(chosen)), values[:, 0], values[:, 1])


def _training_attenuation(chosen: Chosen) -> Iterator[Attenuation]:
    splits = chosen.run.plan.splits
    slices = Slices(
        chosen.run.work, Dataset.ROI, sealed=splits.test
    )  # prepare writes all datasets, whichever are trained on
    for patient in sorted(splits.training):
        images = slices.images(patient)
        yield attenuation(images[spread(len(images), SLICES_LOOKED_AT)])


def spread(n: int, most: int) -> np.ndarray:
    """At most `most` of n places, evenly from the first to the last, ascending."""
    return np.unique(np.rint(np.linspace(0, n - 1, min(n, most))).astype(int))


def _neighbourhoods(chosen: Chosen) -> Iterator[tuple[str, Neighbourhood]]:
    ledger = Ledger(chosen.run.work)
    for spec in chosen.images:
        embeddings = read_embeddings(ledger.read_checked(spec.trial_id, "embeddings.arrow"))
        fold = chosen.run.plan.splits.fold(spec.fold)
        training = _directions(embeddings, fold.train)
        distances = _distances(_directions(embeddings, fold.validation), training)
        typical = float(np.median(distances))
        yield (
            spec.trial_id,
            Neighbourhood(training, typical, distances / typical if typical > 0 else distances),
        )


def _directions(embeddings: Mapping[str, np.ndarray], patients: Sequence[str]) -> np.ndarray:
    return np.stack([_direction(embeddings[patient]) for patient in patients])


def _direction(embeddings: np.ndarray) -> np.ndarray:
    """A patient's mean embedding, scaled to length 1; of no length where all values are 0."""
    mean: np.ndarray = embeddings.astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(mean))
    return mean / length if length > 0 else mean


def _distances(patients: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Distance of each of (m, width) to its fifth nearest of (n, width), or to the farthest where
    there are fewer."""
    squared = (
        (patients**2).sum(axis=1)[:, None]
        + (training**2).sum(axis=1)[None]
        - 2 * patients @ training.T
    )
    nth = min(NEIGHBOURS, len(training)) - 1
    return np.asarray(np.sqrt(np.partition(squared.clip(min=0), nth, axis=1)[:, nth]))


def _percentile(value: float | None, reference: np.ndarray) -> float | None:
    if value is None or not len(reference):
        return None
    return float(100 * (np.mean(reference < value) + np.mean(reference == value) / 2))
