"""Fills the activation cache before the trials: one forward pass per image, by Ray Data actors."""

from collections.abc import Collection, Mapping, Sequence

from renal_ray.config import Study
from renal_ray.progress import progress
from renal_ray.store import activations
from renal_ray.store.activations import ActivationSet
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices
from renal_ray.sweep.cluster import study_errors
from renal_ray.trial.activate import activate, make_backbone
from renal_ray.trial.cards import settle
from renal_ray.trial.plan import Plan
from renal_ray.trial.prefix import Prefix
from renal_ray.trial.workshop import Workshop, backbone_file
from renal_ray.types import Dataset, FreezePoint


def fill_activations(
    study: Study, work: Place, plan: Plan, *, computed: Collection[FreezePoint] = ()
) -> None:
    """Writes backbone weights and activations for every dataset and freeze point that lack them, in
    one pass over the images.

    Args:
        study: the study.
        work: its work directory.
        plan: names what the trials read.
        computed: freeze points whose activations are not cached.

    Raises:
        StudyError: the weights cannot be had.
    """
    import ray

    sets = {
        dataset: [
            which
            for which in plan.activation_sets(dataset, computed=computed)
            if not which.exists(work)
        ]
        for dataset in study.datasets
    }
    without_weights = [
        dataset
        for dataset in study.datasets
        if not work.exists(backbone_file(plan.inputs[dataset].weights))
    ]
    missing = [dataset for dataset in study.datasets if sets[dataset] or dataset in without_weights]
    if not missing:
        return
    share = {"num_cpus": study.resources.cpus_per_trial, "num_gpus": study.resources.gpus_per_trial}
    print(f"frozen layers: weights of the backbone for {', '.join(missing)}", flush=True)
    # A process of its own: the framework's memory goes with it.
    task = ray.remote(**share, max_calls=1)(_make_backbones)
    with study_errors():
        ray.get(task.remote(study, work, plan, missing))
    missing = [dataset for dataset in missing if sets[dataset]]
    if not missing:
        return
    parts = {dataset: _parts(work, plan, dataset) for dataset in missing}
    items = [
        {"dataset": str(dataset), "part": part} for dataset in missing for part in parts[dataset]
    ]
    actors = max(
        1, min(len(items), int(ray.cluster_resources().get("CPU", 1) // share["num_cpus"]))
    )
    stream = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _Activator,
        fn_constructor_args=(study, work, plan, parts, sets),
        concurrency=actors,
        **share,
    )
    with progress("frozen layers: shards") as show, study_errors():
        for done, _ in enumerate(stream.iter_rows(), start=1):
            show(done, len(items))
    for dataset in missing:
        for which in sets[dataset]:
            activations.write_index(work, which, parts[dataset])


Sets = Mapping[Dataset, Sequence[ActivationSet]]  # what is to be written
Parts = Mapping[
    str, Sequence[tuple[str, int]]
]  # Arrow file without ending -> its training patients, with their number of rows


def _parts(work: Place, plan: Plan, dataset: Dataset) -> Parts:
    """One part for each file of slices, so that an actor reads one file."""
    where = Slices(work, dataset, sealed=plan.splits.test).where
    parts: dict[str, list[tuple[str, int]]] = {}
    for patient in sorted(plan.splits.training):
        parts.setdefault(where[patient].file.removesuffix(".arrow"), []).append(
            (patient, where[patient].rows)
        )
    return dict(sorted(parts.items()))


def _make_backbones(study: Study, work: Place, plan: Plan, datasets: Sequence[Dataset]) -> None:
    settle(study)
    for dataset in datasets:
        make_backbone(
            work,
            dataset,
            plan.splits,
            weights=study.weights,
            weights_hash=plan.inputs[dataset].weights,
            size=study.images.size,
            seed=study.seed,
        )


class _Activator:
    """An actor with the frozen layers loaded; it takes parts of any dataset."""

    def __init__(
        self, study: Study, work: Place, plan: Plan, parts: Mapping[Dataset, Parts], sets: Sets
    ) -> None:
        settle(study)
        self._study = study
        self._work = work
        self._plan = plan
        self._parts = parts
        self._sets = sets
        self._workshop = Workshop(work)
        self._wanted = [
            point
            for point in study.freeze_points
            if any(which.freeze_point == point for some in sets.values() for which in some)
        ]
        self._loaded: Dataset | None = None
        self._prefix: Prefix | None = None

    def __call__(self, item: dict[str, str]) -> dict[str, str]:
        dataset, part = Dataset(item["dataset"]), item["part"]
        activate(
            self._work,
            Slices(self._work, dataset, sealed=self._plan.splits.test),
            self._with_weights_of(dataset),
            self._sets[dataset],
            part=part,
            patients=[patient for patient, _ in self._parts[dataset][part]],
            dtype=self._study.activation_dtype,
        )
        return item

    def _with_weights_of(self, dataset: Dataset) -> Prefix:
        weights = self._workshop.backbone(self._plan.inputs[dataset].weights)
        if self._prefix is None:
            self._prefix = Prefix(
                weights,
                size=self._study.images.size,
                freeze_points=self._wanted,
                batch_size=self._study.training.batch_size,
            )
        elif self._loaded != dataset:
            self._prefix.load(weights)
        self._loaded = dataset
        return self._prefix
