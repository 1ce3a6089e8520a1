"""Arithmetic of InceptionV3's convolutions, from its architecture; needs no Keras."""

from functools import cache

from renal_ray.model.shapes import MIN_SIZE
from renal_ray.types import FREEZE_POINTS, FreezePoint

Conv = tuple[int, int, int, int]  # rows and columns of the kernel, channels in and out

STEM = ((3, 2, 3, 32), (3, 1, 32, 32))  # kernel, stride, channels in and out: unpadded
TRAINED_PASSES = 3  # a training step: forward, gradients of the inputs, gradients of the weights


def forward_gflops(size: int) -> float:
    """One image through the whole network: GFLOP, multiply and add counted apart.

    Args:
        size: edge of the square image in pixels, 75 or more.

    Raises:
        ValueError: the image is too small for InceptionV3.
    """
    return prefix_gflops(size, FreezePoint.MIXED10)


def prefix_gflops(size: int, freeze: FreezePoint) -> float:
    """One image through the frozen layers up to and including a freeze point: GFLOP."""
    return _cumulative(size)[freeze]


def suffix_gflops(size: int, freeze: FreezePoint) -> float:
    """One image forward through the layers after a freeze point: GFLOP; 0 for mixed10, whose head
    is not counted."""
    return forward_gflops(size) - prefix_gflops(size, freeze)


@cache
def _cumulative(size: int) -> dict[FreezePoint, float]:
    """GFLOP up to each freeze point (Szegedy et al. 2016, as keras.applications builds it)."""
    if size < MIN_SIZE:
        raise ValueError(
            f"images of {size} pixels are too small for InceptionV3: it takes {MIN_SIZE} or more"
        )
    total, edge = 0.0, size
    for kernel, stride, before, after in STEM:
        edge = (edge - kernel) // stride + 1
        total += _gflop(edge, (kernel, kernel, before, after))
    total += _gflop(edge, (3, 3, 32, 64))  # padded
    edge = _reduced(edge)
    total += _gflop(edge, (1, 1, 64, 80))
    edge -= 2
    total += _gflop(edge, (3, 3, 80, 192))
    edge = _reduced(edge)
    found = {}
    for name, whole, halved in _blocks():
        total += sum(_gflop(edge, conv) for conv in whole)
        if halved:
            edge = _reduced(edge)
            total += sum(_gflop(edge, conv) for conv in halved)
        if name in FREEZE_POINTS:
            found[FreezePoint(name)] = total
    return found


def _blocks() -> list[tuple[str, list[Conv], list[Conv]]]:
    """Each block's name, its padded convolutions, and those that halve the grid."""
    blocks: list[tuple[str, list[Conv], list[Conv]]] = [
        (f"mixed{n}", _block_a(channels, pooled), [])
        for n, channels, pooled in ((0, 192, 32), (1, 256, 64), (2, 288, 64))
    ]
    blocks.append(("mixed3", [(1, 1, 288, 64), (3, 3, 64, 96)], [(3, 3, 288, 384), (3, 3, 96, 96)]))
    blocks += [
        (f"mixed{n}", _block_b(width), []) for n, width in ((4, 128), (5, 160), (6, 160), (7, 192))
    ]
    blocks.append(
        (
            "mixed8",
            [(1, 1, 768, 192), (1, 1, 768, 192), (1, 7, 192, 192), (7, 1, 192, 192)],
            [(3, 3, 192, 320), (3, 3, 192, 192)],
        )
    )
    return blocks + [
        (f"mixed{n}", _block_c(channels), []) for n, channels in ((9, 1280), (10, 2048))
    ]


def _block_a(channels: int, pooled: int) -> list[Conv]:
    return [
        (1, 1, channels, 64),
        (1, 1, channels, 48),
        (5, 5, 48, 64),
        (1, 1, channels, 64),
        (3, 3, 64, 96),
        (3, 3, 96, 96),
        (1, 1, channels, pooled),
    ]


def _block_b(width: int) -> list[Conv]:
    short = [(1, 1, 768, width), (1, 7, width, width), (7, 1, width, 192)]
    long = [
        (1, 1, 768, width),
        (7, 1, width, width),
        (1, 7, width, width),
        (7, 1, width, width),
        (1, 7, width, 192),
    ]
    return [(1, 1, 768, 192), *short, *long, (1, 1, 768, 192)]


def _block_c(channels: int) -> list[Conv]:
    split = [(1, 3, 384, 384), (3, 1, 384, 384)]
    return [
        (1, 1, channels, 320),
        (1, 1, channels, 384),
        *split,
        (1, 1, channels, 448),
        (3, 3, 448, 384),
        *split,
        (1, 1, channels, 192),
    ]


def _reduced(edge: int) -> int:
    """Edge after an unpadded 3 x 3 window with stride 2."""
    return (edge - 3) // 2 + 1


def _gflop(edge: int, conv: Conv) -> float:
    rows, columns, before, after = conv
    return 2 * edge * edge * rows * columns * before * after / 1e9
