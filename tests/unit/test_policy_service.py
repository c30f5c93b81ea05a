"""PolicyService: which recipients a message is charged for, when, and what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimit_mail import (
    AsyncLimiter,
    ByteRateLimit,
    Directory,
    Envelope,
    MailingList,
    MessageRateLimit,
    MessageSizeLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.client_tags import ClientTags
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.server.clients import client_of
from ratelimit_mail.server.collector import Collector
from ratelimit_mail.server.held_mail import HeldMail
from ratelimit_mail.server.policy_service import PolicyService
from ratelimit_mail.server.postfix import PolicyConnection, Request
from ratelimit_mail.server.shadow_policy import in_shadow
from ratelimit_mail.server.stages import Stages, limitations, main_cf
from ratelimit_mail.testing import ManualClock

STARTED = 1_700_000_000.0
LIMIT = 10
TEXT = "Recipient rate limit exceeded. Try again later."


def instance(number: int, at: float = STARTED + 60) -> str:
    """Return the name of a message as Postfix writes it: process, seconds, microseconds, number."""
    return f"1f.{int(at):x}.{number:x}.0"


class Relay:
    """A mail server that asks a service, on a clock of its own."""

    def __init__(self, policy: Policy | None = None, stages: str | None = None, **options: Any):
        self.clock = ManualClock()
        self.seconds = 0.0
        self.backend = MemoryBackend(self.clock)
        self.policy = policy or Policy(
            name="relay",
            internal_domains=["uwo.ca"],
            subaddress="+",
            limits=[
                RecipientRateLimit(
                    f"{LIMIT}/hour",
                    count="external",
                    scope="submitter",
                    on_excess="reject",
                    reply=TEXT,
                )
            ],
        )
        self.service = PolicyService(
            AsyncLimiter(self.policy, options.pop("backend", self.backend)),
            stages=None if stages is None else Stages.parse(stages),
            clock=lambda: self.seconds,
            wall_clock=lambda: STARTED + self.seconds,
            **options,
        )
        self.number = 0

    def advance(self, seconds: float) -> None:
        """Move all of its clocks on."""
        self.clock.advance(seconds)
        self.seconds += seconds

    def set_wall_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let `time.time` go with its clocks."""
        wall = self.clock() / 1000 - self.seconds
        monkeypatch.setattr("time.time", lambda: wall + self.seconds)

    async def ask(self, state: str, name: str, connection: object = 1, **values: object) -> str:
        lines = {
            "request": "smtpd_access_policy",
            "protocol_state": state,
            "instance": name,
            "sender": "ann@uwo.ca",
            "client_address": "10.1.2.3",
            "queue_id": f"AB{self.number:04X}",
            **values,
        }
        core = PolicyConnection()
        core.receive_data("".join(f"{k}={v}\n" for k, v in lines.items()).encode() + b"\n")
        request = core.next_event()
        assert isinstance(request, Request), request
        return await self.service.answer(request, connection)

    async def message(
        self,
        recipients: Iterable[str],
        *,
        refused: Iterable[str] = (),
        stage: str = "END-OF-MESSAGE",
        connections: tuple[object, object] = (1, 1),
        **values: object,
    ) -> str:
        """Send a message, of which rules behind the service refuse some recipients."""
        self.number += 1
        name = instance(self.number)
        named = list(recipients)
        for each in [*named, *refused]:
            if each != "postmaster":
                action = await self.ask("RCPT", name, connections[0], recipient=each, **values)
                assert action == "DUNNO"
        alone = named[0] if len(named) == 1 else ""
        return await self.ask(
            stage, name, connections[1], recipient=alone, recipient_count=len(named), **values
        )

    async def used(self, subject: str = "sender:ann@uwo.ca") -> int:
        [usage] = await self.service.limiter.usage(subject, scope="submitter")
        return usage.used


def outsiders(number: int, start: int = 0) -> list[str]:
    return [f"r{i}@example.com" for i in range(start, start + number)]


async def test_recipients_are_collected_and_charged_together() -> None:
    relay = Relay()
    assert await relay.message([*outsiders(6), "kim@uwo.ca"]) == "DUNNO"
    assert await relay.used() == 6
    assert await relay.message(outsiders(5)) == f"550 5.7.1 {TEXT}"
    assert await relay.used() == 6
    assert await relay.message(outsiders(4)) == "DUNNO"
    assert len(relay.service.collector) == 0


