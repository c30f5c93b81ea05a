"""Lengths of time, as the commands of an operator and the admin pages show them."""

from __future__ import annotations

import pytest

from ratelimit_mail._util.text import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "now"),
        (0, "now"),
        (0.2, "1 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3_599, "59 min 59 s"),
        (3_605, "1 h"),
        (90_061, "1 d 1 h"),
        (8_640_000, "100 d"),
    ],
)
def test_a_length_of_time_has_its_largest_unit_and_the_next(seconds: float, text: str) -> None:
    assert duration(seconds) == text
