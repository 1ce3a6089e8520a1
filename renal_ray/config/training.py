"""What is trained, and how."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from renal_ray.config.section import Section
from renal_ray.types import HEADS, Head


class Folds(Section):
    """How the training patients are divided for cross-validation."""

    n: int = Field(5, ge=2, description="number of folds")
    method: Literal["approximate", "stratified"] = Field(
        "approximate", description="the paper's approximate equalisation, or StratifiedGroupKFold"
    )
    run: list[int] | None = Field(
        None, min_length=1, description="train only these folds now; the split stays the same"
    )


class Epochs(Section):
    """Passes over the balanced training set, per head."""

    image: int = Field(150, ge=1, description="epochs of the image head")
    fc: int = Field(100, ge=1, description="epochs of the fc head")
    gru: int = Field(300, ge=1, description="epochs of the gru head")


class Augmentation(Section):
    """How training images are varied; images of validation and test never are."""

    flip: bool = Field(False, description="mirror an image left to right, every other time")
    rotate_deg: float = Field(
        0.0,
        ge=0,
        le=45,
        description=(
            "turn an image about its centre by up to so many degrees "
            "either way, black where nothing is known"
        ),
    )
    hu_jitter: float = Field(
        0.0, ge=0, le=100, description="shift an image's attenuation by up to so many HU either way"
    )
    copies: int = Field(
        0,
        ge=0,
        le=64,
        description=(
            "0: varied anew in every epoch, past the activation cache; n: n varied "
            "copies of every image, whose activations are computed once"
        ),
    )

    @property
    def is_on(self) -> bool:
        """Whether any image is varied."""
        return self.flip or self.rotate_deg > 0 or self.hu_jitter > 0

    @property
    def bypasses(self) -> bool:
        """Whether the frozen layers are computed in every epoch, on images varied anew."""
        return self.is_on and self.copies == 0


class Training(Section):
    """How one model is trained."""

    epochs: Epochs = Field(Epochs(), description="epochs per head")
    batch_size: int = Field(32, ge=1, description="images, or patients for fc and gru, in a step")
    learning_rate: float = Field(0.01, gt=0, description="learning rate of the optimizer")
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="momentum of sgd; of adam and adamw the decay of the mean gradient (beta 1)",
    )
    embedding: int = Field(
        1024, ge=1, description="width of the dense layer before the softmax: the embedding"
    )
    gru_units: int = Field(256, ge=1, description="width of each GRU layer")
    gru_l2: float = Field(1e-4, ge=0, description="L2 penalty on the GRU kernels")
    keep: Literal["last", "best_val_auc"] = Field(
        "last", description="epoch whose weights are kept; best_val_auc makes validation optimistic"
    )
    bn_statistics: Literal["reestimated", "moving"] = Field(
        "reestimated",
        description=(
            "batch-normalisation statistics kept: estimated anew over the "
            "training images, or Keras's moving averages"
        ),
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field(
        "sgd",
        description=(
            "stochastic gradient descent with momentum, Adam, or Adam with decoupled weight decay"
        ),
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        description=(
            "penalty on kernels: added to the gradient for sgd and "
            "adam, decoupled from it for adamw"
        ),
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the softmax layer's inputs that is dropped in training",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the label's weight that is spread over both classes in the loss",
    )
    gru_layers: int = Field(2, ge=1, le=4, description="number of GRU layers")
    augmentation: Augmentation = Field(Augmentation(), description="how training images are varied")


class Heads(Section):
    """Which models are trained on the features."""

    use: list[Head] = Field(
        list(HEADS), min_length=1, description="heads to train; fc and gru need image"
    )
    freeze_points: Literal["selected", "all"] = Field(
        "selected",
        description="train fc and gru on the selected freeze point of each dataset, or on all",
    )

    @model_validator(mode="after")
    def _image_first(self) -> Self:
        if len(set(self.use)) != len(self.use):
            raise ValueError(f"use: a head is listed twice in {[str(head) for head in self.use]}")
        if Head.IMAGE not in self.use:
            raise ValueError("fc and gru stand on the embeddings of the image head: add image")
        return self


class Controls(Section):
    """Trials that must fail, to show that nothing leaks."""

    permuted_labels: bool = Field(
        False,
        description=(
            "also train the image head on permuted patient labels; its AUC must stay around 0.5"
        ),
    )
    permutations: int = Field(1, ge=1, description="how many permutations of the labels")


class Threshold(Section):
    """How the threshold of a model follows from its own validation fold."""

    rule: Literal["youden", "closest", "mcc", "sensitivity", "cost"] = Field(
        "youden",
        description=(
            "largest Youden's J, closest to the corner of the ROC curve, largest "
            "MCC, a sensitivity that is reached, or the least cost"
        ),
    )
    sensitivity: float = Field(
        0.95, gt=0, le=1, description="sensitivity that the rule `sensitivity` reaches"
    )
    cost_ratio: float = Field(
        1,
        gt=0,
        description=(
            "for the rule `cost`: what a missed malignant lesion costs, as a "
            "multiple of a benign one called malignant"
        ),
    )


class Robustness(Section):
    """How far the results hold when patients, scanners or masks are others."""

    leave_scanner_out: bool = Field(
        False,
        description=(
            "also train the image head on all scanners but one, and "
            "validate on that one, for each scanner"
        ),
    )
    scanner_patients: int = Field(
        5,
        ge=1,
        description=(
            "training patients of each class that a scanner, and all others together, need for that"
        ),
    )
    learning_curve: list[float] = Field(
        [],
        description=(
            "shares of each fold's training patients on which the image "
            "head is trained too, above 0 and below 1"
        ),
    )
    mask_mm: list[float] = Field(
        [],
        description=(
            "millimetres by which validation patients' lesion masks are "
            "dilated, eroded and shifted; trains nothing"
        ),
    )

    @field_validator("learning_curve")
    @classmethod
    def _shares(cls, shares: list[float]) -> list[float]:
        if len(set(shares)) != len(shares) or not all(0 < share < 1 for share in shares):
            raise ValueError(
                "shares of the training patients, each once, above 0 and "
                f"below 1, are needed; got {shares}"
            )
        return sorted(shares)

    @field_validator("mask_mm")
    @classmethod
    def _millimetres(cls, distances: list[float]) -> list[float]:
        if len(set(distances)) != len(distances) or not all(
            0 < distance <= 50 for distance in distances
        ):
            raise ValueError(
                f"millimetres above 0 and at most 50, each once, are needed; got {distances}"
            )
        return sorted(distances)
