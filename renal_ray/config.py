"""The study file: one validated object that every command works from."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from renal_ray.types import DATASETS, FREEZE_POINTS, HEADS, Dataset, FreezePoint, Head

NAMED_WEIGHTS = ("imagenet", "random")  # any other value of weights is a path
PROVENANCE = "provenance"  # key of the resolved study.yaml that says with what it was run; not configuration


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PhaseRule(Section):
    """How a series of one contrast phase is recognised."""

    description: list[str] = Field(min_length=1, description="regular expressions, without regard to case; one found in the series description is enough")
    delay_s: tuple[float, float] | None = Field(None, description="seconds from the start of the contrast injection to the acquisition, from and to")


PHASE_RULES = {
    "unenhanced": PhaseRule(description=[r"\bnative?\b", r"\bnon[- ]?(contrast|enhanced)", r"\bun-?enhanced", r"\bplain\b", r"\bw/?o\b", r"without"]),
    "corticomedullary": PhaseRule(description=[r"cortico", r"\bcmp?\b", r"\bart(erial?)?\b", r"late art"], delay_s=(25, 50)),
    "nephrographic": PhaseRule(description=[r"nephro", r"\bport(al|o)?\b", r"\b[pv]v?p?\b", r"\bven(ous|a)?\b"], delay_s=(60, 130)),
    "excretory": PhaseRule(description=[r"excret", r"delay", r"urogra", r"pyelo", r"\blate\b(?! art)"], delay_s=(150, 1200)),
}


class Phase(Section):
    """Which CT series of a patient is proposed where there are several."""

    use: str = Field("corticomedullary", min_length=1, description="contrast phase that the study is on: one of the rules")
    rules: dict[str, PhaseRule] = Field(PHASE_RULES, description="how each phase is recognised")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.use not in self.rules:
            raise ValueError(f"phase.use: {self.use!r} is none of the phases that have rules: {sorted(self.rules)}")
        return self


class Cohort(Section):
    """Where the patients come from: exactly one of manifest, dicom and kits."""

    manifest: Path | None = Field(None, description="CSV or Parquet with patient_id, label, image, mask; paths relative to the manifest")
    dicom: Path | None = Field(None, description="folder of DICOM CT series with their masks; needs labels")
    labels: Path | None = Field(None, description="CSV or Parquet with patient_id, label and optional columns; goes with dicom")
    kits: Path | None = Field(None, description="folder in the KiTS layout: case_NNNNN/imaging.nii.gz, segmentation.nii.gz, kits23.json")
    lesion_labels: list[int] = Field([2], min_length=1, description="values of a label map that are the lesion (KiTS: 2 tumour, 3 cyst)")
    lesion_segments: list[str | int] | None = Field(
        None, description="segments of a DICOM SEG that are the lesion, each by label, code (SCHEME:VALUE) or number; all when omitted"
    )
    lesion_rois: list[str] | None = Field(None, description="ROIs of an RTSTRUCT that are the lesion, by name or pattern (GTV*); the only one when omitted")
    fractional_threshold: float = Field(0.5, gt=0, le=1, description="share of the maximum from which a voxel of a fractional SEG is lesion")
    mask_resample: bool = Field(False, description="resample a mask that is off the image's grid by nearest neighbour; otherwise its patient is left out")
    tilt: Literal["refuse", "resample"] = Field("refuse", description="series with a tilted gantry: leave out, or resample to straight axial slices")
    oblique: Literal["refuse", "resample"] = Field("refuse", description="oblique series: leave out, or resample to straight axial slices")
    phase: Phase = Field(Phase(), description="which series is proposed where a patient has several")
    keep_ids: bool = Field(True, description="use DICOM PatientID as patient_id; false replaces it by a keyed hash")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("manifest", "dicom", "kits") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of manifest, dicom, kits; got {given or 'none'}")
        if (self.labels is not None) != (self.dicom is not None):
            raise ValueError("labels goes with dicom, and dicom needs labels")
        return self


class Selection(Section):
    """Which axial slices of a patient are kept."""

    min_area_fraction: float = Field(0.25, ge=0, le=1, description="lesion area, as a share of the patient's largest, from which a slice is kept")
    max_slices: int | None = Field(None, ge=1, description="keep at most this many, those with the largest lesion area")


class Images(Section):
    """What the network sees of a slice."""

    size: int = Field(299, ge=75, description="edge of the square image in pixels; InceptionV3 takes 75 or more")
    crop: bool = Field(True, description="crop roi and rbr to the lesion's box; false keeps the full frame, black outside")


class Split(Section):
    """Who is sealed away for the test."""

    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of the patients in the sealed test set")
    stratify: bool = Field(True, description="keep the share of malignant patients equal in training and test")


class Folds(Section):
    """How the training patients are divided for cross-validation."""

    n: int = Field(5, ge=2, description="number of folds")
    method: Literal["approximate", "stratified"] = Field("approximate", description="the paper's approximate equalisation, or StratifiedGroupKFold")
    run: list[int] | None = Field(None, min_length=1, description="train only these folds now; the split stays the same")


class Epochs(Section):
    """Passes over the balanced training set, per head."""

    image: int = Field(150, ge=1, description="epochs of the image head")
    fc: int = Field(100, ge=1, description="epochs of the fc head")
    gru: int = Field(300, ge=1, description="epochs of the gru head")


class Training(Section):
    """How one model is trained."""

    epochs: Epochs = Field(Epochs(), description="epochs per head")
    batch_size: int = Field(32, ge=1, description="images, or patients for fc and gru, in a step")
    learning_rate: float = Field(0.01, gt=0, description="learning rate of stochastic gradient descent")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of stochastic gradient descent")
    embedding: int = Field(1024, ge=1, description="width of the dense layer before the softmax: the embedding")
    gru_units: int = Field(256, ge=1, description="width of each of the two GRU layers")
    gru_l2: float = Field(1e-4, ge=0, description="L2 penalty on the GRU kernels")
    keep: Literal["last", "best_val_auc"] = Field("last", description="epoch whose weights are kept; best_val_auc makes validation optimistic")
    bn_statistics: Literal["reestimated", "moving"] = Field(
        "reestimated", description="batch-normalisation statistics kept: estimated anew over the training images, or Keras's moving averages"
    )


class Heads(Section):
    """Which models are trained on the features."""

    use: list[Head] = Field(list(HEADS), min_length=1, description="heads to train; fc and gru need image")
    freeze_points: Literal["selected", "all"] = Field("selected", description="train fc and gru on the selected freeze point of each dataset, or on all")

    @model_validator(mode="after")
    def _image_first(self) -> Self:
        if len(set(self.use)) != len(self.use):
            raise ValueError(f"use: a head is listed twice in {[str(head) for head in self.use]}")
        if Head.IMAGE not in self.use:
            raise ValueError("fc and gru stand on the embeddings of the image head: add image")
        return self


class Controls(Section):
    """Trials that must fail, to show that nothing leaks."""

    permuted_labels: bool = Field(False, description="also train the image head on permuted patient labels; its AUC must stay around 0.5")
    permutations: int = Field(1, ge=1, description="how many permutations of the labels")


class Resources(Section):
    """What the machine lends to the study."""

    cpus: int | None = Field(None, ge=1, description="CPUs that a local Ray uses; all when omitted")
    cpus_per_trial: float = Field(1, gt=0, description="CPUs that one trial is promised, and threads it computes with")
    gpus_per_trial: float = Field(0, ge=0, description="GPUs, or a share of one, that one trial is promised; a probe lowers it to what the trial needs")
    trials_per_gpu: int = Field(4, ge=1, description="at most this many trials share a GPU where a probe has measured their memory")
    trials_per_process: int = Field(100, ge=1, description="trials after which a worker's process is replaced")
    process_mb: int = Field(12000, ge=1000, description="memory in MiB above which a worker's process is replaced between two trials")
    checkpoint_minutes: float = Field(10, gt=0, description="a trial that lasts longer is written down this often, and continues from there")
    trial_timeout: float = Field(120, gt=0, description="minutes without an epoch after which a trial's process is ended and the trial tried again")
    attempts: int = Field(3, ge=1, description="how often a trial is tried whose process, node or disk was lost; one that raises by itself is not tried again")
    object_store_mb: int = Field(256, ge=80, description="shared memory of a local Ray in MiB")


class Tracking(Section):
    """Where the progress of trials is written beside the work directory's own files."""

    tensorboard: bool = Field(False, description="write event files to WORK/tensorboard/<trial_id>")
    mlflow: str | None = Field(None, description="MLflow tracking URI: a parent run for each configuration, a child run for each fold; needs renal-ray[mlflow]")

    @field_validator("mlflow")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri is not None and urlsplit(uri).password:
            raise ValueError("the address holds a password, and this file is kept and shown; give it as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
        return uri


class Study(Section):
    """A whole study."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$", description="name of the study, for the report")
    work: str = Field(min_length=1, description="work directory: a local or NFS path, s3://bucket/prefix[?endpoint_override=URL] or gs://bucket/prefix")
    seed: int = Field(17, ge=0, lt=2**31, description="seed of the split, the folds, the sampling and random weights")
    cohort: Cohort = Field(description="where the patients come from")
    datasets: list[Dataset] = Field(list(DATASETS), min_length=1, description="datasets to train on")
    freeze_points: list[FreezePoint] = Field(list(FREEZE_POINTS), min_length=1, description="freeze points to train at")
    selection: Selection = Field(Selection(), description="which slices are kept")
    images: Images = Field(Images(), description="what the network sees of a slice")
    split: Split = Field(Split(), description="who is sealed away")
    folds: Folds = Field(Folds(), description="cross-validation")
    heads: Heads = Field(Heads(), description="models on the features")
    weights: str = Field("imagenet", min_length=1, description="imagenet, random, or the path of an InceptionV3 weights file (.h5, .weights.h5)")
    training: Training = Field(Training(), description="how one model is trained")
    activation_dtype: Literal["float16", "float32"] = Field("float32", description="number format of the cached activations")
    cache: Literal["auto", "always", "never"] = Field(
        "auto", description="keep the activations on disk: where they fit and reading them costs less than computing, or always, or never"
    )
    backend: Literal["tensorflow", "jax"] = Field("tensorflow", description="what Keras computes with")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field("float32", description="numbers that the image head's layers compute with")
    controls: Controls = Field(Controls(), description="negative controls")
    resources: Resources = Field(Resources(), description="what the machine lends")
    tracking: Tracking = Field(Tracking(), description="where progress is written too")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("datasets", "freeze_points"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value is listed twice in {[str(v) for v in values]}")
        if self.folds.run is not None and not set(self.folds.run) <= set(range(self.folds.n)):
            raise ValueError(f"folds.run: {self.folds.run} names folds outside 0..{self.folds.n - 1}")
        return self

    @property
    def fold_numbers(self) -> list[int]:
        """The folds to train, ascending."""
        return sorted(set(self.folds.run)) if self.folds.run is not None else list(range(self.folds.n))
