"""What a worker keeps from trial to trial: compiled models, one for each shape, and the backbone's
weights."""

import importlib
import logging
import os
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from renal_ray.problems import DamagedFileError, StudyError
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.activations import Activations
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices
from renal_ray.trial.augment import ComputedRows, CopiedRows, FrozenLayers, copies_seed
from renal_ray.trial.feed import ImageRows
from renal_ray.trial.prefix import ComputedActivations, Prefix
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head, Rows

if TYPE_CHECKING:
    import keras

    from renal_ray.model.compiled import CompiledModel
    from renal_ray.model.gradcam import GradCam


MODELS = 12  # kept compiled at most: a search over widths would otherwise fill the memory
COPIED_BATCH = 32  # not the trial's batch size: copies must not change with it
RESIDENT_MIB = 1024  # of samples held on a device that has told nothing of its memory


def configure_keras(
    backend: str, threads: int, *, gpu_share: float = 1.0, on_card: bool = False
) -> None:
    """Settles backend, CPU threads and memory of the card; must run before Keras is first imported
    in the process.

    Args:
        backend: tensorflow or jax.
        threads: threads that one operation computes with; fixed, so that sums come out in one
            order.
        gpu_share: share of the card's memory that JAX may take; TensorFlow is told by
            `renal_ray.model.device.limit_memory`.
        on_card: whether a card is promised: what the framework says of cards then counts, see
            `renal_ray.trial.cards`.
    """
    os.environ["KERAS_BACKEND"] = backend
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"):  # JAX reads NPROC
        os.environ[name] = str(max(1, threads))
    if gpu_share < 1:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{gpu_share:.3f}"
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    # Trials may share a card: nobody takes all of its memory at once.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Ray counts cards as their driver does, CUDA by their speed unless it is told.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # Without a promised card what fails also raises, and the rest is talk about absent ones.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0" if on_card else "3"
    if on_card:
        os.environ["TF_CPP_VMODULE"] = "dso_loader=1"  # names the library that is missing
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def start_keras(backend: str, threads: int) -> None:
    """As `configure_keras`, and imports Keras without what TensorFlow writes on standard error
    meanwhile at any log level: where a person reads."""
    configure_keras(backend, threads)
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        importlib.import_module("renal_ray.model.backbone")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def backbone_file(weights_hash: str) -> str:
    """Name of a backbone's weights in the work directory."""
    return f"activations/backbones/{weights_hash[:16]}.h5"


