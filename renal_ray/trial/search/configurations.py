"""A configuration: values of what is searched over, the study that they make of a study, and its
trials."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from renal_ray.config import Search, Study, Training
from renal_ray.config.search import Value, nested
from renal_ray.problems import StudyError
from renal_ray.trial.plan import Plan, Results, make_plan
from renal_ray.trial.spec import TrialSpec, main_level, make_spec
from renal_ray.types import FREEZE_POINTS, Dataset, FreezePoint, Head

Values = Mapping[str, Value]  # by the names of `Space.dimensions`


def searched(study: Study) -> Search:
    """The search of a study.

    Raises:
        StudyError: it has none.
    """
    if study.search is None:
        raise StudyError(
            "search: the study file has no section `search`; configs/search.yaml shows one"
        )
    return study.search


def own_values(study: Study) -> dict[str, Value]:
    """The study file's own values of what is searched over."""
    search = searched(study)
    found: dict[str, Value] = {}
    for name in search.space.dimensions:
        section, _, key = name.rpartition(".")
        found[name] = (
            str(_own_point(study))
            if name == "freeze_point"
            else getattr(getattr(study.training, section) if section else study.training, key)
        )
    return found


def _own_point(study: Study) -> FreezePoint:
    return searched(study).freeze_point or max(study.freeze_points, key=FREEZE_POINTS.index)


def configured(study: Study, values: Values) -> Study:
    """A study with other settings.

    Args:
        study: the study.
        values: of what is searched over; what is absent stays.
    """
    rest = {name: value for name, value in values.items() if name != "freeze_point"}
    changes = nested(rest)
    if "augmentation" in changes:
        changes["augmentation"] = study.training.augmentation.model_dump() | changes["augmentation"]
    training = Training.model_validate(study.training.model_dump() | changes)
    points = (
        [FreezePoint(str(values["freeze_point"]))]
        if "freeze_point" in values
        else study.freeze_points
    )
    return study.model_copy(update={"training": training, "freeze_points": points})


def base_study(study: Study) -> Study:
    """What a search needs of a study: one dataset, the freeze points that may be tried, no
    controls."""
    search = searched(study)
    points = list(search.space.freeze_point or [])
    points += [point for point in [_own_point(study)] if point not in points]
    controls = study.controls.model_copy(update={"permuted_labels": False})
    return study.model_copy(
        update={
            "datasets": [search.dataset or study.datasets[0]],
            "freeze_points": points,
            "controls": controls,
        }
    )


@dataclass(frozen=True)
class Bench:
    """Makes the trials of configurations; each is made and named once.

    Args:
        study: the study, with its search.
        plan: of its `base_study`.
    """

    study: Study
    plan: Plan
    _made: dict[tuple[Any, ...], list[TrialSpec]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def search(self) -> Search:
        """The study's search."""
        return searched(self.study)

    @property
    def dataset(self) -> Dataset:
        """What is searched on."""
        return self.plan.study.datasets[0]

    @property
    def epochs(self) -> int:
        """Epochs of the judged head."""
        return int(getattr(self.study.training.epochs, self.search.head))

    def chain(
        self, values: Values, fold: int, *, outer: int | None = None, epochs: int | None = None
    ) -> list[TrialSpec]:
        """The trials that give a configuration's AUC on a fold, each standing on the one before: an
        image trial, and the fc or gru trial on it.

        Args:
            values: of the configuration.
            fold: that validates.
            outer: fold that is left out altogether.
            epochs: of the judged trial; all when omitted.
        """
        key = (json.dumps(dict(values), sort_keys=True), fold, outer, epochs)
        if key not in self._made:
            self._made[key] = self._chain(values, fold, outer, epochs)
        return self._made[key]

    def _chain(
        self, values: Values, fold: int, outer: int | None, epochs: int | None
    ) -> list[TrialSpec]:
        study, head = configured(self.study, values), self.search.head
        if epochs is not None:
            shorter = study.training.epochs.model_copy(update={str(head): epochs})
            study = study.model_copy(
                update={"training": study.training.model_copy(update={"epochs": shorter})}
            )
        point = FreezePoint(str(values.get("freeze_point", _own_point(self.study))))
        where: dict[str, Any] = {
            "dataset": self.dataset,
            "freeze_point": point,
            "fold": fold,
            "inputs": self.plan.inputs[self.dataset],
            "outer": outer,
        }
        image = make_spec(study, head=Head.IMAGE, **where)
        return (
            [image]
            if head is Head.IMAGE
            else [image, make_spec(study, head=head, image_trial=image.trial_id, **where)]
        )

    def auc(self, chain: list[TrialSpec], results: Results) -> float | None:
        """The validation AUC that judges, None while the trial is not finished."""
        result = results.get(chain[-1].trial_id)
        found = (
            None
            if result is None
            else result["levels"][main_level(self.search.head)]["metrics"]["auc"]
        )
        return None if found is None else float(found)


def make_bench(study: Study) -> Bench:
    """The bench of a prepared study.

    Raises:
        StudyError: it has no search, or is not prepared.
    """
    from renal_ray.store.place import Place

    return Bench(study, make_plan(base_study(study), Place(study.work)))
