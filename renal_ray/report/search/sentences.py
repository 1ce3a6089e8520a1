"""The result of a search in sentences, its optimism among them."""

from collections.abc import Iterator, Mapping
from typing import Any

from renal_ray.protocol.cross_validation import corrected_difference, corrected_mean
from renal_ray.protocol.metrics import mean_sd
from renal_ray.report.search.words import STATES, Found, best_row, nested_summary
from renal_ray.report.text import counted, dataset_name, head_name, plus_minus, probability, two


def search_sentences(found: Found) -> Iterator[str]:
    """The result in sentences: the best against the study file's own settings, and what is
    optimistic about it."""
    own, best = found["configurations"][0], best_row(found)
    n = len(found["configurations"])
    counts = {
        state: sum(one["state"] == state for one in found["configurations"]) for state in STATES
    }
    said = ", ".join(f"{counts[state]} {name}" for state, name in STATES.items() if counts[state])
    yield (
        f"{counted(n, 'configuration')} by {_sampler(found)}: {said}; "
        f"{counted(found['trials'], 'trial')}, which enter no other number of this report."
    )
    if not found["is_over"]:
        yield "The search is not finished: `renal-ray search` continues it."
    if best is None or best["mean"] is None:
        yield "No configuration is complete yet."
        return
    if best["number"] == 0:
        yield (
            "No configuration was better than the study file's own settings: mean "
            f"validation AUC {plus_minus(own['mean'], own['sd'])}."
        )
    elif own["state"] == "complete":
        yield (
            f"Configuration {best['number']} is the best: mean validation AUC "
            f"{plus_minus(best['mean'], best['sd'])}, "
            f"against {plus_minus(own['mean'], own['sd'])} of the study file's "
            f"own settings. {_paired(found, best, own)}"
        )
    else:
        yield (
            f"Configuration {best['number']} is the best: mean validation AUC "
            f"{plus_minus(best['mean'], best['sd'])}; the study file's own is not complete."
        )
    yield from _optimism(found, best, n)


def _optimism(found: Found, best: Mapping[str, Any], n: int) -> Iterator[str]:
    summary = nested_summary(found)
    if summary is not None:
        aucs = [one["auc"] for one in found["nested"]]
        interval = corrected_mean(aucs, found["n_train"], found["n_validation"])
        known = interval is not None and interval.lower is not None
        bounds = (
            (
                f" (95 % CI {two(interval.lower, 3)} to "
                f"{two(interval.upper, 3)}, corrected for shared patients)"
            )
            if interval and known
            else ""
        )
        yield (
            f"Nested cross-validation: mean AUC {two(summary['auc'], 3)}{bounds} of "
            "what the search chooses, on folds that it did not see. "
            f"This is the number to report. The best configuration's {two(best['mean'], 3)} "
            f"was searched for: {_apart(best['mean'] - summary['auc'])}. "
            f"On the same folds the study file's own settings have {two(summary['own'], 3)}: "
            f"what the search chooses is {_against(summary['auc'] - summary['own'])}."
        )
        return
    missing = (
        "The nested cross-validation is not finished."
        if found["nested"]
        else "Set search.nested: true to get a number that was not searched for."
    )
    yield (
        f"Optimistic: the best mean of {counted(n, 'configuration')} over the same "
        f"folds is the largest of {counted(n, 'noisy value')}, "
        f"and its difference to the study file's own is as optimistic. {missing}"
    )


def _apart(difference: float) -> str:
    """The optimism of the searched number."""
    return (
        f"it is {two(difference, 3)} higher"
        if difference > 0
        else f"it is {two(-difference, 3)} lower, by chance"
    )


def _against(difference: float) -> str:
    return f"{two(abs(difference), 3)} {'better' if difference >= 0 else 'worse'}"


def search_caveats(found: Found | None, training: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the study's own numbers must know: that its settings were chosen on the same
    folds."""
    if found is None or found["best"] in (None, 0) or found["training"] != training:
        return
    summary = nested_summary(found)
    told = (
        f" Nested cross-validation of that search gave {two(summary['auc'])}."
        if summary
        else " No nested cross-validation says by how much."
    )
    yield (
        "The training settings were chosen by a search over "
        f"{counted(len(found['configurations']), 'configuration')} on these folds "
        f"({dataset_name(found['dataset'])}, {head_name(found['head'])}): "
        f"validation numbers are optimistic.{told}"
    )


def _sampler(found: Found) -> str:
    return {
        "tpe": "a tree-structured Parzen estimator (Bergstra et al. 2011)",
        "random": "random search",
        "grid": "grid search",
    }[found["sampler"]]


def _paired(found: Found, best: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    folds = [str(fold) for fold in found["folds"]]
    a, b = [best["aucs"][fold] for fold in folds], [own["aucs"][fold] for fold in folds]
    difference = corrected_difference(a, b, found["n_train"], found["n_validation"])
    mean, _ = mean_sd([x - y for x, y in zip(a, b, strict=True)])
    if difference is None or difference.lower is None or difference.p is None:
        return f"Paired difference {two(mean, 3)}."
    return (
        f"Paired difference {two(mean, 3)} (95 % CI {two(difference.lower, 3)} to "
        f"{two(difference.upper, 3)}, p {probability(difference.p)}; "
        "corrected resampled t test, which does not know that the "
        "better one was chosen for being better)."
    )
