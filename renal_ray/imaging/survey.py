"""A few slices of the whole image, looked at for what a wrong header does to it: HU that are none,
and anatomy that is flipped."""

import hashlib

import numpy as np
from scipy import ndimage

from renal_ray.imaging.images.source import HU_RANGE
from renal_ray.problems import Code, Finding, PatientError

SLICES = 7
COARSE_MM = 3.0  # pixels of about this size are enough to see a body
TISSUE_HU = -300.0  # above: the body; below: air
BODY_HU = (-200.0, 400.0)
SOFT_HU = 10.0  # fat and its edges left out, the middle of a body lies above
AIR_HU = (-1100.0, -900.0)
EVEN = 0.04  # of its median: half of the air lies as near to it, and lung does not
PADDING_HU, MOST_PADDING_HU = (
    -1200.0,
    10.0,
)  # below, and of one value but for compression: outside of the field of view
BONE_HU, MOST_BONE = 600.0, 0.25  # share of the picture
LEAST_SOFT = 500  # pixels
UNSCALED_HU = (850.0, 1250.0)  # fat to spongy bone, where the intercept is missing
LEAST_BODY = 0.02  # share of the picture; less is no body
LEAST_TRUNK_MM = (100.0, 220.0)  # front to back, side to side; a leg is smaller
FAT_HU = -30.0  # fat lies below, in every body and near every organ
CUT_SHARE = 0.05  # of the pixels at the smallest value, and it was cut off there
MOST_LABELS = 256  # values of a label map, or of an 8-bit picture
LEAST_CERTAIN = 4096  # pixels; what fewer show may be chance


def survey_slices(n_slices: int) -> np.ndarray:
    """Which slices are looked at: ends, middle and between.

    Args:
        n_slices: slices of the series.

    Returns:
        int, ascending, at most seven.
    """
    return np.unique(np.rint(np.linspace(0, n_slices - 1, SLICES)).astype(int))


