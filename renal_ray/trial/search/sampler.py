"""Which configuration is tried next: Optuna's samplers, fed anew with all that was tried at every
question, so that nothing of theirs need be kept."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from renal_ray.config import Search, Span, WholeSpan
from renal_ray.config.search import Value
from renal_ray.store.place import digest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

TRIES = 20  # draws until a configuration is new; then the space counts as exhausted
DIGITS = 4  # significant ones of a drawn number


@dataclass(frozen=True)
class Past:
    """A configuration that was asked for.

    Args:
        values: by dimension.
        state: complete, given-up, failed or running.
        value: mean AUC over all folds of a complete one, over those it has of one that was given
            up; None otherwise.
        step: how far one that was given up came: more is better.
    """

    values: Mapping[str, Value]
    state: Literal["complete", "given-up", "failed", "running"]
    value: float | None = None
    step: int = 0


def ask(search: Search, past: Sequence[Past], *, seed: Sequence[str]) -> dict[str, Value] | None:
    """The next configuration by tpe or random.

    The same past in the same order and the same seed give the same answer, however often the search
    was interrupted: each question has a sampler of its own (Bergstra et al. 2011, as in Optuna; a
    configuration that runs counts as bad, so that workers side by side try different ones).

    Args:
        search: space and sampler.
        past: what was asked before, in order.
        seed: of the search; with the number of the question it seeds the sampler.

    Returns:
        Values by dimension that were not asked before; None where no new one is found.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {name: _distribution(tried) for name, tried in search.space.dimensions.items()}
    trials = [_trial(one, distributions) for one in past if _lies_in(one.values, distributions)]
    known = [dict(one.values) for one in past]
    for attempt in range(TRIES):
        sampler = _sampler(search, int(digest([*seed, str(len(past)), str(attempt)])[:8], 16))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(trials)
        drawn = study.ask(distributions).params
        values = {
            name: _rounded(drawn[name], tried) for name, tried in search.space.dimensions.items()
        }
        if values not in known:
            return values
    return None


def grid(search: Search, own: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
    """Every combination of the listed values but the study file's own, which is tried before."""
    dimensions = search.space.dimensions
    lists = [tried for tried in dimensions.values() if isinstance(tried, list)]
    for combination in itertools.product(*lists):
        values: dict[str, Value] = {
            name: _plain(value) for name, value in zip(dimensions, combination, strict=True)
        }
        if values != dict(own):
            yield values


def _sampler(search: Search, seed: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler, TPESampler

    if search.sampler == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=search.startup, constant_liar=True)


def _distribution(tried: "Span | list[Any]") -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(tried, WholeSpan):
        return IntDistribution(tried.low, tried.high, log=tried.log)
    if isinstance(tried, Span):
        return FloatDistribution(tried.low, tried.high, log=tried.log)
    return CategoricalDistribution([_plain(value) for value in tried])


def _lies_in(values: Mapping[str, Value], distributions: "Mapping[str, BaseDistribution]") -> bool:
    """Whether Optuna can learn from values: the study file's own may lie outside the space."""
    from optuna.distributions import CategoricalDistribution

    for name, one in distributions.items():
        if isinstance(one, CategoricalDistribution):
            if values[name] not in one.choices:
                return False
        elif not one.low <= values[name] <= one.high:
            return False
    return True


def _trial(past: Past, distributions: "dict[str, BaseDistribution]") -> "FrozenTrial":
    from optuna.trial import TrialState, create_trial

    how: dict[str, Any] = {"params": dict(past.values), "distributions": distributions}
    if past.state == "complete":
        return create_trial(value=past.value, **how)
    if past.state == "running":
        return create_trial(state=TrialState.RUNNING, **how)
    # One that failed came nowhere: Optuna ranks it last.
    return create_trial(
        state=TrialState.PRUNED,
        intermediate_values={} if past.value is None else {past.step: past.value},
        **how,
    )


def _rounded(value: Any, tried: "Span | list[Any]") -> Value:
    """A drawn number with few digits: it is read by people, and stands in the name of a study's
    trials."""
    if isinstance(tried, Span) and not isinstance(tried, WholeSpan):
        return min(max(float(f"{value:.{DIGITS}g}"), tried.low), tried.high)
    return _plain(value)


def _plain(value: Any) -> Value:
    """A value as JSON keeps it."""
    return value if isinstance(value, bool | int | float) else str(value)
