"""The colors of a page, light and dark; text has a contrast of at least 4.5 to what it is on."""

from __future__ import annotations

from typing import Final

__all__ = ["DARK", "LEVELS", "LIGHT", "MARKS", "TEXT_ON"]

LEVELS: Final = 5
"""The steps of a heat map and of a calendar above zero."""

LIGHT: Final = {
    "paper": "#ffffff",
    "panel": "#f2f5f8",
    "text": "#1b2530",
    "muted": "#4a5764",
    "link": "#0b5394",
    "rule": "#d3dbe3",
    "axis": "#7a8691",
    "mail": "#5f7d9c",
    "deferred": "#0072b2",
    "rejected": "#c24e00",
    "held": "#8a6d00",
    "limit": "#12304d",
    "heat-0": "#edf1f5",
    "heat-1": "#cfe0f1",
    "heat-2": "#9fc3e4",
    "heat-3": "#6199cf",
    "heat-4": "#2b6cab",
    "heat-5": "#0d3c6e",
    "day-0": "#ffffff",
    "day-1": "#e9f1f9",
    "day-2": "#d6e5f4",
    "day-3": "#c0d8ee",
    "day-4": "#a8cae8",
    "day-5": "#8fbbe1",
}

DARK: Final = {
    "paper": "#11171d",
    "panel": "#1b232c",
    "text": "#e8edf2",
    "muted": "#adb8c3",
    "link": "#8cc2f5",
    "rule": "#35414d",
    "axis": "#7d8a96",
    "mail": "#8199b1",
    "deferred": "#56b4e9",
    "rejected": "#f08a45",
    "held": "#d9b44a",
    "limit": "#ffffff",
    "heat-0": "#1e2730",
    "heat-1": "#1d3a55",
    "heat-2": "#225580",
    "heat-3": "#3279b3",
    "heat-4": "#62a9e0",
    "heat-5": "#b3dbfb",
    "day-0": "#11171d",
    "day-1": "#182838",
    "day-2": "#1b344b",
    "day-3": "#1f4160",
    "day-4": "#234e75",
    "day-5": "#285b89",
}

TEXT_ON: Final = {
    "text": ("paper", "panel", *(f"day-{level}" for level in range(LEVELS + 1))),
    "muted": ("paper", "panel"),
    "link": ("paper", "panel"),
}
"""What each color of text is used on."""

MARKS: Final = ("axis", "mail", "deferred", "rejected", "held", "limit")
"""The colors of bars and lines: their contrast to the paper is at least 3."""
