"""Arithmetic of the network against the real one's layers, and against published figures."""

import keras
import numpy as np
import pytest

from renal_ray.model.backbone import build_backbone
from renal_ray.model.flops import forward_gflops, prefix_gflops, suffix_gflops
from renal_ray.types import FREEZE_POINTS, FreezePoint


def test_the_figures_at_299_pixels() -> None:
    assert [round(prefix_gflops(299, point), 2) for point in FREEZE_POINTS] == [
        3.31,
        5.48,
        8.18,
        10.65,
        11.42,
    ]
    # Szegedy et al. 2016 give 5.7 billion multiply-adds for the whole network.
    assert forward_gflops(299) / 2 == pytest.approx(5.7, abs=0.02)
    assert suffix_gflops(299, FreezePoint.MIXED10) == 0


@pytest.mark.parametrize("size", [75, 96, 299])
def test_every_freeze_point_is_the_sum_over_the_real_layers_before_it(size: int) -> None:
    backbone = build_backbone(size)
    for point in FREEZE_POINTS:
        before = keras.Model(backbone.input, backbone.get_layer(point).output)
        flops = 0
        for layer in before.layers:
            if isinstance(layer, keras.layers.Conv2D):
                rows, columns = layer.output.shape[1:3]
                flops += 2 * rows * columns * int(np.prod(layer.kernel.shape))
        assert prefix_gflops(size, point) == pytest.approx(flops / 1e9, rel=1e-12)
        assert suffix_gflops(size, point) == pytest.approx(
            forward_gflops(size) - flops / 1e9, abs=1e-12
        )


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="74 pixels are too small"):
        forward_gflops(74)