async def test_recipients_and_their_message_may_come_over_two_connections() -> None:
    relay = Relay()
    assert await relay.message(outsiders(3), connections=(1, 2)) == "DUNNO"
    assert await relay.used() == 3


@pytest.mark.parametrize(
    ("recipients", "cost"),
    [
        (["bob@example.com", "bob@example.com"], 1),
        (["bob@example.com", "BOB@Example.com", "bob+x@example.com"], 1),
        (["a b@example.com", "a,b@example.com"], 2),
        (["postmaster"], 0),
        (["postmaster", "bob@example.com"], 1),
        (["kim@uwo.ca", "eve@uwo.ca"], 0),
    ],
)
async def test_what_postfix_accepts_is_counted(recipients: list[str], cost: int) -> None:
    relay = Relay()
    assert await relay.message(recipients) == "DUNNO"
    assert await relay.used() == cost


async def test_the_null_sender_counts_for_the_login_or_the_client() -> None:
    relay = Relay()
    await relay.message(outsiders(2), sender="", sasl_username="kim")
    await relay.message(outsiders(3), sender="")
    assert await relay.used("user:kim") == 2
    assert await relay.used("client:10.1.2.3") == 3


async def test_recipients_that_later_rules_refuse_are_not_charged() -> None:
    relay = Relay()
    await relay.message(outsiders(2), refused=outsiders(5, 10))
    assert await relay.used() == 2
    await relay.message(["only@example.com"], refused=outsiders(5, 20), sender="kim@uwo.ca")
    assert await relay.used("sender:kim@uwo.ca") == 1


@settings(max_examples=60)
@given(
    accepted=st.lists(st.sampled_from([*outsiders(4), "kim@uwo.ca", "eve@uwo.ca"]), min_size=1),
    refused=st.lists(st.sampled_from([*outsiders(4, 4), "x@uwo.ca", "Kim@uwo.ca"])),
)
def test_the_charge_is_never_below_what_was_accepted(
    accepted: list[str], refused: list[str]
) -> None:
    async def run() -> None:
        relay = Relay()
        assert await relay.message(accepted, refused=refused) == "DUNNO"
        external = {each.lower() for each in accepted if each.endswith(".com")}
        assert len(external) <= await relay.used() <= len(accepted)
        if not refused:
            assert await relay.used() == len(external)

    asyncio.run(run())


async def test_with_limits_per_recipient_all_that_were_named_are_charged() -> None:
    limit = RecipientRateLimit("3/hour", scope=("sender", "recipient"))
    relay = Relay(Policy(name="per recipient", limits=[limit]))
    await relay.message(outsiders(1), refused=[])
    await relay.message(outsiders(2), refused=outsiders(1, 5))
    subjects = [("ann@uwo.ca", each) for each in (*outsiders(2), *outsiders(1, 5))]
    usages = [
        (await relay.service.limiter.usage(each, scope=("sender", "recipient")))[0].used
        for each in subjects
    ]
    assert usages == [2, 1, 1]


async def test_with_limits_on_unique_recipients_all_that_were_named_are_charged() -> None:
    limit = RecipientRateLimit("9/hour", unique=True)
    relay = Relay(Policy(name="unique", limits=[limit]))
    await relay.message(outsiders(2))
    # A later rule refuses one of the first two, and nobody says which: they are counted already.
    for each in [*outsiders(2), "new@example.com"]:
        await relay.ask("RCPT", instance(9), recipient=each)
    assert await relay.ask("END-OF-MESSAGE", instance(9), recipient_count=2) == "DUNNO"
    [usage] = await relay.service.limiter.usage("ann@uwo.ca")
    assert usage.used == 3


async def test_a_mailing_list_is_one_recipient() -> None:
    directory = Directory(lists=[MailingList("all@uwo.ca", members=outsiders(50))])
    relay = Relay(Policy(name="lists", directory=directory, limits=[RecipientRateLimit("2/hour")]))
    assert await relay.message(["all@uwo.ca", "bob@example.com"]) == "DUNNO"


async def test_a_message_that_began_before_the_server_is_deferred() -> None:
    relay = Relay()
    name = instance(1, STARTED - 5)
    await relay.ask("RCPT", name, recipient="b@example.com")
    action = await relay.ask("END-OF-MESSAGE", name, recipient_count=2)
    assert action.startswith("451 4.3.0 ")
    assert await relay.used() == 0
    # One recipient alone is named again.
    name = instance(2, STARTED - 5)
    action = await relay.ask("END-OF-MESSAGE", name, recipient="b@example.com", recipient_count=1)
    assert action == "DUNNO"


