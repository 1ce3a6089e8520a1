"""Grad-CAM: which places of an image speak for malignant (Selvaraju et al. 2017)."""

import keras
import numpy as np

from renal_ray.model.backbone import XLA
from renal_ray.model.heads import SCORES
from renal_ray.model.steps import make_input_gradient
from renal_ray.types import FreezePoint, Label

LAYER = FreezePoint.MIXED10.value  # the last convolutional one


class Logit(keras.layers.Layer):
    """The logit of P(malignant): the difference of what the softmax of two classes reads.

    Args:
        scores: the softmax layer, whose weights are used.
    """

    def __init__(self, scores: keras.layers.Dense) -> None:
        super().__init__(name="logit", dtype="float32")
        self.scores = scores

    def call(self, embedded: keras.KerasTensor) -> keras.KerasTensor:
        """Embeddings (n, width) to logits (n,)."""
        classes = keras.ops.matmul(embedded, self.scores.kernel) + self.scores.bias
        return classes[:, Label.MALIGNANT] - classes[:, Label.BENIGN]


class GradCam:
    """Grad-CAM of an image model at its last convolutional concatenation, mixed10.

    With A_k the feature maps of mixed10 and y the logit of P(malignant): the weight of map k is the
    mean of dy/dA_k over the places, the evidence at a place the weighted sum of A_k there (R. R.
    Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2, before the ReLU). The logit stands for
    P(malignant) because the gradient of a probability close to 0 or 1 is lost in rounding; dP/dA is
    P (1 - P) times dy/dA, so that the two maps differ by a factor only, and not at all once each is
    scaled by its maximum.

    Args:
        model: from `renal_ray.model.heads.image_model`; its weights are read at each call.
    """

    def __init__(self, model: keras.Model) -> None:
        scores = model.get_layer(SCORES)
        self._body: keras.Model | None = None
        if any(layer.name == LAYER for layer in model.layers):
            features = model.get_layer(LAYER).output
            self._body = keras.Model(model.input, features, name="body")
            self._body.compile(jit_compile=XLA)
            embedded = keras.Model(features, scores.input)
            inputs, embedding = embedded.input, embedded.output
        else:  # the model reads pooled features
            inputs = keras.Input((None, None, model.input_shape[-1]), name="features")
            embedding = keras.Model(model.input, scores.input)(
                keras.layers.GlobalAveragePooling2D(name="pooled")(inputs)
            )
        self._gradient = make_input_gradient(
            keras.Model(inputs, Logit(scores)(embedding), name="logit")
        )

    def __call__(self, activations: np.ndarray, batch_size: int) -> np.ndarray:
        """Evidence for malignant at each place, where negative for benign.

        Args:
            activations: what the model's suffix reads, float32 (n, ...); of a model frozen up to
                mixed10 its features before pooling.
            batch_size: images a step; the last batch is padded, so that one compiled shape serves
                all.

        Returns:
            float32 (n, rows, columns), the places of mixed10.
        """
        found = []
        for start in range(0, len(activations), batch_size):
            batch = activations[start : start + batch_size]
            rows = len(batch)
            if rows < batch_size:
                batch = np.concatenate(
                    [batch, np.zeros((batch_size - rows, *batch.shape[1:]), batch.dtype)]
                )
            features = (
                batch
                if self._body is None
                else np.asarray(self._body.predict_on_batch(batch), np.float32)
            )
            weights = self._gradient(features).mean(axis=(1, 2))
            found.append(np.einsum("nijk,nk->nij", features, weights)[:rows])
        return np.concatenate(found).astype(np.float32)
