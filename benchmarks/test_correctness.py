"""Whether the answers are right; this library's must be."""

from __future__ import annotations

from contenders import BY_HAND, DECIDING, OURS
from correctness import LIMIT
from figures import Figures
from side_by_side import InTurn


def test_answers(in_turn: InTurn, figures: Figures) -> None:
    names = [name for name in [BY_HAND, *DECIDING] if "strings" not in name]
    taking_part = [(work, name) for work in ("worst window", "left behind") for name in names]
    in_turn("answers", taking_part, turns=1)
    assert figures.median("answers", ("worst window", OURS)) == LIMIT
    assert figures.median("answers", ("left behind", OURS)) == 0