async def test_recipients_that_a_rule_before_the_service_permits_are_charged_as_external() -> None:
    relay = Relay()
    action = await relay.ask("END-OF-MESSAGE", instance(1), recipient_count=LIMIT + 1)
    assert action.startswith("550 5.7.1 ")
    assert await relay.ask("END-OF-MESSAGE", instance(2), recipient_count=LIMIT) == "DUNNO"
    assert await relay.used() == LIMIT


async def test_a_forgotten_message_is_deferred() -> None:
    relay = Relay(collector=Collector(most=2))
    for number in range(3):
        await relay.ask("RCPT", instance(number), number, recipient="a@example.com")
        await relay.ask("RCPT", instance(number), number, recipient="b@example.com")
    action = await relay.ask("END-OF-MESSAGE", instance(0), 0, recipient_count=2)
    assert action.startswith("451 ")
    action = await relay.ask("END-OF-MESSAGE", instance(2), 2, recipient_count=2)
    assert action == "DUNNO"


async def test_a_repeated_request_is_charged_once() -> None:
    relay = Relay()
    await relay.message(outsiders(3))
    again = await relay.ask("END-OF-MESSAGE", instance(1), 2, recipient_count=3)
    assert again == "DUNNO"
    assert await relay.used() == 3
    both = await asyncio.gather(
        *(
            relay.ask("END-OF-MESSAGE", instance(9), c, recipient="x@x.com", recipient_count=1)
            for c in (3, 4)
        )
    )
    assert both == ["DUNNO", "DUNNO"]
    assert await relay.used() == 4


async def test_a_refused_data_command_may_come_again_with_more_recipients() -> None:
    relay = Relay(stages="rcpt,data")
    assert await relay.message(outsiders(LIMIT - 1), stage="DATA") == "DUNNO"
    relay.number += 1
    name = instance(relay.number)
    for each in outsiders(2, 20):
        await relay.ask("RCPT", name, recipient=each)
    assert (await relay.ask("DATA", name, recipient_count=2)).startswith("550 ")
    await relay.ask("RCPT", name, recipient="more@example.com")
    assert (await relay.ask("DATA", name, recipient_count=3)).startswith("550 ")
    await relay.service.limiter.reset("sender:ann@uwo.ca", scope="submitter")
    assert await relay.ask("DATA", name, recipient_count=3) == "DUNNO"
    assert await relay.used() == 3


async def test_a_message_that_was_dropped_after_data_is_given_back() -> None:
    relay = Relay(stages="rcpt,data,end-of-message")
    assert await relay.message(outsiders(1), stage="DATA") == "DUNNO"
    action = await relay.ask("END-OF-MESSAGE", instance(1), recipient_count=1, recipient="x@x.com")
    assert action == "DUNNO"
    assert await relay.message(outsiders(5), stage="DATA") == "DUNNO"
    assert await relay.used() == 6
    # The same process of Postfix goes on with another message.
    assert await relay.message(outsiders(1), stage="DATA", sender="kim@uwo.ca") == "DUNNO"
    await relay.service.close()
    assert await relay.used() == 1
    # Its connection is gone for good: it is given back after a while.
    relay.seconds += 3601
    relay.service.sweep()
    await relay.service.close()
    assert await relay.used("sender:kim@uwo.ca") == 0


async def test_nothing_is_given_back_where_end_of_message_is_never_asked() -> None:
    relay = Relay(stages="rcpt,data,end-of-message")
    await relay.message(outsiders(5), stage="DATA")
    await relay.message(outsiders(2), stage="DATA")
    await relay.service.close()
    assert await relay.used() == 7


async def test_at_rcpt_alone_each_recipient_is_charged_and_refused_by_itself() -> None:
    relay = Relay(stages="rcpt")
    name = instance(1)
    actions = [await relay.ask("RCPT", name, recipient=each) for each in outsiders(LIMIT + 2)]
    assert actions[:LIMIT] == ["DUNNO"] * LIMIT
    assert actions[LIMIT:] == [f"550 5.7.1 {TEXT}"] * 2
    assert await relay.ask("END-OF-MESSAGE", name, recipient_count=LIMIT) == "DUNNO"


