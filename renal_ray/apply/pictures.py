"""A patient's slices as the models see them, with the lesion's outline and the models' attention;
and all of them on one sheet."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from renal_ray.apply.familiar import spread
from renal_ray.apply.prediction import Prediction
from renal_ray.apply.reading import lesion_masks

TILE = 224  # pixels
MOST_SLICES = 6
PAIRS_A_ROW = 3
OUTLINE = np.array([255, 255, 255], np.uint8)
MOST_OPAQUE = 0.75
MARGIN, GAP, LINE = 28, 8, 26
INK, SOFT, PAPER, ALERT = (26, 29, 33), (90, 99, 110), (255, 255, 255), (160, 30, 20)


@dataclass(frozen=True)
class Tile:
    """One slice.

    Args:
        seen: uint8 (TILE, TILE, 3), the renal window in grey.
        attention: the same under the attention, with the lesion's outline.
        caption: number, position and score.
    """

    seen: np.ndarray
    attention: np.ndarray
    caption: str


def tiles(prediction: Prediction) -> list[Tile]:
    """The slice with the largest lesion and others evenly over it, head to foot."""
    slices, vote = prediction.seen.slices, prediction.vote
    chosen = np.union1d(
        spread(len(slices.hu), MOST_SLICES - 1), [int(slices.lesion_area_mm2.argmax())]
    )
    images = prediction.seen.images[prediction.chosen.dataset]
    masks = lesion_masks(prediction.seen, prediction.chosen.run.study, prediction.chosen.dataset)
    made = []
    for n in chosen:
        grey = np.repeat(images[n][..., :1], 3, axis=2)
        caption = (
            f"slice {slices.slice_index[n]}, {slices.position_mm[n]:.1f} "
            f"mm, score {vote.slice_scores[n]:.2f}"
        )
        made.append(
            Tile(
                _enlarged(grey),
                _under_attention(_enlarged(grey), prediction.attention[n], masks[n]),
                caption,
            )
        )
    return made


def png(picture: np.ndarray) -> bytes:
    """A picture as PNG; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def sheet(prediction: Prediction, shown: Sequence[Tile], disclaimer: str) -> np.ndarray:
    """All pictures on one page with what was found, for viewers that show nothing but images.

    Args:
        prediction: what is said above the pictures; the patient's id is not.
        shown: the pictures.
        disclaimer: stands above and below.

    Returns:
        uint8 (rows, columns, 3).
    """
    pairs = min(PAIRS_A_ROW, len(shown))
    rows = -(-len(shown) // pairs)
    columns = PAIRS_A_ROW * (2 * TILE + 2 * GAP)
    lines = _lines(prediction)
    page = Image.new(
        "RGB",
        (columns + 2 * MARGIN, 2 * MARGIN + LINE * (len(lines) + 3) + rows * (TILE + LINE + GAP)),
        PAPER,
    )
    draw, top = ImageDraw.Draw(page), MARGIN
    plain, bold = _font("DejaVuSans.ttf", 16), _font("DejaVuSans-Bold.ttf", 18)
    draw.text((MARGIN, top), disclaimer.upper(), font=_font("DejaVuSans-Bold.ttf", 15), fill=ALERT)
    top += LINE
    for number, (text, colour) in enumerate(lines):
        draw.text((MARGIN, top), text, font=plain if number else bold, fill=colour)
        top += LINE
    top += LINE // 2
    for number, tile in enumerate(shown):
        left, upper = (
            MARGIN + (number % pairs) * (2 * TILE + 2 * GAP),
            top + (number // pairs) * (TILE + LINE + GAP),
        )
        page.paste(Image.fromarray(tile.seen), (left, upper))
        page.paste(Image.fromarray(tile.attention), (left + TILE, upper))
        draw.text(
            (left, upper + TILE + 3), tile.caption, font=_font("DejaVuSans.ttf", 13), fill=SOFT
        )
    draw.text(
        (MARGIN, page.height - MARGIN - 14),
        disclaimer,
        font=_font("DejaVuSans.ttf", 13),
        fill=ALERT,
    )
    return np.asarray(page)


def _lines(prediction: Prediction) -> list[tuple[str, tuple[int, int, int]]]:
    vote = prediction.vote
    sd = "" if vote.sd is None else f", SD {vote.sd:.3f}"
    lines = [
        (
            f"{prediction.decision}: {vote.votes} of {len(vote.voters)} fold models say malignant",
            INK,
        ),
        (
            (
                f"mean score {vote.score:.3f}; fold models {vote.lowest:.3f} to "
                f"{vote.highest:.3f}{sd} (no confidence interval)"
            ),
            INK,
        ),
        (
            (
                f"{prediction.model_name}. Left: what the models see, renal window. "
                f"Right: {prediction.map_note}; white: the lesion"
            ),
            SOFT,
        ),
    ]
    told = ([prediction.seen_before] if prediction.known else []) + list(prediction.warnings)
    return [*lines, *((f"Warning: {one}.", ALERT) for one in told)]


def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), size)


def _enlarged(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BILINEAR))


def _under_attention(grey: np.ndarray, attention: np.ndarray, mask: np.ndarray) -> np.ndarray:
    share = np.asarray(Image.fromarray(attention).resize((TILE, TILE), Image.Resampling.BILINEAR))[
        ..., None
    ]
    colour = mpl.colormaps["inferno"](share[..., 0])[..., :3] * 255
    opacity = (
        MOST_OPAQUE * share * (np.ptp(share) > 0)
    )  # attention that is the same everywhere would hide the image and show nothing
    mixed: np.ndarray = np.rint(grey * (1 - opacity) + colour * opacity).astype(np.uint8)
    inside = np.asarray(Image.fromarray(mask).resize((TILE, TILE), Image.Resampling.NEAREST))
    mixed[inside & ~binary_erosion(inside, border_value=1)] = OUTLINE
    return mixed
