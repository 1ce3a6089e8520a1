"""Where the image models look: maps of chosen patients over the three windows, and the share of
attention inside the lesion."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import binary_erosion

from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import DASH, counted, dataset_name, plus_minus, probability, two
from renal_ray.store.place import Place
from renal_ray.trial.attended import Explained, Summary, read_explained, summary
from renal_ray.trial.lesions import DRAWN
from renal_ray.trial.pictures import MOST, Picture, read_pictures
from renal_ray.trial.subjects import BEST, ERROR, TEST, UNCERTAIN, VALIDATION, WORST, state
from renal_ray.types import DATASETS, Dataset, Head, Label

NAME = "attention"
COMMAND = "`renal-ray explain` makes them"
GROUPS = {
    BEST: "Most confidently right on validation",
    WORST: "Most confidently wrong on validation",
    UNCERTAIN: "Nearest to the threshold on validation",
    ERROR: "Wrong vote on the sealed test",
}
WINDOW_NAMES = ("renal window", "high attenuation window", "low attenuation window")
COLOURS = "inferno"  # perceptually uniform, and readable with any kind of colour vision
CONTOUR = (
    86,
    180,
    233,
)  # sky blue of Okabe and Ito: stands out from grey and from every colour of the map
PANEL, GAP = 176, 4  # pixels
LARGE = 900  # pixels of a lesion in a panel from which its contour is two pixels wide
OPACITY = 0.6  # of the map's maximum
QUALITY = 80
MOST_ERRORS = 30  # cards a dataset


@dataclass(frozen=True)
class Card:
    """One patient.

    Args:
        uri: the three windows side by side as a data URI.
        width: of the picture in pixels.
        height: of the picture in pixels.
        alt: what the picture shows, for who cannot see it.
        title: who.
        lines: label, score and what was measured.
    """

    uri: str
    width: int
    height: int
    alt: str
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """The cards of one kind in one dataset; `more` are left out."""

    title: str
    cards: tuple[Card, ...]
    more: int


@dataclass(frozen=True)
class Gallery:
    """The cards of one dataset."""

    title: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Attention:
    """The section of the page.

    Args:
        sentences: what there is, and what not.
        tables: the table of shares; none where nothing was explained.
        galleries: one a dataset.
        ramp: colours of the map, from nothing to its maximum.
    """

    sentences: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    ramp: tuple[str, ...] = ()


def read_attention(evidence: Evidence) -> Attention:
    """Reads WORK/explain/ as far as it belongs to the models of the study as it stands."""
    work = Place(evidence.study.work)
    explained = read_explained(work)
    if explained is None:
        return Attention((f"Maps of where the image models look have not been made; {COMMAND}.",))
    now = _state(evidence, work)
    if explained.state["models"] != now["models"]:
        return Attention(
            (
                (
                    "The maps that lie here are of other models, or of another rule for "
                    f"decisions, than the study's; {COMMAND} anew."
                ),
            )
        )
    sentences = list(_sentences(explained))
    rows, parts = explained.attention, {VALIDATION, TEST}
    if explained.state["votes"] != now["votes"]:
        parts = {VALIDATION}
        sentences.append(
            "The maps were made before the test as it stands now, whose wrong votes "
            "are not among them; `renal-ray explain` adds them."
        )
    pictures = [one for one in read_pictures(work) if one.part in parts]
    galleries = tuple(_gallery(dataset, pictures, rows) for dataset in evidence.study.datasets)
    return Attention(tuple(sentences), (_table(explained),), galleries, _ramp())


def _state(evidence: Evidence, work: Place) -> dict[str, str]:
    cells = {
        dataset: evidence.cell(dataset, point, Head.IMAGE)
        for dataset, point in evidence.selected.items()
    }
    results = {trial.spec.trial_id: trial.result for trials in cells.values() for trial in trials}
    opened = evidence.test.votes is not None and not evidence.test.stale
    return state(
        evidence.study,
        work,
        {dataset: [trial.spec for trial in trials] for dataset, trials in cells.items()},
        results,
        opened=opened,
    )


def _sentences(explained: Explained) -> Iterator[str]:
    yield (
        "Grad-CAM (Selvaraju et al. 2017) of the image-level models for the logit of "
        "P(malignant), at the last convolutional layer, on each patient's "
        "slice with the largest lesion. A validation patient is shown to the fold model "
        "that did not train on them; a wrong vote of the image-level "
        "models on a test patient is explained by the mean map of all who voted. A map "
        "shows where evidence for malignant was found, not why, and "
        "nothing of what speaks for benign."
    )
    if any(1 in one.places for one in summary(explained.attention)):
        yield (
            "At this image size the last convolutional layer has a single row or column of "
            "places, so that the maps cannot say where the models look; "
            "one that is the same everywhere is not drawn. images.size "
            "139 gives 3 × 3 places, 299 gives 8 × 8."
        )
    for why, patients in explained.without_contour.items():
        yield (
            f"{counted(patients, 'patient')} without the lesion's contour, and not measured: {why}."
        )


def _table(explained: Explained) -> Table:
    found = sorted(
        summary(explained.attention), key=lambda one: DATASETS.index(Dataset(one.dataset))
    )
    rows = tuple(
        Row(
            (
                dataset_name(one.dataset),
                one.freeze_point,
                f"{one.places[0]} × {one.places[1]}",
                str(one.n),
                plus_minus(*one.share),
                plus_minus(*one.area),
                plus_minus(*one.redrawn),
                str(one.n_empty),
            )
        )
        for one in found
    )
    return Table(
        name=NAME,
        title="Attention inside the lesion, validation patients, mean ± SD over patients",
        columns=(
            "Dataset",
            "Frozen up to",
            "Places",
            "Patients",
            "Attention inside",
            "Lesion's area",
            "Re-drawn head",
            "Empty maps",
        ),
        rows=rows,
        data=pd.DataFrame([_numbers(one) for one in found]),
        left=2,
        notes=(
            "Attention inside: sum of the map inside the lesion over the sum of all, on one "
            "slice a patient. Lesion's area: its share of the same image, "
            "which is what a map without any preference would give. In ROI "
            "images all that is not lesion is black.",
            "Re-drawn head: Spearman's correlation of the map with that of the same model whose "
            "head was given random weights (Adebayo et al. 2018). Near 0, "
            "the map follows what the head learned; near 1, it shows the image and not the "
            "model. Empty maps: no place speaks for malignant, so that no share "
            "is defined.",
        ),
    )


def _numbers(one: Summary) -> dict[str, object]:
    pairs = {"share_inside": one.share, "area_share": one.area, "redrawn_correlation": one.redrawn}
    told = {
        "dataset": one.dataset,
        "freeze_point": one.freeze_point,
        "rows": one.places[0],
        "columns": one.places[1],
        "n_patients": one.n,
    }
    told |= {"n_empty": one.n_empty, "n_without_contour": one.n_without_contour}
    return told | {
        f"{name}_{part}": value
        for name, pair in pairs.items()
        for part, value in zip(("mean", "sd"), pair, strict=True)
    }


def _gallery(dataset: Dataset, pictures: Sequence[Picture], rows: pd.DataFrame) -> Gallery:
    told = rows[rows["dataset"] == str(dataset)].set_index(["part", "kind", "patient_id"])
    groups = []
    for kind, title in GROUPS.items():
        mine = [one for one in pictures if one.dataset == dataset and one.kind == kind]
        mine.sort(key=lambda one: _order(told.loc[one.part, one.kind, one.patient_id]))
        shown = mine[:MOST_ERRORS] if kind == ERROR else mine
        if mine:
            cards = tuple(_card(one, told.loc[one.part, one.kind, one.patient_id]) for one in shown)
            groups.append(Group(title, cards, len(mine) - len(shown)))
    return Gallery(f"{dataset_name(dataset)} dataset", tuple(groups))


def _order(row: pd.Series) -> tuple[float, str]:
    """The one that the kind is named for first: most certain of the right, most certain of the
    wrong, nearest to the threshold."""
    truth = row["score"] if row["label"] == Label.MALIGNANT else 1 - row["score"]
    rank = {
        BEST: -truth,
        UNCERTAIN: abs(row["score"] - row["threshold"]) if pd.notna(row["threshold"]) else 0,
    }
    return float(rank.get(row.name[1], truth)), str(row.name[2])


def _card(one: Picture, row: pd.Series) -> Card:
    strip = draw_strip(one)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "WEBP", quality=QUALITY, method=4)
    names = {Label.BENIGN: "benign", Label.MALIGNANT: "malignant"}
    at = f", threshold {probability(row['threshold'])}" if pd.notna(row["threshold"]) else ""
    said = f"P(malignant) {probability(row['score'])}{at}: called {names[row['decision']]}"
    votes = (
        (f"{row['votes']} of {row['n_models']} models say malignant",)
        if pd.notna(row["votes"])
        else (f"model of fold {row['fold']}",)
    )
    return Card(
        uri="data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(),
        width=strip.shape[1],
        height=strip.shape[0],
        alt=(
            f"{', '.join(WINDOW_NAMES)} of patient {one.patient_id}, slice "
            f"{one.slice_index}, with attention and the lesion's contour"
        ),
        title=f"{one.patient_id}, slice {one.slice_index}",
        lines=(f"pathology: {names[row['label']]}", said, *votes, _measure(row)),
    )


def _measure(row: pd.Series) -> str:
    if row["is_empty"]:
        return "no place speaks for malignant"
    if row["contour"] != DRAWN:
        return f"attention inside the lesion: {DASH}"
    return f"attention inside the lesion {two(row['share_inside'])}, area {two(row['area_share'])}"


def draw_strip(one: Picture) -> np.ndarray:
    """The three windows in grey side by side, the map over each, and the lesion's contour.

    Args:
        one: a picture.

    Returns:
        uint8 RGB (PANEL, 3 * PANEL + 2 * GAP, 3).
    """
    attention = (
        np.asarray(Image.fromarray(one.attention).resize((PANEL, PANEL), Image.Resampling.BILINEAR))
        / MOST
    )
    heat = mpl.colormaps[COLOURS](attention)[..., :3] * 255
    alpha = (OPACITY * attention * (np.ptp(attention) > 0))[
        ..., None
    ]  # a map that is the same everywhere would hide the image and show nothing
    inside = (
        np.asarray(
            Image.fromarray(one.lesion.astype(np.uint8) * 255).resize(
                (PANEL, PANEL), Image.Resampling.BILINEAR
            )
        )
        > 127
    )
    edge = inside & ~binary_erosion(inside, iterations=2 if inside.sum() > LARGE else 1)
    strip = np.full((PANEL, 3 * PANEL + 2 * GAP, 3), 255, np.uint8)
    for channel in range(3):
        grey = np.asarray(
            Image.fromarray(one.image[..., channel]).resize(
                (PANEL, PANEL), Image.Resampling.BILINEAR
            )
        )[..., None]
        panel = np.rint(grey * (1 - alpha) + heat * alpha).astype(np.uint8)
        panel[edge] = CONTOUR
        start = channel * (PANEL + GAP)
        strip[:, start : start + PANEL] = panel
    return strip


def _ramp() -> tuple[str, ...]:
    return tuple(mpl.colors.to_hex(mpl.colormaps[COLOURS](value)) for value in np.linspace(0, 1, 9))