async def test_at_rcpt_a_deferral_waits_for_later_rules() -> None:
    relay = Relay(Policy(name="slow", limits=[MessageRateLimit("1/hour")]), stages="rcpt")
    assert await relay.ask("RCPT", instance(1), recipient="a@x.com") == "DUNNO"
    action = await relay.ask("RCPT", instance(2), recipient="a@x.com")
    assert action == "DEFER_IF_PERMIT 4.7.1 Message rate limit exceeded. Try again later."


async def test_at_rcpt_alone_a_recipient_limit_refuses_what_is_above_it() -> None:
    relay = Relay(Policy(name="small", limits=[RecipientLimit(2)]), stages="rcpt")
    actions = [await relay.ask("RCPT", instance(1), recipient=each) for each in outsiders(3)]
    assert actions[:2] == ["DUNNO", "DUNNO"]
    assert actions[2].startswith("550 5.5.3 Too many recipients")


async def test_without_rcpt_each_unknown_recipient_counts_as_external() -> None:
    relay = Relay(stages="end-of-message")
    assert await relay.ask("END-OF-MESSAGE", instance(1), recipient_count=4) == "DUNNO"
    assert await relay.used() == 4
    name = instance(2)
    action = await relay.ask("END-OF-MESSAGE", name, recipient="kim@uwo.ca", recipient_count=1)
    assert action == "DUNNO"
    assert await relay.used() == 4


@pytest.mark.parametrize(("excess", "code"), [(None, "550"), ("defer", "450"), ("reject", "550")])
async def test_excess_says_what_happens_to_a_message_over_a_rate(excess: Any, code: str) -> None:
    relay = Relay(excess=excess)
    await relay.message(outsiders(LIMIT))
    action = await relay.message(outsiders(1))
    assert action.startswith(code)
    assert action.endswith(TEXT)
    # What never fits is rejected whatever is said.
    assert (await relay.message(outsiders(LIMIT + 1))).startswith("550 ")


async def test_in_shadow_nothing_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    policy = in_shadow(Relay().policy)
    relay = Relay(policy, is_shadow=True)
    with caplog.at_level("INFO", "ratelimit_mail"):
        for _ in range(3):
            assert await relay.message(outsiders(LIMIT)) == "DUNNO"
    assert caplog.text.count(f"would answer 550 5.7.1 {TEXT}") == 2
    assert "from 'ann@uwo.ca' without a login at '" in caplog.text


class Away(MemoryBackend):
    """A backend that does not answer."""

    def apply(self, *_: Any, **__: Any) -> Any:
        raise BackendUnavailable("away")

    def take(self, *_: Any, **__: Any) -> Any:
        raise BackendUnavailable("away")


async def test_a_store_that_is_away_is_a_temporary_failure() -> None:
    relay = Relay(backend=Away())
    action = await relay.message(outsiders(2))
    assert action == "451 4.3.0 Sending limits cannot be checked now. Try again later."


async def test_an_error_of_the_program_does_not_open_the_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relay = Relay()
    monkeypatch.setattr(relay.service.limiter, "try_acquire", None)
    assert (await relay.message(outsiders(2))).startswith("451 ")


async def test_a_message_over_the_rate_is_held_and_leaves_at_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(name="queue", limits=[MessageRateLimit("2/minute")])
    held = HeldMail(tmp_path / "held.db")
    relay = Relay(policy, excess="hold", held=held)
    relay.set_wall_clock(monkeypatch)
    actions = [await relay.message(outsiders(1)) for _ in range(5)]
    assert actions[:2] == ["DUNNO", "DUNNO"]
    assert all(each.startswith("HOLD ") for each in actions[2:])
    assert [each.queue_id for each in held.all(10)] == ["AB0003", "AB0004", "AB0005"]
    assert await relay.service.release() == []
    relay.advance(60)
    assert await relay.service.release() == ["AB0003", "AB0004"]
    # It was not confirmed that Postfix has released them.
    assert await relay.service.release() == ["AB0003", "AB0004"]
    held.remove(["AB0003", "AB0004"])
    assert await relay.service.release() == []
    relay.advance(59)
    assert await relay.service.release() == []
    relay.advance(2)
    assert await relay.service.release() == ["AB0005"]
    held.close()


