"""SvgFigure: a matplotlib figure as SVG for a page, the same bytes for the same data."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["DARK", "DEFERRED", "FAINT", "MAIL", "REJECTED", "SvgFigure", "svg_figure"]

# Distinguishable with color blindness, with a contrast of at least 3 to the page.
MAIL: Final = "#7089a1"
DARK: Final = "#12304d"
DEFERRED: Final = "#0072b2"
REJECTED: Final = "#d55e00"
FAINT: Final = "#dde3e9"

WIDTH: Final = 4.8  # inches, so that text of 10 points is 10 pixels high on a phone

_STYLE: Final[Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a949e",
    "axes.grid.axis": "y",
    "axes.labelcolor": "#333333",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 10,
    "grid.color": FAINT,
    "legend.borderaxespad": 0.1,
    "legend.borderpad": 0,
    "legend.columnspacing": 1.2,
    "legend.frameon": False,
    "legend.handlelength": 1.1,
    "svg.fonttype": "none",  # text, not paths: small, searchable, and in the font of the page
    "text.parse_math": False,  # a dollar sign in an address is not a formula
    "xtick.color": "#333333",
    "ytick.color": "#333333",
}

_FONT: Final = re.compile(r"font-family:[^;]*;?|font: ([0-9.]+px)[^;]*;?")


class SvgFigure:
    """A figure with one pair of axes; `svg` is set when it is complete."""

    def __init__(self, figure: Figure) -> None:
        self.axes: Axes = figure.add_subplot()
        self.svg = Markup("")


@contextmanager
def svg_figure(name: str, title: str, height: float) -> Iterator[SvgFigure]:
    """Return an empty figure to draw in, and render it when the block ends.

    name: unique within a page. title: for screen readers. height: in inches.
    """
    # Ignore the user's style, and warnings of missing glyphs: the browser draws the text.
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mpl.rcdefaults()
        mpl.rcParams.update({**_STYLE, "svg.hashsalt": name})
        canvas = Figure(figsize=(WIDTH, height), layout="constrained")
        figure = SvgFigure(canvas)
        yield figure
        file = io.StringIO()
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    figure.svg = Markup(_inline(file.getvalue(), name, title))  # noqa: S704 - escaped by the writer


def _inline(text: str, name: str, title: str) -> str:
    """Return the SVG for embedding: without metadata and style sheet, with unique ids."""
    root = ElementTree.fromstring(text)  # noqa: S314 - written by matplotlib just now
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for each in root.iter():
        each.tag = each.tag.rpartition("}")[2]
        for key, value in list(each.attrib.items()):
            del each.attrib[key]
            each.set(*_attribute(key.rpartition("}")[2], value, name))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title")
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    heading = ElementTree.Element("title", id=f"{name}-title")
    heading.text = title
    root.insert(0, heading)
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> tuple[str, str]:
    if key == "id":
        return key, f"{name}-{value}"
    if key == "href":
        return key, value.replace("#", f"#{name}-", 1)
    if key == "style":
        return key, _FONT.sub(_size, value)
    return key, value.replace("url(#", f"url(#{name}-")


def _size(match: re.Match[str]) -> str:
    return f"font-size: {match[1]};" if match[1] else ""
