"""Sizes of what crosses the freeze points; needs no Keras."""

from renal_ray.types import FreezePoint

CHANNELS = {
    FreezePoint.MIXED0: 256,
    FreezePoint.MIXED3: 768,
    FreezePoint.MIXED6: 768,
    FreezePoint.MIXED9: 2048,
    FreezePoint.MIXED10: 2048,
}
MIN_SIZE = 75  # below it InceptionV3's last grid reduction has nothing left


def activation_shape(size: int, freeze: FreezePoint) -> tuple[int, ...]:
    """Shape of one image's activation at a freeze point.

    Args:
        size: edge of the square input image in pixels, 75 or more.
        freeze: the freeze point.

    Returns:
        (rows, columns, channels); for mixed10 (channels,), because its activation is pooled. From
        the strides and paddings of InceptionV3 (Szegedy et al. 2016, as keras.applications builds
        it).

    Raises:
        ValueError: the image is too small for InceptionV3.
    """
    if size < MIN_SIZE:
        raise ValueError(
            f"images of {size} pixels are too small for InceptionV3: it takes {MIN_SIZE} or more"
        )
    if freeze == FreezePoint.MIXED10:
        return (CHANNELS[freeze],)
    edge = _halved(
        _halved(_halved(size) - 2) - 2
    )  # stem: five unpadded reductions down to mixed0's grid
    if freeze != FreezePoint.MIXED0:
        edge = _halved(edge)  # mixed3
    if freeze == FreezePoint.MIXED9:
        edge = _halved(edge)  # mixed8
    return (edge, edge, CHANNELS[freeze])


def _halved(edge: int) -> int:
    """Edge after an unpadded 3 x 3 window with stride 2."""
    return (edge - 3) // 2 + 1