async def test_a_message_that_is_held_at_data_is_complete_at_its_end(tmp_path: Path) -> None:
    policy = Policy(name="queue", limits=[MessageRateLimit("1/minute")])
    held = HeldMail(tmp_path / "held.db")
    relay = Relay(policy, "rcpt,data,end-of-message", excess="hold", held=held)
    for expected in ("DUNNO", "HOLD "):
        assert (await relay.message(outsiders(2), stage="DATA"))[:5] == expected
        name = instance(relay.number)
        assert await relay.ask("END-OF-MESSAGE", name, recipient_count=2) == "DUNNO"
        assert await relay.ask("END-OF-MESSAGE", name, 2, recipient_count=2) == "DUNNO"
    assert await relay.message(outsiders(1), stage="DATA", sender="kim@uwo.ca") == "DUNNO"
    await relay.ask("RCPT", instance(99), recipient="a@x.com")
    await relay.service.close()
    [usage] = await relay.service.limiter.usage("kim@uwo.ca")
    assert usage.used == 0
    held.close()


async def test_a_message_that_is_held_at_data_is_not_released_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(name="queue", limits=[MessageRateLimit("1/minute")])
    held = HeldMail(tmp_path / "held.db")
    relay = Relay(policy, "rcpt,data,end-of-message", excess="hold", held=held)
    relay.set_wall_clock(monkeypatch)
    assert await relay.message(outsiders(1), stage="DATA") == "DUNNO"
    assert await relay.ask("END-OF-MESSAGE", instance(1), recipient_count=1) == "DUNNO"
    assert (await relay.message(outsiders(1), stage="DATA"))[:5] == "HOLD "
    relay.advance(90)  # its text is long, and it is not in the hold queue yet
    assert await relay.service.release() == []
    assert await relay.ask("END-OF-MESSAGE", instance(2), recipient_count=1) == "DUNNO"
    assert await relay.service.release() == []  # Postfix writes it to the queue now
    relay.advance(10)
    assert await relay.service.release() == ["AB0002"]
    held.close()


async def test_a_message_that_is_complete_after_its_time_is_looked_for_and_counted_when_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Policy(name="queue", limits=[MessageRateLimit("1/minute")])
    held = HeldMail(tmp_path / "held.db")
    relay = Relay(policy, "rcpt,data", excess="hold", held=held)
    relay.set_wall_clock(monkeypatch)

    async def used() -> int:
        [usage] = await relay.service.limiter.usage("ann@uwo.ca")
        return usage.used

    for expected in ("DUNNO", "HOLD "):
        assert (await relay.message(outsiders(1), stage="DATA"))[:5] == expected
    relay.advance(60)
    for _ in range(3):  # its text is long, and it is not in the hold queue yet
        assert await relay.service.release() == ["AB0002"]
        await relay.service.note_released([], missing=["AB0002"])
        assert await relay.service.release() == []
        relay.advance(10)
    assert await relay.service.release() == []  # it has been missing for twenty seconds
    relay.advance(10)
    assert await relay.service.release() == ["AB0002"]
    with caplog.at_level("INFO", "ratelimit_mail"):
        await relay.service.note_released(["AB0002"])
    assert caplog.messages == ["released AB0002"]
    assert len(held) == 0
    relay.advance(59)
    assert await used() == 1
    relay.advance(1)
    assert await used() == 0
    held.close()


async def test_a_message_that_is_missing_for_a_day_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Policy(name="queue", limits=[MessageRateLimit("1/minute")])
    held = HeldMail(tmp_path / "held.db")
    relay = Relay(policy, excess="hold", held=held)
    relay.set_wall_clock(monkeypatch)
    for _ in range(2):
        await relay.message(outsiders(1))
    searches = 0
    while len(held):
        relay.advance(60)
        if queue_ids := await relay.service.release():  # an administrator has deleted it
            searches += 1
            await relay.service.note_released([], missing=[*queue_ids, "x\ny", "A" * 10_000])
    assert 86_400 <= relay.seconds <= 2 * 86_400 + 120
    assert searches < 20
    [record] = caplog.records
    assert record.getMessage() == "AB0002 was not in the hold queue for a day: it is forgotten"
    held.close()


