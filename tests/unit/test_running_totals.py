"""Running totals that are changed all at once are those that a loop would give."""

from __future__ import annotations

from array import array
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail.counting.running_totals import SHORT, shifted

steps = st.lists(
    st.tuples(st.integers(0, 3 * SHORT), st.integers(0, 1 << 40) | st.integers(0, 300)),
    min_size=1,
    max_size=4,
)


@given(
    steps,
    st.sampled_from([1, -1]),
    st.integers(-1000, 1000) | st.integers(-(1 << 61), 1 << 61),
    st.integers(0, 3),
)
def test_amounts_are_added_to_totals_of_any_sign(
    steps: list[tuple[int, int]], sign: int, first: int, cost: int
) -> None:
    steps = [(number, sign * amount) for number, amount in steps]
    size = sum(number for number, _ in steps)
    totals = array("q", accumulate([cost] * size, initial=first))[:size]
    amounts = [amount for number, amount in steps for _ in range(number)]
    expected = [total + amount for total, amount in zip(totals, amounts, strict=True)]
    assert shifted(totals, steps).tolist() == expected
