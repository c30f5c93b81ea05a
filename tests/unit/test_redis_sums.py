"""Batches summed up: what is charged as one, and what must not be."""

from __future__ import annotations

from ratelimit_mail.backends.base import CHECK, TAKE, Message
from ratelimit_mail.backends.redis.batches import full_of, share_nothing, summed
from ratelimit_mail.counting.charge import Count, Ledger, retention_for
from ratelimit_mail.counting.window import Window


def ledger(name: str, limit: int = 10) -> Ledger:
    windows = (Window(limit, 1000),)
    counts = tuple(Count(unit, windows, retention_for(list(windows))) for unit in (0, 1))
    return Ledger(name, counts, 1000)


SENDER, DOMAIN = ledger("sender"), ledger("domain")


def to(sender: str, domain: str = "", messages: int = 1) -> Message:
    costs = (messages, 2, 0, 0)
    charges = [(SENDER, sender, costs)]
    return ([*charges, (DOMAIN, domain, costs)] if domain else charges), TAKE


def test_each_subject_is_charged_once_for_all_messages() -> None:
    assert summed([to("ann", "x"), to("bob", "x"), to("ann", "y")]) == (
        [
            (SENDER, "ann", (2, 4, 0, 0)),
            (DOMAIN, "x", (2, 4, 0, 0)),
            (SENDER, "bob", (1, 2, 0, 0)),
            (DOMAIN, "y", (1, 2, 0, 0)),
        ],
        set(),
    )


def test_more_than_a_limit_cannot_be_asked_for_as_one() -> None:
    _, full = summed([to("ann")] * 5 + [to("bob")] * 6)
    assert full == {("sender", "bob")}


def test_a_subject_whose_messages_meet_other_limits_cannot_be_asked_for_as_one() -> None:
    other = ledger("sender", 20)
    _, full = summed([to("ann"), ([(other, "ann", (1, 1, 0, 0))], TAKE)])
    assert full == {("sender", "ann")}


def test_only_what_is_to_be_taken_is_asked_for_as_one() -> None:
    _, full = summed([to("ann"), (to("bob")[0], CHECK)])
    assert full == {("sender", "bob")}


def test_a_refusal_names_the_subjects_by_the_numbers_of_their_counts() -> None:
    charges, _ = summed([to("ann"), ([(SENDER, "bob", (0, 2, 0, 0))], TAKE), to("eve")])
    reply = [0, 9, 0, 0, 2, 2, 0, 9, 0, 4, 0, 9, 0]
    assert full_of(charges, reply) == {("sender", "bob"), ("sender", "eve")}


def test_messages_that_share_a_count_by_way_of_others_stay_together() -> None:
    messages = [to("ann", "x"), to("bob", "x"), to("bob", "y"), to("eve", "z"), to("kim")]
    assert share_nothing(messages, {("sender", "ann")}) == [False, False, False, True, True]
    assert share_nothing(messages, {("domain", "y")}) == [False, False, False, True, True]
    assert share_nothing(messages, set()) == [True] * 5
