"""Batches: which messages are charged as one, and which are not."""

from __future__ import annotations

from ratelimit_mail.backends.base import CHECK, TAKE, Message
from ratelimit_mail.backends.redis.batches import find_independent, refused_subjects, sum_charges
from ratelimit_mail.counting.charge import Count, Ledger, retention_for
from ratelimit_mail.counting.window import Window


def ledger(name: str, limit: int = 10) -> Ledger:
    windows = (Window(limit, 1000),)
    counts = tuple(Count(unit, windows, retention_for(list(windows))) for unit in (0, 1))
    return Ledger(name, counts, 1000)


SENDER, DOMAIN = ledger("sender"), ledger("domain")


def message_from(sender: str, domain: str = "", messages: int = 1) -> Message:
    costs = (messages, 2, 0, 0, 0, 0, 0, 0)
    charges = [(SENDER, sender, costs)]
    return ([*charges, (DOMAIN, domain, costs)] if domain else charges), TAKE


def test_each_subject_is_charged_once_for_all_messages() -> None:
    assert sum_charges(
        [message_from("ann", "x"), message_from("bob", "x"), message_from("ann", "y")]
    ) == (
        [
            (SENDER, "ann", (2, 4, 0, 0, 0, 0, 0, 0)),
            (DOMAIN, "x", (2, 4, 0, 0, 0, 0, 0, 0)),
            (SENDER, "bob", (1, 2, 0, 0, 0, 0, 0, 0)),
            (DOMAIN, "y", (1, 2, 0, 0, 0, 0, 0, 0)),
        ],
        set(),
    )


def test_a_sum_above_a_limit_is_not_charged_as_one() -> None:
    _, excluded = sum_charges([message_from("ann")] * 5 + [message_from("bob")] * 6)
    assert excluded == {("sender", "bob")}


def test_a_subject_whose_messages_have_different_limits_is_not_charged_as_one() -> None:
    other = ledger("sender", 20)
    _, excluded = sum_charges(
        [message_from("ann"), ([(other, "ann", (1, 1, 0, 0, 0, 0, 0, 0))], TAKE)]
    )
    assert excluded == {("sender", "ann")}


def test_a_message_that_is_only_checked_is_not_charged_as_one() -> None:
    _, excluded = sum_charges([message_from("ann"), (message_from("bob")[0], CHECK)])
    assert excluded == {("sender", "bob")}


def test_a_refusal_names_the_subjects_by_the_numbers_of_their_counts() -> None:
    charges, _ = sum_charges(
        [
            message_from("ann"),
            ([(SENDER, "bob", (0, 2, 0, 0, 0, 0, 0, 0))], TAKE),
            message_from("eve"),
        ]
    )
    reply = [0, 9, 0, 0, 2, 2, 0, 9, 0, 4, 0, 9, 0]
    assert refused_subjects(charges, reply) == {("sender", "bob"), ("sender", "eve")}


def test_messages_that_share_a_count_through_other_messages_stay_together() -> None:
    messages = [
        message_from("ann", "x"),
        message_from("bob", "x"),
        message_from("bob", "y"),
        message_from("eve", "z"),
        message_from("kim"),
    ]
    assert find_independent(messages, {("sender", "ann")}) == [False, False, False, True, True]
    assert find_independent(messages, {("domain", "y")}) == [False, False, False, True, True]
    assert find_independent(messages, set()) == [True] * 5
