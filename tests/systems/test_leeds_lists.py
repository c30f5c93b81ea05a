"""S5, Leeds's mailing lists: one recipient each, subscription, posting, and no rate limit."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from rlm_testkit.builders import envelope_to

from ratelimit_mail import Action, Client, Envelope, Limiter, presets
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.directory import Directory, ListFile, MailingList, parse_addresses
from ratelimit_mail.testing import ManualClock

ANN, BOB, ED = "ann@leeds.ac.uk", "bob@leeds.ac.uk", "ed@leeds.ac.uk"
STUDENTS = "students@lists.leeds.ac.uk"
THOUSANDS = [f"student{i}@leeds.ac.uk" for i in range(30_000)]


def leeds(*lists: MailingList) -> Limiter:
    policy = presets.leeds_office365(directory=Directory(lists=lists))
    return Limiter(policy, MemoryBackend(ManualClock()))


def test_a_list_is_one_recipient_with_any_number_of_members() -> None:
    limiter = leeds(MailingList(STUDENTS, members=THOUSANDS))
    assert limiter.try_acquire(envelope_to([STUDENTS], ANN))
    used = {usage.limit.name: usage.used for usage in limiter.usage(ANN)}
    assert used == {"messages a minute": 1, "recipients a day": 1}
    assert not limiter.check(envelope_to(THOUSANDS[:101], ANN))  # each member as a recipient


def test_an_email_sent_to_the_list_is_received_by_everyone_on_it() -> None:
    staff = MailingList("staff@lists.leeds.ac.uk", members=[ANN, BOB])
    all_of_us = MailingList("all@lists.leeds.ac.uk", members=[ED, "staff@lists.leeds.ac.uk"])
    directory = Directory(lists=[staff, all_of_us])
    assert directory.members_of("all@lists.leeds.ac.uk") == {ANN, BOB, ED}


def test_subscribing_and_leaving_are_recorded_with_their_time(tmp_path: Path) -> None:
    clock = ManualClock(1_700_000_000_000)
    lists = ListFile(tmp_path / "lists.json", create=True, clock=clock)
    lists.add_list(MailingList("walks@lists.leeds.ac.uk", subscription="open"))
    lists.subscribe("walks@lists.leeds.ac.uk", ANN, by=ANN)
    clock.advance(3600)
    lists.unsubscribe("walks@lists.leeds.ac.uk", ANN, by=ANN)
    assert [
        (each.at.timestamp(), each.action, each.address, each.by)
        for each in lists.history("walks@lists.leeds.ac.uk")
    ] == [(1_700_000_000, "subscribed", ANN, ANN), (1_700_003_600, "left", ANN, ANN)]


def test_pasted_text_becomes_the_membership_of_a_list_in_use(tmp_path: Path) -> None:
    lists = ListFile(tmp_path / "lists.json", create=True)
    lists.add_list(MailingList("walks@lists.leeds.ac.uk", members=[ED]))
    pasted = parse_addresses("Ann <ann@leeds.ac.uk>; bob@leeds.ac.uk\nann@LEEDS.ac.uk\n")
    lists.set_members("walks@lists.leeds.ac.uk", pasted.addresses)
    assert lists.directory.members_of("walks@lists.leeds.ac.uk") == {ANN, BOB}


def test_membership_is_updated_by_pasting_a_list_of_addresses() -> None:
    pasted = """
        ann@leeds.ac.uk
        bob@leeds.ac.uk
        ann@LEEDS.ac.uk
    """
    walks = MailingList("walks@lists.leeds.ac.uk", members=[ED])
    assert attrs.evolve(walks, members=pasted.split()).members == (ANN, BOB)


def test_membership_is_recorded_in_a_file(tmp_path: Path) -> None:
    aliases, lists = tmp_path / "aliases.csv", tmp_path / "lists.csv"
    aliases.write_text("alias,owner\n")
    lists.write_text(
        "list,subscription,posting,posters,members\n"
        f"{STUDENTS},open,named,{ED},{' '.join(THOUSANDS[:500])}\n"
    )
    directory = Directory.from_csv(aliases, lists)
    assert directory.members_of(STUDENTS) == set(THOUSANDS[:500])
    limiter = Limiter(presets.leeds_office365(directory=directory), MemoryBackend(ManualClock()))
    assert limiter.try_acquire(envelope_to([STUDENTS], ED))
    assert not limiter.try_acquire(envelope_to([STUDENTS], ANN))


def test_a_list_may_allow_self_subscription() -> None:
    walks = MailingList("walks@lists.leeds.ac.uk", subscription="open")
    walks = walks.subscribed(BOB, by=BOB)
    assert walks.members == (BOB,)
    assert walks.unsubscribed(BOB, by=BOB).members == ()


def test_a_list_without_self_subscription_is_filled_by_its_administrator() -> None:
    exams = MailingList("exams@lists.leeds.ac.uk", moderators=[ED])
    with pytest.raises(ValueError, match="closed"):
        exams.subscribed(BOB, by=BOB)
    assert exams.subscribed(BOB, by=ED).members == (BOB,)


def test_a_list_may_allow_anyone_to_post() -> None:
    limiter = leeds(MailingList(STUDENTS, posting="open"))
    assert limiter.try_acquire(envelope_to([STUDENTS], "stranger@example.com"))


def test_a_list_may_require_moderation_and_the_moderator_approves() -> None:
    limiter = leeds(MailingList(STUDENTS, posting="moderated", moderators=[ED]))
    held = limiter.try_acquire(envelope_to([STUDENTS], ANN))
    assert held.action is Action.HOLD
    assert str(held.reply) == "250 2.0.0 Held for the moderator of the mailing list."
    assert [usage.used for usage in limiter.usage(ANN)] == [0, 0]

    approved = Envelope(ANN, [STUDENTS], Client(tags={"approved"}))
    assert limiter.try_acquire(approved)
    assert limiter.try_acquire(envelope_to([STUDENTS], ED))


def test_a_list_may_prevent_sending_for_all_but_specific_individuals() -> None:
    limiter = leeds(MailingList(STUDENTS, posting="named", posters=[ED]))
    refused = limiter.try_acquire(envelope_to([STUDENTS], ANN))
    assert refused.action is Action.REJECT
    assert str(refused.reply) == "550 5.7.2 Only named senders may post to this mailing list."
    assert limiter.try_acquire(envelope_to([STUDENTS], ED))


def test_a_list_can_be_left_out_of_the_rate_limits() -> None:
    limiter = leeds(MailingList(STUDENTS, members=THOUSANDS, exempt=True))
    assert all(limiter.try_acquire(envelope_to([STUDENTS], ANN)) for _ in range(1_000))
    assert [usage.used for usage in limiter.usage(ANN)] == [0, 0]
    assert all(limiter.try_acquire(envelope_to([BOB], ANN)) for _ in range(30))
    assert not limiter.try_acquire(envelope_to([BOB], ANN))
    assert limiter.try_acquire(envelope_to([STUDENTS], ANN))
