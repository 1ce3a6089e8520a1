"""What is trained, and how."""

from typing import Literal, Self

from pydantic import Field, model_validator

from renal_ray.config.section import Section
from renal_ray.types import HEADS, Head


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
