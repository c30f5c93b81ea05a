"""Limits on unique recipients: what they may be combined with, their words, and who is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to, limiter_with_clock, used_counts
from rlm_testkit.growth import assert_grows_linearly

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
    presets,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.describe import limit_in_words
from ratelimit_mail.directory import Directory
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.overrides import Override
from ratelimit_mail.testing import ManualClock

UNIQUE = RecipientRateLimit("3/day", unique=True, name="unique recipients a day")


def to(*addresses: str, **options: Any) -> Envelope:
    return envelope_to(addresses, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scope": "recipient"}, "a limit per recipient has one recipient for each count"),
        ({"direction": "inbound"}, "a limit per recipient has one recipient for each count"),
        ({"scope": ("sender", "recipient")}, "a limit per sender and recipient has one"),
        ({"denied": "count"}, "cannot have denied='count'"),
        ({"on_oversize": "spread"}, "cannot have on_oversize='spread'"),
        ({"resolution": "1 second"}, "cannot have resolution='1 second'"),
    ],
)
def test_what_makes_no_sense_together_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"^unique: .*{words}"):
        RecipientRateLimit("3/day", unique=True, **options)


def test_unique_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="unique: True or False is needed, not 'yes'"):
        RecipientRateLimit("3/day", unique="yes")  # type: ignore[arg-type]


def test_messages_are_not_unique() -> None:
    with pytest.raises(TypeError, match="unique"):
        MessageRateLimit("3/day", unique=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (UNIQUE, "3 unique recipients per day per sender"),
        (
            RecipientRateLimit("3000/day", count="external", scope="user", unique=True),
            "3000 unique external recipients per day per user",
        ),
        (RecipientRateLimit("1/day", unique=True), "1 unique recipient per day per sender"),
        (
            RecipientRateLimit("9/day", direction="inbound", scope="sender", unique=True),
            "9 unique received recipients per day per sender",
        ),
    ],
)
def test_the_words_of_a_limit_say_unique(limit: RecipientRateLimit, words: str) -> None:
    assert str(limit) == words
    assert limit_in_words(limit) == (
        f"{words}; a recipient counts once, until a window after the last message to it"
    )
    assert "unique=True" in repr(limit)
    daily = RecipientRateLimit("9/calendar day", unique=True)
    assert limit_in_words(daily).endswith("; a recipient counts once in each calendar day")
    assert limit != RecipientRateLimit(limit.rate, scope=limit.scope, count=limit.count)


def test_a_message_to_more_recipients_than_the_limit_is_rejected() -> None:
    limiter, _ = limiter_with_clock(campus_policy(UNIQUE))
    decision = limiter.try_acquire(envelope_to(4))
    assert decision.retry_after is None
    assert str(decision.reply) == (
        "550 5.7.1 Recipient rate limit exceeded. At most 3 unique recipients per day can be sent,"
        " and this message alone has more."
    )


@pytest.mark.parametrize(
    ("options", "count"),
    [({}, 3), ({"case_sensitive": True}, 4), ({"subaddress": "+"}, 2)],
)
def test_recipients_compare_as_the_policy_says(options: dict[str, Any], count: int) -> None:
    limit = RecipientRateLimit("9/day", unique=True)
    limiter, clock = limiter_with_clock(campus_policy(limit, **options))
    for address in ("bob@x.org", "Bob@X.ORG", "bob+news@x.org", '"bob"@x.org', "eve@x.org"):
        assert limiter.try_acquire(to(address))
        clock.advance(1)
    assert used_counts(limiter, "ann@uwo.ca") == [count]


def test_aliases_are_their_owner() -> None:
    directory = Directory(aliases={"staff.bob@uwo.ca": "bob@uwo.ca"})
    limiter, clock = limiter_with_clock(
        Policy(name="p", limits=[UNIQUE], internal_domains=["uwo.ca"], directory=directory)
    )
    assert limiter.try_acquire(to("bob@uwo.ca"))
    clock.advance(1)
    assert limiter.try_acquire(to("staff.bob@uwo.ca"))
    assert used_counts(limiter, "ann@uwo.ca") == [1]


def test_an_override_changes_the_number_and_what_was_sent_counts() -> None:
    backend = MemoryBackend(ManualClock())
    assert Limiter(campus_policy(UNIQUE), backend).try_acquire(envelope_to(3))
    raised = Override(senders=["ann@uwo.ca"], limits={"unique recipients a day": 5})
    limiter = Limiter(campus_policy(UNIQUE, overrides=[raised]), backend)
    assert limiter.try_acquire(envelope_to(5))
    assert not limiter.try_acquire(to("new@x.org"))
    assert limiter.try_acquire(envelope_to(4))


def test_one_message_may_be_counted_both_ways() -> None:
    limiter, clock = limiter_with_clock(
        campus_policy(UNIQUE, RecipientRateLimit("9/day"), MessageRateLimit("9/day"))
    )
    for _ in range(3):
        assert limiter.try_acquire(envelope_to(3))
        clock.advance(1)
    assert used_counts(limiter, "ann@uwo.ca") == [3, 9, 3]
    assert not limiter.try_acquire(envelope_to(1))


FILE = """
name = "campus"

[[limits]]
kind = "recipient rate limit"
rate = "3000/day"
count = "external"
unique = true
"""


def test_a_policy_file_has_it(tmp_path: Path) -> None:
    policy = Policy.loads(FILE)
    assert policy.limits == (RecipientRateLimit("3000/day", count="external", unique=True),)
    path = tmp_path / "policy.toml"
    path.write_text(policy.dump())
    assert "unique = true" in path.read_text()
    assert Policy.load(path) == policy


def test_a_policy_file_has_it_for_recipient_rate_limits_alone() -> None:
    with pytest.raises(
        PolicyFileError, match=r"limits\[0\]\.unique: there is no such key; another kind"
    ):
        Policy.loads(FILE.replace('"recipient rate', '"message rate'))


def test_google_counts_unique_recipients() -> None:
    policy = presets.google_workspace(internal_domains=["uwo.ca"])
    limiter, clock = limiter_with_clock(policy)
    external = [f"user{number}@example.com" for number in range(2000)]
    for start in range(0, 2000, 500):
        assert limiter.try_acquire(to(*external[start : start + 500]))
        clock.advance(60)
    assert limiter.try_acquire(to(*external[:500]))
    refused = limiter.try_acquire(to("new@example.com"))
    assert refused.limit is not None
    assert refused.limit.name == "unique external recipients a day"
    assert limiter.try_acquire(to(*(f"user{number}@uwo.ca" for number in range(1000))))
    refused = limiter.try_acquire(to("new@uwo.ca"))
    assert refused.limit is not None
    assert refused.limit.name == "unique recipients a day"


def test_the_next_letter_to_each_of_many_recipients_takes_as_long_as_the_first() -> None:
    def send_to_all(limiter_and_size: tuple[Limiter, ManualClock, int]) -> None:
        limiter, clock, size = limiter_and_size
        for number in range(size):
            assert limiter.try_acquire(to(f"user{number}@example.com"))
            clock.advance(0.01)

    def sent_once(size: int) -> tuple[Limiter, ManualClock, int]:
        policy = Policy(name="test", limits=[RecipientRateLimit("99999/day", unique=True)])
        limiter = (*limiter_with_clock(policy), size)
        send_to_all(limiter)
        return limiter

    assert_grows_linearly(send_to_all, sent_once, 1000)
