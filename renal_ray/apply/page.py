"""One patient's prediction as a page of its own."""

import base64
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from renal_ray.apply.pictures import TILE, Tile, png
from renal_ray.apply.prediction import Prediction
from renal_ray.report.text import plus_minus, probability, two


def patient_page(
    prediction: Prediction, found: dict[str, Any], shown: Sequence[Tile], dicom: str
) -> str:
    """The page; it needs no other file and prints on one sheet or two.

    Args:
        prediction: what is said of the patient.
        found: the same as `Prediction.to_json` gives it.
        shown: pictures.
        dicom: what DICOM objects lie beside the page, or why there are none.
    """
    pictures = [
        {"seen": _uri(tile.seen), "attention": _uri(tile.attention), "caption": tile.caption}
        for tile in shown
    ]
    auc = plus_minus(*prediction.chosen.mean_auc())
    return template("patient.html").render(
        prediction=prediction,
        found=found,
        tiles=pictures,
        edge=TILE,
        dicom=dicom,
        auc=auc,
        css=style(),
    )


def template(name: str) -> jinja2.Template:
    """A template of this room; every value that is put in is escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_file),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"two": two, "probability": probability}
    return environment.get_template(name)


def style() -> Markup:
    """The style of this room's pages."""
    return Markup(_file("page.css"))


def _uri(picture: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


def _file(name: str) -> str:
    return files("renal_ray.apply").joinpath(name).read_text(encoding="utf-8")
