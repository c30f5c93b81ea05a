"""Ranking: the subjects with the largest shares, whatever the order in which they are found."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail.backends.ranking import Ranking

SHARES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50)), max_size=200)


@given(SHARES, st.integers(1, 12))
def test_a_ranking_has_the_largest_share_of_each_subject(
    shares: list[tuple[int, int]], n: int
) -> None:
    ranking = Ranking(n)
    largest: dict[str, float] = {}
    threshold = 0.0
    for subject, share in shares:
        ranking.add(str(subject), share / 50)
        largest[str(subject)] = max(largest.get(str(subject), 0.0), share / 50)
        assert ranking.threshold >= threshold
        threshold = ranking.threshold
    expected = sorted((share for share in largest.values() if share), reverse=True)[:n]
    subjects = ranking.subjects()
    assert [largest[subject] for subject in subjects] == expected
    assert len(set(subjects)) == len(subjects)


def test_a_subject_that_is_dropped_may_come_back() -> None:
    ranking = Ranking(1)
    for subject, share in (("a", 0.1), ("b", 0.2), ("a", 0.3), ("a", 0.2)):
        ranking.add(subject, share)
    assert (ranking.subjects(), ranking.threshold) == (["a"], 0.3)