def no_ct(values: np.ndarray) -> str | None:
    """Why a sample of an image's values cannot be a CT's.

    Args:
        values: of slices all over the image, in HU as far as the file says, any shape; what is not
            a number says nothing.

    Returns:
        The reason in words, without an end: "every value is 0"; None where they can be HU.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "it holds no numbers"
    least, most = finite.min().item(), finite.max().item()
    shown = f"from {least:.6g} to {most:.6g}"
    if least == most:
        return f"every value is {least:.6g}"
    if least < HU_RANGE[0] or most > HU_RANGE[1]:
        return f"its values run {shown}, and no CT has such HU"
    if most <= TISSUE_HU:
        return f"its values run {shown}, so it shows air alone"
    if least < FAT_HU:
        return None
    if (count := _whole_numbers(finite)) <= MOST_LABELS:
        return f"it holds {count} whole numbers {shown}, as a label map or a picture does"
    return f"its values run {shown}, so it shows neither air nor fat"


def require_ct(hu: np.ndarray) -> None:
    """Refuses an image whose values are certainly those of a label map or a picture: few whole
    numbers from 0 on.

    Args:
        hu: surveyed slices, any shape.

    Raises:
        PatientError: NOT_CT.
    """
    if hu.size >= LEAST_CERTAIN and hu.min() == 0 and _whole_numbers(hu) <= MOST_LABELS:
        raise PatientError(
            Code.NOT_CT, f"the image is no CT: {no_ct(hu)}; name the CT itself, in HU"
        )


def _whole_numbers(values: np.ndarray) -> float:
    """How many whole numbers there are among the values; infinitely many where others are among
    them."""
    distinct = np.unique(values)
    return len(distinct) if np.array_equal(distinct, np.rint(distinct)) else np.inf


def fingerprint(hu: np.ndarray) -> frozenset[str]:
    """Digests of slices; two patients who share one have the same image.

    Args:
        hu: (n, rows, cols) in HU; slices of one value say nothing and are passed over.
    """
    return frozenset(
        hashlib.sha256(repr(one.shape).encode() + np.rint(one).astype("<i4").tobytes()).hexdigest()
        for one in hu
        if np.ptp(one) > 0
    )


def survey_findings(hu: np.ndarray, spacing_mm: np.ndarray) -> list[Finding]:
    """What looks wrong in an image; suspicions are raised on strong evidence alone.

    Args:
        hu: surveyed slices (n, rows, cols) in HU, head to foot, in the standard axial display.
        spacing_mm: distance between slices, rows and columns.

    Returns:
        INTERCEPT_SUSPECTED, IMAGE_HU_IMPLAUSIBLE and FLIP_SUSPECTED, as far as they apply.
    """
    step = [max(1, round(COARSE_MM / mm)) for mm in spacing_mm[1:]]
    coarse = hu[:, :: step[0], :: step[1]].astype(np.float32)
    if _unscaled(coarse):
        message = (
            "hardly a value lies below 0 and many lie around 1024: the rescale intercept "
            "seems to be missing; compare with the scanner's own display"
        )
        return [Finding(Code.INTERCEPT_SUSPECTED, message)]
    bodies = [_body(one) for one in coarse]
    seen = [k for k, body in enumerate(bodies) if body.mean() >= LEAST_BODY]
    what = no_ct(coarse) or (
        None if seen else "no body is seen, hardly anything lies above -300 HU"
    )
    what = what or _implausible(coarse[seen], [bodies[k] for k in seen])
    if what:
        return [
            Finding(
                Code.IMAGE_HU_IMPLAUSIBLE,
                f"the image does not look like a CT in HU: {what}; look at "
                "the series, and at slope and intercept",
            )
        ]
    pixel_mm = spacing_mm[1:] * step
    trunks = [k for k in seen if _is_trunk(coarse[k], bodies[k], pixel_mm)]
    return _flips(coarse[trunks], [bodies[k] for k in trunks]) if trunks else []


def _unscaled(hu: np.ndarray) -> bool:
    dense = hu[hu > TISSUE_HU + 600]
    body = (dense > UNSCALED_HU[0]) & (dense < UNSCALED_HU[1])
    return bool(
        np.percentile(hu, 1) >= 2 * FAT_HU and body.sum() > 0.05 * hu.size and body.mean() > 0.6
    )


def _body(hu: np.ndarray) -> np.ndarray:
    """The largest piece above air, with what it encloses."""
    pieces, count = ndimage.label(ndimage.binary_opening(hu > TISSUE_HU))
    if not count:
        return np.zeros(hu.shape, bool)
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel(), minlength=count + 1)[1:]))
    return np.asarray(ndimage.binary_fill_holes(pieces == largest))


def _implausible(hu: np.ndarray, bodies: list[np.ndarray]) -> str | None:
    """What is not where it belongs: soft tissue, bone, or the air around the body; None where
    nothing is."""
    tissue = np.concatenate(
        [one[body & (one > TISSUE_HU)] for one, body in zip(hu, bodies, strict=True)]
    )
    middle, soft = float(np.median(tissue)), tissue[tissue > FAT_HU]
    if not BODY_HU[0] <= middle <= BODY_HU[1]:
        return f"the body's median is {middle:.0f} HU, not between -200 and 400"
    if (
        len(soft) > max(LEAST_SOFT, LEAST_BODY * hu.size)
        and (dense := float(np.median(soft))) < SOFT_HU
    ):
        return (
            f"what is denser than fat has a median of {dense:.0f} "
            "HU, where soft tissue lies near 50"
        )
    if (share := float(np.mean(hu > BONE_HU))) > MOST_BONE:
        return f"{share:.0%} of the picture is as dense as bone"
    if (least := float(hu.min())) > AIR_HU[1] and (
        share := float(np.mean(hu == least))
    ) > CUT_SHARE:
        return (
            f"{share:.0%} of the values are {least:.0f}, and none is "
            "less: they were cut off there, or changed"
        )
    air = _air_around(hu, bodies)
    return (
        None
        if air is None or AIR_HU[0] <= air <= AIR_HU[1]
        else f"the air around the body is at {air:.0f} HU, not near -1000"
    )


def _air_around(hu: np.ndarray, bodies: list[np.ndarray]) -> float | None:
    """What the air around a body is at, in HU; None where too little of it is seen, or what is seen
    can be lung."""
    around = (hu < TISSUE_HU) & ~np.stack(bodies)
    if (
        around[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean() < 0.9
    ):  # a picture that is cut out of another shows lung and bowel at its edges
        return None
    values = hu[around]
    padding = values[values < PADDING_HU]
    if len(padding) and np.ptp(np.percentile(padding, (5, 95))) < MOST_PADDING_HU:
        values = values[values >= PADDING_HU]
    if len(values) <= LEAST_BODY * hu.size:
        return None
    middle = float(np.median(values))
    return middle if np.mean(np.abs(values - middle) <= EVEN * -middle) >= 0.5 else None


def _is_trunk(hu: np.ndarray, body: np.ndarray, pixel_mm: np.ndarray) -> bool:
    """Whether a slice shows a trunk whole: one body, larger than a leg, not cut by the picture's
    edges."""
    rows, columns = body.any(axis=1), body.any(axis=0)
    large = (np.array([rows.sum(), columns.sum()]) * pixel_mm >= LEAST_TRUNK_MM).all()
    alone = (body & (hu > TISSUE_HU)).sum() > 0.8 * (hu > TISSUE_HU).sum()
    cut = max(
        *(body[:, edge].sum() / rows.sum() for edge in (0, -1)),
        *(body[edge].sum() / columns.sum() for edge in (0, -1)),
    )
    return bool(large and alone and cut < 0.25)


def _flips(hu: np.ndarray, bodies: list[np.ndarray]) -> list[Finding]:
    suspected = []
    lung = [
        float(((one > -980) & (one < -500) & body).sum() / body.sum())
        for one, body in zip(hu, bodies, strict=True)
    ]
    if len(lung) > 2 and lung[-1] > 0.2 and max(lung[: len(lung) // 2 + 1]) < 0.05:
        suspected.append("head to foot (lungs at the lower end)")
    spine = [
        height
        for one, body in zip(hu, bodies, strict=True)
        if (height := _spine_height(one, body)) is not None
    ]
    if len(spine) > 2 and np.mean(np.array(spine) < 0.4) > 0.7 and max(spine) < 0.6:
        suspected.append("front to back (the spine in front)")
    right, left = np.sum(
        [_organ_pixels(one, body) for one, body in zip(hu, bodies, strict=True)], axis=0
    )
    # unflipped, the right has at least three times the left's in 40 phantoms and 3 real abdomens,
    # and 1 % of the body and more
    if (
        len(spine) > len(hu) / 2
        and left > 2.5 * right
        and left > 0.01 * sum(body.sum() for body in bodies)
    ):
        suspected.append("left to right (the liver on the left)")
    if not suspected:
        return []
    return [
        Finding(
            Code.FLIP_SUSPECTED,
            f"the anatomy looks flipped {' and '.join(suspected)}; look "
            "at the images and at the conversion",
        )
    ]


def _spine_height(hu: np.ndarray, body: np.ndarray) -> float | None:
    """Where the bone on the midline lies, from 0 at the front of the body to 1 at its back; None
    where there is too little."""
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    middle, reach = (columns[0] + columns[-1]) / 2, 0.12 * (columns[-1] - columns[0])
    band = slice(max(0, int(middle - reach)), int(middle + reach) + 1)
    bone = (hu[:, band] > 250) & body[:, band]
    if bone.sum() < 12 or rows[-1] == rows[0]:
        return None
    return float((np.nonzero(bone)[0].mean() - rows[0]) / (rows[-1] - rows[0]))


def _organ_pixels(hu: np.ndarray, body: np.ndarray) -> tuple[int, int]:
    """Pixels deep in large organs - even, and of an organ's HU - on the patient's right and
    left."""
    organ = (ndimage.uniform_filter(hu, 5) > 45) & (ndimage.uniform_filter(hu, 5) < 200) & body
    deep = ndimage.binary_erosion(
        organ, iterations=6
    )  # 18 mm from any edge: liver, large spleen, hardly anything else
    columns = np.flatnonzero(body.any(axis=0))
    middle = int((columns[0] + columns[-1]) / 2)
    return int(deep[:, :middle].sum()), int(deep[:, middle:].sum())
