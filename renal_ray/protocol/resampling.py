"""All metrics of a model on the same resampled patients, by arithmetic on how often each patient
was drawn."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from renal_ray.protocol.bootstrap import BootstrapInterval, Method, bounds
from renal_ray.protocol.clusters import as_clusters
from renal_ray.protocol.metrics import METRICS, as_labels_and_scores

CHUNK = 4_000_000  # weights of samples held at once: resamples x samples


@dataclass(frozen=True)
class Resampled:
    """One metric on resampled patients.

    Args:
        value: on the patients as they are; NaN where undefined.
        replicates: (n,) on each resample.
        jackknife: (patients,) without each patient.
        malignant: (patients,) bool, class of each patient.
    """

    value: float
    replicates: NDArray[np.float64]
    jackknife: NDArray[np.float64]
    malignant: NDArray[np.bool_]

    def interval(self, method: Method = "bca", level: float = 0.95) -> BootstrapInterval:
        """Its interval, as `bootstrap.bootstrap_interval` would give it.

        Args:
            method: bca or percentile.
            level: confidence, in 0..1.
        """
        if math.isnan(self.value):
            return BootstrapInterval(None, None, None, 0, len(self.replicates), method)
        return bounds(
            self.value, self.replicates, self.jackknife, self.malignant, method=method, level=level
        )


def resampled_metrics(
    labels: ArrayLike,
    scores: ArrayLike,
    decisions: ArrayLike,
    *,
    patients: ArrayLike,
    n: int,
    seed: int,
) -> dict[str, Resampled]:
    """Draws patients with replacement within each class, each with all the samples, and computes
    every metric on each draw.

    The same as calling a metric on every resample, but a resample is the vector of how often each
    patient was drawn: confusion counts are then one matrix product, and AUC is a weighted
    Mann-Whitney statistic. C. A. Field and A. H. Welsh, Bootstrapping clustered data, J R Stat Soc
    B 69 (2007) 369-390.

    Args:
        labels: (n_samples,) 0 or 1; one value a patient.
        scores: (n_samples,) P(malignant).
        decisions: (n_samples,) 0 or 1.
        patients: (n_samples,) patient of each sample.
        n: resamples.
        seed: seed of the draw.

    Returns:
        auc, acc, sen, spec, ppv, npv, mcc.

    Raises:
        ValueError: a patient has samples of both classes, the lengths differ, or there is no
            sample.
    """
    truth, values = as_labels_and_scores(labels, scores)
    called = np.asarray(decisions).astype(bool)
    if called.shape != truth.shape or not len(truth):
        raise ValueError(
            f"{len(truth)} labels and decisions of shape {called.shape}; one "
            "decision a label is needed, and at least one"
        )
    clusters = as_clusters(truth, patients)
    owners, malignant, n_patients = clusters.of, clusters.labels, len(clusters.labels)
    kinds = (truth & called, truth & ~called, ~truth & called, ~truth & ~called)
    counts = np.stack([np.bincount(owners[kind], minlength=n_patients) for kind in kinds], axis=1)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    chunk = max(1, CHUNK // len(truth))

    def measure(weights: Iterator[NDArray[np.int64]]) -> NDArray[np.float64]:
        return np.concatenate(
            [_metrics(w, counts, truth[order], owners[order], starts) for w in weights]
        )

    everyone = np.ones((1, n_patients), np.int64)
    found = [
        measure(iter([everyone])),
        measure(_draws(malignant, n, seed, chunk)),
        measure(_without_one(n_patients, chunk)),
    ]
    return {
        name: Resampled(float(found[0][0, k]), found[1][:, k], found[2][:, k], malignant)
        for k, name in enumerate(METRICS)
    }


def _draws(
    malignant: NDArray[np.bool_], n: int, seed: int, chunk: int
) -> Iterator[NDArray[np.int64]]:
    """How often each patient is drawn, (resamples, patients) at a time; each class has its own
    generator, so that the chunks change nothing."""
    classes = [
        (np.flatnonzero(malignant == label), np.random.default_rng([seed, int(label)]))
        for label in (False, True)
    ]
    for begin in range(0, n, chunk):
        size = min(chunk, n - begin)
        weights = np.zeros((size, len(malignant)), np.int64)
        for members, rng in classes:
            if len(members):
                weights[:, members] = rng.multinomial(
                    len(members), np.full(len(members), 1 / len(members)), size=size
                )
        yield weights


def _without_one(n_patients: int, chunk: int) -> Iterator[NDArray[np.int64]]:
    for begin in range(0, n_patients, chunk):
        rows = np.arange(begin, min(begin + chunk, n_patients))
        weights = np.ones((len(rows), n_patients), np.int64)
        weights[np.arange(len(rows)), rows] = 0
        yield weights


def _metrics(
    weights: NDArray[np.int64],
    counts: NDArray[np.int64],
    truth: NDArray[np.bool_],
    owners: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(resamples, metrics) from how often each patient was drawn; `truth` and `owners` of the
    samples in the order of scores."""
    tp, fn, fp, tn = (weights @ counts).astype(np.float64).T
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    with np.errstate(divide="ignore", invalid="ignore"):
        mcc = np.where(
            product > 0,
            (tp * tn - fp * fn) / np.sqrt(product),
            np.where(tp + fn + fp + tn > 0, 0.0, np.nan),
        )
        shares = {
            "acc": (tp + tn) / (tp + fn + fp + tn),
            "sen": tp / (tp + fn),
            "spec": tn / (tn + fp),
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
        }
        found = {"auc": _auc(weights, truth, owners, starts), **shares, "mcc": mcc}
    return np.stack([found[name] for name in METRICS], axis=1)


def _auc(
    weights: NDArray[np.int64],
    truth: NDArray[np.bool_],
    owners: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Weighted Mann-Whitney statistic: a pair counts as often as both of its samples were drawn,
    half where their scores are equal."""
    drawn = weights[:, owners].astype(np.float64)
    positive = np.add.reduceat(drawn * truth, starts, axis=1)
    negative = np.add.reduceat(drawn * ~truth, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = (positive * (below + negative / 2)).sum(axis=1)
    possible: NDArray[np.float64] = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = pairs / possible
    return result
