"""What a mark of a drawing says when it is pointed at: an SVG title, read by browsers with and
without scripts."""

import re
from collections.abc import Mapping, Sequence

from markupsafe import escape

Tips = Mapping[
    str, Sequence[str]
]  # gid of an artist -> a sentence for each of its marks, or one for all of it
MARK = re.compile(r"<use\b[^>]*/>|<path\b[^>]*/>")
BLOCK = re.compile(r"<(/?)g\b[^>]*?(/?)>")


def with_tips(svg: str, tips: Tips) -> str:
    """Puts a title into every mark of the named groups.

    Args:
        svg: an SVG file of Matplotlib; `artist.set_gid(name)` gave the groups their names.
        tips: name of the group -> sentences: as many as the group has marks, in their order, or a
            single one for the whole group.

    Raises:
        ValueError: a group is not there, or has another number of marks than sentences.
    """
    for gid, sentences in tips.items():
        opening = f'<g id="{gid}">'
        if opening not in svg:
            raise ValueError(f"figure: no group {gid!r} to say {len(sentences)} sentences")
        start = svg.index(opening) + len(opening)
        end = _end(svg, start)
        svg = svg[:start] + _titled(gid, svg[start:end], sentences) + svg[end:]
    return svg


def _titled(gid: str, inside: str, sentences: Sequence[str]) -> str:
    if len(sentences) == 1:
        return f"<title>{escape(sentences[0])}</title>{inside}"
    uses = [mark for mark in MARK.finditer(inside) if mark[0].startswith("<use")]
    marks = uses or list(MARK.finditer(inside))
    if len(marks) != len(sentences):
        raise ValueError(
            f"figure: group {gid!r} has {len(marks)} marks and {len(sentences)} sentences"
        )
    parts, last = [], 0
    for mark, sentence in zip(marks, sentences, strict=True):
        name = mark[0][1 : 1 + len("path" if mark[0].startswith("<path") else "use")]
        parts += [
            inside[last : mark.start()],
            f"{mark[0][:-2]}><title>{escape(sentence)}</title></{name}>",
        ]
        last = mark.end()
    return "".join([*parts, inside[last:]])


def _end(svg: str, start: int) -> int:
    """Where the group that was opened just before `start` is closed."""
    depth = 1
    for block in BLOCK.finditer(svg, start):
        depth += -1 if block[1] else 0 if block[2] else 1
        if depth == 0:
            return block.start()
    raise ValueError("figure: a group of the SVG is not closed")