class Workshop:
    """Models that are compiled once and reset for every trial.

    Args:
        work: the study's work directory.
        computed: freeze points whose activations are not cached but computed anew in every epoch.
        on_card: whether a graphics card computes: samples of any head then go there, if they fit.
        resident_mib: memory for samples on the device.
    """

    def __init__(
        self,
        work: Place,
        *,
        computed: Collection[str] = (),
        on_card: bool = False,
        resident_mib: float = RESIDENT_MIB,
    ) -> None:
        self.work = work
        self._computed = frozenset(computed)
        self._on_card = on_card
        self._resident_bytes = resident_mib * 2**20
        self._prefix: tuple[tuple[Any, ...], Prefix] | None = None
        self._rows: tuple[tuple[Any, ...], ImageRows] | None = None
        self._copied: dict[tuple[Any, ...], CopiedRows] = {}
        self._held: tuple[Rows, Any] | None = None
        self._rates: dict[str, float] = {}
        self._models: dict[tuple[Any, ...], CompiledModel] = {}
        self._gradcams: dict[keras.Model, GradCam] = {}
        self._backbones: dict[str, Mapping[str, np.ndarray]] = {}

    def backbone(self, weights_hash: str) -> Mapping[str, np.ndarray]:
        """A backbone's weights by name; the last one asked for is kept.

        Raises:
            DamagedFileError: the file is not what was written; it is deleted, so that the next
                sweep makes it anew.
        """
        from renal_ray.model.weight_files import load_weights_h5

        if weights_hash not in self._backbones:
            name = backbone_file(weights_hash)
            try:
                self._backbones = {weights_hash: load_weights_h5(self.work.read(name))}
            except (DamagedFileError, FileNotFoundError) as error:
                self.work.remove(name)
                raise DamagedFileError(
                    f"{self.work.shown(name)}: {error}; the next `renal-ray sweep` makes it anew"
                ) from None
        return self._backbones[weights_hash]

    def model(self, spec: TrialSpec) -> "CompiledModel":
        """The compiled model for a trial's head, freeze point and widths, in whatever state the
        last trial left it.

        Returns:
            The model; reset it or set its weights before use.
        """
        from renal_ray.model.backbone import build_suffix
        from renal_ray.model.compiled import CompiledModel
        from renal_ray.model.heads import fc_model, gru_model, image_model
        from renal_ray.model.precision import computing_in

        training = spec.training
        shape = (spec.size, spec.freeze_point) if spec.head is Head.IMAGE else ()
        drops, decays = training.dropout > 0, training.weight_decay > 0
        widths = (training.embedding, training.gru_units, training.gru_layers, training.gru_l2)
        key = (
            spec.head,
            *shape,
            *widths,
            training.optimizer,
            drops,
            decays,
            spec.precision,
        )  # what `reset` cannot change
        model = self._models.pop(key, None)
        if model is None:
            while len(self._models) >= MODELS:
                dropped = self._models.pop(next(iter(self._models)))  # the one not used for longest
                self._gradcams.pop(dropped.model, None)
            with computing_in(spec.precision):
                if spec.head is Head.IMAGE:
                    network = image_model(
                        build_suffix(spec.size, spec.freeze_point),
                        embedding=training.embedding,
                        dropout=drops,
                    )
                elif spec.head is Head.FC:
                    network = fc_model(training.embedding, width=training.embedding, dropout=drops)
                else:
                    network = gru_model(
                        training.embedding,
                        units=training.gru_units,
                        l2=training.gru_l2,
                        layers=training.gru_layers,
                        dropout=drops,
                    )
            model = CompiledModel(
                network, optimizer=training.optimizer, decays=decays, precision=spec.precision
            )
        self._models[key] = model
        return model

    def rows(self, spec: TrialSpec, splits: SplitSet) -> "ImageRows":
        """The activations of all training patients that an image trial reads; the same object for
        every fold.

        Args:
            spec: an image trial.
            splits: who trains; sealed patients are not read.
        """
        key = (spec.activations, spec.inputs)
        if self._rows is None or self._rows[0] != key:
            patients = sorted(splits.training)
            if spec.freeze_point in self._computed:
                slices = Slices(self.work, spec.dataset, sealed=splits.test)
                rows: ImageRows = ComputedActivations(
                    slices, self.prefix(spec), spec.freeze_point, patients, spec.activation_dtype
                )
            else:
                rows = Activations(self.work, spec.activations, patients)
            self._rows = key, rows
        return (
            self._varied(spec, self._rows[1], splits)
            if spec.training.augmentation.is_on
            else self._rows[1]
        )

    def _varied(self, spec: TrialSpec, plain: "ImageRows", splits: SplitSet) -> "ImageRows":
        """The rows with what varies their images: beside them the frozen layers, or after them
        varied copies, those used last kept in memory."""

        augmentation = spec.training.augmentation

        def frozen() -> FrozenLayers:
            prefix = self.prefix(spec, None if augmentation.bypasses else COPIED_BATCH)
            return FrozenLayers(
                Slices(self.work, spec.dataset, sealed=splits.test), prefix, spec, plain.patients
            )

        if augmentation.bypasses:
            return ComputedRows(plain, frozen())
        key = (spec.activations, spec.inputs, augmentation)
        copied = self._copied.pop(key, None)
        while sum(one.nbytes for one in self._copied.values()) > self._resident_bytes:
            del self._copied[next(iter(self._copied))]  # the one not used for longest
        if copied is None:
            copied = CopiedRows(
                plain, frozen(), augmentation, seed=copies_seed(spec), batch=COPIED_BATCH
            )
        self._copied[key] = copied
        return copied

    def prefix(self, spec: TrialSpec, batch: int | None = None, *, pooled: bool = True) -> "Prefix":
        """The frozen layers up to a trial's freeze point, with its weights; the last one asked for
        is kept.

        Args:
            spec: the trial.
            batch: images a step; the trial's batch size when omitted.
            pooled: see `Prefix`.
        """
        batch = batch or spec.training.batch_size
        key = (spec.inputs.weights, spec.size, spec.freeze_point, batch, pooled)
        if self._prefix is None or self._prefix[0] != key:
            weights = self.backbone(spec.inputs.weights)
            self._prefix = (
                key,
                Prefix(
                    weights,
                    size=spec.size,
                    freeze_points=[spec.freeze_point],
                    batch_size=batch,
                    pooled=pooled,
                ),
            )
        return self._prefix[1]

    def gradcam(self, spec: TrialSpec) -> "GradCam":
        """Grad-CAM of the model that `model` gives for an image trial, with the weights that this
        has when it is asked."""
        from renal_ray.model.gradcam import GradCam

        model = self.model(spec).model
        if model not in self._gradcams:
            self._gradcams[model] = GradCam(model)
        return self._gradcams[model]

    def resident(self, spec: TrialSpec, source: Rows) -> Any:
        """A trial's samples on the device, None where they do not fit or where steps are so long
        that it would not pay.

        Args:
            spec: the trial.
            source: samples of both sides of its fold.
        """
        size = getattr(source, "nbytes", None)
        if size is None or size > self._resident_bytes or not (spec.is_short or self._on_card):
            return None
        if self._held is None or self._held[0] is not source:
            self._held = None  # before the new one: both at once might not fit
            self._held = source, self.model(spec).put(source[:])
        return self._held[1]

    def matrix_gflops(self, precision: str) -> float:
        """Matrix product rate of this process, measured once."""
        from renal_ray.model.device import matrix_gflops

        if precision not in self._rates:
            self._rates[precision] = matrix_gflops(precision)
        return self._rates[precision]


def with_weights(spec: TrialSpec, work: Place, workshop: Workshop) -> "CompiledModel":
    """The model of a finished trial, with the weights that it was left with.

    Raises:
        DamagedFileError: the weights are not those that it wrote.
        StudyError: a weight is missing, surplus, or has another shape.
    """
    from renal_ray.model.weight_files import load_weights_h5

    model = workshop.model(spec)
    weights = load_weights_h5(Ledger(work).read_checked(spec.trial_id, "weights.h5"))
    try:
        model.set_weights_by_name(weights)
    except StudyError as error:
        raise StudyError(
            f"{work.shown(f'trials/{spec.trial_id}/weights.h5')}: {error}; delete "
            "the trial's directory and run `renal-ray sweep`"
        ) from None
    return model
