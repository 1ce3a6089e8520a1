"""A page as one file: style sheet and script within it, every value escaped, nothing loaded and no
other script run."""

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape

from renal_ray import __version__
from renal_ray.report.canvas import Drawing
from renal_ray.report.text import moment, unbroken

STYLES, SCRIPT = ("style.css", "attention.css"), "page.js"


@dataclass(frozen=True)
class Inline:
    """A drawing as it stands in a page.

    Args:
        inline: its SVG element, our own.
        title: number and first sentence of its caption.
        rest: what follows.
    """

    inline: Markup
    title: str
    rest: str


def render(template: str, **values: Any) -> str:
    """A template of this room with its values.

    Args:
        template: file name of the template; it finds css, script, policy and program among its
            values.
        values: what is escaped, unless it is Markup.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_file),
        keep_trailing_newline=True,
    )
    environment.filters |= {"commands": commands, "moment": moment, "unbroken": unbroken}
    script = _file(SCRIPT)
    return environment.get_template(template).render(
        css=Markup("".join(map(_file, STYLES))),
        script=Markup(script),
        policy=policy(script),
        program=f"renal-ray {__version__}",
        **values,
    )


def policy(script: str) -> str:
    """What a browser may do on the page (W3C Content Security Policy Level 3): run this very
    script, show what is in the file, and load nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src "
        "'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def in_page(drawing: Drawing) -> Inline:
    """A drawing and its caption: number and first sentence, then the rest."""
    number, title, rest = drawing.caption.split(". ", 2)
    return Inline(inline=Markup(drawing.inline), title=f"{number}. {title}", rest=rest)


def commands(sentence: str) -> Markup:
    """A sentence, escaped, with what stands in back quotes set as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(sentence))))


def _file(name: str) -> str:
    return files("renal_ray.report").joinpath(name).read_text(encoding="utf-8")
