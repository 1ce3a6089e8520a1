"""Attention maps as numbers, against arithmetic by hand, Pillow and SciPy."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from renal_ray.protocol.attention import attention_map, rank_correlation, share_inside


def test_a_map_is_scaled_to_its_maximum_and_forgets_what_speaks_for_benign() -> None:
    # places' centres lie at pixels 0.5 and 2.5; bilinear between them, flat beyond: 1, 3/4, 1/4, 0
    line = np.array([1, 0.75, 0.25, 0])
    found = attention_map(np.array([[4.0, 0], [-100, 0]], np.float32), 4)
    assert (found.shape, found.dtype) == ((4, 4), np.float32)
    np.testing.assert_allclose(found, np.outer(line, line), atol=1e-7)


def test_a_map_without_evidence_is_zero_and_one_place_is_everywhere() -> None:
    assert not attention_map(np.array([[-1.0, -2], [-3, 0]]), 75).any()
    assert (attention_map(np.array([[0.001]]), 75) == 1).all()


@pytest.mark.parametrize("shape", [(8, 8), (3, 5), (1, 4)])
def test_interpolation_is_that_of_pillow(shape: tuple[int, int]) -> None:
    evidence = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = np.asarray(
        Image.fromarray(np.maximum(evidence, 0)).resize((299, 299), Image.Resampling.BILINEAR)
    )
    found = attention_map(evidence, 299)
    np.testing.assert_allclose(found, image / image.max(), atol=1e-5)
    assert found.max() == 1
    np.testing.assert_allclose(attention_map(1e-9 * evidence, 299), found, atol=1e-6)


def test_share_inside() -> None:
    attention = np.array([[1, 2], [3, 4]], np.float32)
    assert share_inside(attention, np.array([[True, False], [False, True]])) == pytest.approx(0.5)
    assert share_inside(attention, np.ones((2, 2), bool)) == 1
    assert share_inside(attention, np.zeros((2, 2), bool)) == 0
    assert share_inside(np.zeros((2, 2), np.float32), np.ones((2, 2), bool)) is None
    with pytest.raises(ValueError, match="shape"):
        share_inside(attention, np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="negative"):
        share_inside(-attention, np.ones((2, 2), bool))


def test_a_flat_map_has_the_lesion_s_share_of_the_area() -> None:
    lesion = np.random.default_rng(1).random((30, 30)) < 0.3
    assert share_inside(np.full((30, 30), 0.7, np.float32), lesion) == pytest.approx(
        lesion.mean(), abs=1e-6
    )


def test_rank_correlation_is_scipy_s() -> None:
    rng = np.random.default_rng(2)
    one = np.maximum(rng.normal(size=(8, 8)), 0).astype(np.float32)  # many ties at zero
    other = np.maximum(one + rng.normal(size=(8, 8)), 0).astype(np.float32)
    assert rank_correlation(one, other) == pytest.approx(
        spearmanr(one.ravel(), other.ravel()).statistic
    )
    assert rank_correlation(one, np.exp(5 * one)) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, np.zeros((8, 8))) is None
    assert rank_correlation(np.ones((1, 1)), np.ones((1, 1))) is None
    with pytest.raises(ValueError, match="compared"):
        rank_correlation(one, other[:4])
