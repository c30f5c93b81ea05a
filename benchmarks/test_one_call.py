"""Single calls by pytest-benchmark, for a look at one change; the page has the ratios."""

from __future__ import annotations

from typing import Any

import pytest
from contenders import BY_HAND, ENTRIES, LIMITS, OURS
from work import letter, letters

from ratelimit_mail import Envelope


@pytest.mark.parametrize("name", [BY_HAND, OURS, LIMITS])
def test_accepted(benchmark: Any, name: str) -> None:
    benchmark.group = "30 messages of one sender, accepted"
    check = ENTRIES[name].make().check

    def setup() -> tuple[tuple[list[Envelope]], dict[str, Any]]:
        return (letters(30),), {}

    def work(envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            check(envelope)

    benchmark.pedantic(work, setup=setup, rounds=300, warmup_rounds=5)


def test_built_from_plain_strings(benchmark: Any) -> None:
    benchmark.group = "one envelope"
    benchmark(letter, "ann")
