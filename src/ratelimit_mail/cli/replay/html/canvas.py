"""An empty figure, and a drawn one as SVG for a page: the same bytes for the same data."""

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

__all__ = ["DARK", "DEFERRED", "FAINT", "MAIL", "REJECTED", "Picture", "picture"]

# Told apart also by the colour-blind, and three times as dark as the page at least.
MAIL: Final = "#7089a1"
DARK: Final = "#12304d"
DEFERRED: Final = "#0072b2"
REJECTED: Final = "#d55e00"
FAINT: Final = "#dde3e9"

WIDTH: Final = 4.8  # inches: letters of 10 points are then 10 pixels on a phone

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
    "svg.fonttype": "none",  # real letters: small, to be searched, and in the page's own font
    "text.parse_math": False,  # a dollar in an address is no formula
    "xtick.color": "#333333",
    "ytick.color": "#333333",
}

_FONT: Final = re.compile(r"font-family:[^;]*;?|font: ([0-9.]+px)[^;]*;?")


class Picture:
    """One figure with one pair of axes; `svg` is there once it is drawn."""

    def __init__(self, figure: Figure) -> None:
        self.axes: Axes = figure.add_subplot()
        self.svg = Markup("")


@contextmanager
def picture(name: str, title: str, height: float) -> Iterator[Picture]:
    """A picture to draw in; `name` is its own within a page, `title` is what is read aloud.

    height: in inches.
    """
    # A user's own style changes nothing. A letter that the font lacks is the browser's to find.
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mpl.rcdefaults()
        mpl.rcParams.update({**_STYLE, "svg.hashsalt": name})
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        drawn = Picture(figure)
        yield drawn
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    drawn.svg = Markup(_inline(file.getvalue(), name, title))  # noqa: S704 - escaped by the writer


def _inline(text: str, name: str, title: str) -> str:
    """The SVG without what only a file of its own needs, and with ids that no other has."""
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


def _size(found: re.Match[str]) -> str:
    return f"font-size: {found[1]};" if found[1] else ""