async def test_a_queue_id_that_is_used_again_releases_no_message_of_a_moderator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newsletter = MailingList("news@uwo.ca", members=["bob@x.com"], posting="moderated")
    policy = Policy(
        name="queue",
        internal_domains=["uwo.ca"],
        directory=Directory(lists=[newsletter]),
        limits=[MessageRateLimit("1/minute")],
    )
    held = HeldMail(tmp_path / "held.db")
    relay = Relay(policy, excess="hold", held=held)
    relay.set_wall_clock(monkeypatch)
    await relay.message(outsiders(1))
    assert (await relay.message(outsiders(1), queue_id="ABCDEF"))[:5] == "HOLD "
    # An administrator has deleted it, and Postfix uses its queue id for another message.
    action = await relay.message(["news@uwo.ca"], queue_id="ABCDEF", sender="eve@uwo.ca")
    assert action[:5] == "HOLD "
    relay.advance(300)
    assert await relay.service.release() == []
    held.close()


def test_only_messages_that_were_let_go_are_forgotten(tmp_path: Path) -> None:
    held = HeldMail(tmp_path / "held.db")
    first, second = (Envelope("ann@uwo.ca", ["bob@example.com"], id=each) for each in "xy")
    held.add("ABCDEF", first, 0)
    held.redeem("ABCDEF")
    held.add("ABCDEF", second, 0)  # Postfix has sent the first one, and uses its queue id again
    held.remove(["ABCDEF"])
    assert [each.envelope.id for each in held.all(10)] == ["y"]
    held.close()


async def test_messages_that_end_after_data_take_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ratelimit_mail.server.data_charges.MOST_OPEN", 5)
    relay = Relay(Policy(name="p", limits=[MessageRateLimit("100/hour")]), "data,end-of-message")
    await relay.ask("END-OF-MESSAGE", instance(99), recipient_count=1)
    for number in range(20):
        name = instance(number)
        await relay.ask("DATA", name, number, recipient="a@x.com", recipient_count=1)
        relay.service.disconnect(number)
    assert len(relay.service._data_charges) == 5
    await relay.service.close()
    [usage] = await relay.service.limiter.usage("ann@uwo.ca")
    assert usage.used == 5


async def test_held_messages_whose_bookings_are_lost_are_booked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(name="queue", limits=[MessageRateLimit("1/minute")])
    held = HeldMail(tmp_path / "held.db")
    relay = Relay(policy, excess="hold", held=held)
    for _ in range(3):
        await relay.message(outsiders(1))
    held.close()
    held = HeldMail(tmp_path / "held.db")
    restarted = Relay(policy, excess="hold", held=held)
    restarted.clock.advance(300)
    wall = restarted.clock() / 1000
    monkeypatch.setattr("time.time", lambda: wall)
    assert await restarted.service.release() == ["AB0002"]
    held.close()


async def test_a_message_that_would_wait_too_long_is_refused(tmp_path: Path) -> None:
    policy = Policy(name="queue", limits=[MessageRateLimit("1/hour")])
    held = HeldMail(tmp_path / "held.db")
    relay = Relay(policy, excess="hold", held=held, hold_for=60.0)
    await relay.message(outsiders(1))
    assert (await relay.message(outsiders(1))).startswith("450 4.7.1 ")
    assert len(held) == 0
    held.close()


async def test_a_message_is_charged_its_size_at_the_end(tmp_path: Path) -> None:
    policy = Policy(
        name="bytes", limits=[MessageSizeLimit("9 kB"), ByteRateLimit("10 kB/hour", name="bytes")]
    )
    held = HeldMail(tmp_path / "held.db")
    relay = Relay(policy, excess="hold", held=held)
    assert await relay.message(outsiders(2), size=8_000) == "DUNNO"
    [usage] = await relay.service.limiter.usage("ann@uwo.ca")
    assert usage.used == 8_000
    assert (await relay.message(outsiders(1), size=9_001)).startswith("552 5.3.4 ")
    assert (await relay.message(outsiders(1), size=3_000)).startswith("HOLD ")
    [message] = held.all(10)
    assert message.envelope.size == 3_000
    held.close()


async def test_a_message_whose_size_postfix_does_not_say_is_deferred() -> None:
    relay = Relay(Policy(name="bytes", limits=[ByteRateLimit("10 kB/hour")]))
    assert (await relay.message(outsiders(1))).startswith("451 4.3.")
    assert await relay.message(outsiders(1), size=0) == "DUNNO"  # an empty message


