"""Changes of many running totals at once.

A long array is one large whole number to Python, and each total eight bytes of it. One addition
then changes all totals, in a tenth of the time that a loop takes.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

__all__ = ["shifted"]

SHORT: Final = 256
"""Fewer totals than this are quicker in a loop."""


def shifted(totals: array[int], steps: Sequence[tuple[int, int]]) -> array[int]:
    """Return totals with amounts added, as a new array.

    totals: in ascending order.
    steps: how many of the totals are changed, one after another, and by how much; all up or all
        down.
    """
    if len(totals) < SHORT or _crosses_0(totals, steps):
        moved: list[int] = []
        for number, amount in steps:
            start = len(moved)
            moved += [total + amount for total in totals[start : start + number]]
        return array("q", moved)
    order = sys.byteorder
    amounts = b"".join([abs(amount).to_bytes(8, order) * number for number, amount in steps])
    change = int.from_bytes(amounts, order)
    if any(amount < 0 for _, amount in steps):
        change = -change
    result = array("q")
    all_totals = int.from_bytes(totals.tobytes(), order) + change
    result.frombytes(all_totals.to_bytes(8 * len(totals), order))
    return result


def _crosses_0(totals: array[int], steps: Sequence[tuple[int, int]]) -> bool:
    """Return whether a total may change its sign, which would change its neighbour too."""
    amounts = [amount for _, amount in steps]
    low, high = min(0, -max(amounts)), max(0, -min(amounts))
    return bisect_left(totals, low) != bisect_left(totals, high)