@pytest.mark.parametrize("stages", ["rcpt", "data", "rcpt,data,end-of-message"])
def test_limits_on_bytes_need_the_end_of_the_message(stages: str) -> None:
    policy = Policy(name="bytes", limits=[ByteRateLimit("10 kB/hour")])
    with pytest.raises(ValueError, match="'bytes' has limits on bytes"):
        Relay(policy, stages)


def test_the_list_of_held_messages_takes_only_queue_ids(tmp_path: Path) -> None:
    held = HeldMail(tmp_path / "held.db")
    with pytest.raises(ValueError, match="queue_id"):
        held.add("ALL", Envelope("ann@uwo.ca", ["bob@example.com"], id="x"), 0)
    held.close()


# The client.


def test_a_client_has_the_tags_of_its_networks_and_its_login() -> None:
    lines = [
        "129.100.0.0/16 campus",
        "129.100.200.0/24 wireless, residence # and a comment",
        "129.100.9.25 webmail",
        "2001:db8::/32 campus",
        "ann@uwo.ca staff",
        "@students.uwo.ca student",
        "@ local",
        "",
    ]
    table = ClientTags.loads("\n".join(lines))

    def tags(address: str, user: str = "") -> set[str]:
        return set(client_of({"client_address": address, "sasl_username": user}, table).tags)

    assert tags("129.100.1.1") == {"campus"}
    assert tags("129.100.200.9", "Ann@uwo.ca") == {"campus", "wireless", "residence", "staff"}
    assert tags("::ffff:129.100.1.1") == {"campus"}
    assert tags("2001:db8::1", "kim@students.uwo.ca") == {"campus", "student"}
    assert tags("10.0.0.1", "kim") == {"local"}
    assert tags("unknown") == set()
    webmail = client_of({"client_address": "129.100.9.25"}, table)
    assert webmail.protocol == "webmail"


def test_a_certificate_is_a_user_where_there_is_no_login() -> None:
    attributes = {"ccert_subject": "app+20server", "encryption_protocol": "TLSv1.3"}
    client = client_of(attributes, ClientTags())
    assert client.user == "certificate:app server"
    assert client.tags == {"tls", "certificate"}
    client = client_of({**attributes, "sasl_username": "ann"}, ClientTags())
    assert client.user == "ann"


@pytest.mark.parametrize("login", ["a\nb", "x" * 5000, "\udcff", "\u00e9"])
def test_any_login_of_postfix_is_a_user(login: str) -> None:
    assert client_of({"sasl_username": login}, ClientTags()).user


# The collector.


def test_a_connection_that_goes_on_leaves_nothing_of_its_earlier_message() -> None:
    collector = Collector()
    for number in range(1000):
        collector.add(f"i{number}", "a@x.com", "connection", 0.0)
    assert len(collector) == 1


def test_the_memory_of_a_collector_is_bounded() -> None:
    collector = Collector(most=50, most_recipients=20, most_in_all=300)
    for number in range(200):
        for each in range(30):
            collector.add(f"i{number}", f"r{each}@x.com", number, float(number))
            collector.disconnect(number)
    assert len(collector) <= 50
    assert collector.recipients <= 300
    transaction = collector.find("i199")
    assert transaction is not None
    assert transaction.is_overfull
    assert collector.expire(199.0 + 3600.0) == 15
    assert len(collector) == collector.recipients == 0


# The stages.


def test_what_the_stages_cannot_do_is_said() -> None:
    policy = Policy(
        name="p", limits=[RecipientLimit(5), RecipientRateLimit("5/hour", scope="recipient")]
    )
    assert list(limitations(Stages(), policy)) == []
    assert "charged as a message of its own" in next(limitations(Stages.parse("rcpt"), policy))
    [first, second] = limitations(Stages.parse("end-of-message"), policy)
    assert "are not known" in first
    assert "limits per recipient" in second
    [only] = limitations(Stages.parse("rcpt,data"), policy)
    assert "stays counted" in only
    with pytest.raises(ValueError, match="is not one of"):
        Stages.parse("helo")


def test_the_lines_for_main_cf_ask_at_the_stages() -> None:
    text = main_cf(Stages(), "inet:127.0.0.1:10040")
    assert text.count("check_policy_service inet:127.0.0.1:10040") == 2
    assert "smtpd_data_restrictions" not in text
    assert text.index("reject_unlisted_recipient") < text.index("check_policy_service")
