"""`replay --retry`: how late deferred messages would go, and which would never go."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.command_line import replay_json, run_replay

from ratelimit_mail import (
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.cli.replay.by_tier import ByTier
from ratelimit_mail.cli.replay.retry import LIFETIME, Delays, retry
from ratelimit_mail.cli.replay.run import replay
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.directory import Directory
from ratelimit_mail.envelope import Client

MINUTE = 60_000


def mail(*times: int, sender: str = "a@x.y", to: int = 1) -> list[tuple[int, Envelope]]:
    recipients = [f"r{i}@x.y" for i in range(to)]
    return [(time, Envelope(sender, recipients)) for time in times]


def delays_of(policy: Policy, messages: list[tuple[int, Envelope]]) -> Delays:
    [delays] = retry(policy, sorted(messages, key=lambda item: item[0])).values()
    return delays


def test_messages_over_a_rate_go_when_the_rate_allows_it_one_sender_after_the_other() -> None:
    policy = Policy(name="p", limits=[MessageRateLimit("2/minute")])
    delays = delays_of(policy, mail(0, 0, 0, 0, 0, 10) + mail(0, sender="b@x.y"))
    assert delays.at_once == 3
    assert list(delays.delays) == [MINUTE, MINUTE, 2 * MINUTE, 2 * MINUTE - 10]
    assert [delays.percentile(share) for share in (0.5, 0.95, 1.0)] == [
        MINUTE,
        2 * MINUTE,
        2 * MINUTE,
    ]


def test_a_later_message_of_a_waiting_sender_waits_behind_it() -> None:
    policy = Policy(name="p", limits=[RecipientRateLimit("3/minute")])
    delays = delays_of(policy, mail(0, to=2) + mail(1, to=3) + mail(2, to=1))
    assert (delays.at_once, list(delays.delays)) == (1, [MINUTE - 1, 2 * MINUTE - 2])


def test_what_can_never_go_is_counted_apart() -> None:
    policy = Policy(name="p", limits=[RecipientLimit(2), MessageRateLimit("1/4 days")])
    delays = delays_of(policy, mail(0, 1, 2) + mail(3, to=3))
    assert (delays.at_once, len(delays.delays)) == (1, 1)
    assert (delays.rejected, delays.given_up, delays.never) == (1, 1, 2)


def test_spellings_of_one_sender_have_one_queue() -> None:
    policy = Policy(
        name="p",
        subaddress="+",
        directory=Directory(aliases={"alias@x.y": "a@x.y"}),
        limits=[MessageRateLimit("1/minute")],
    )
    senders = ("a@x.y", "A@x.y", "a+b@x.y", "alias@x.y")
    messages = [mail(i, sender=sender)[0] for i, sender in enumerate(senders)]
    assert list(delays_of(policy, messages).delays) == [
        i * MINUTE - i for i in range(1, len(senders))
    ]
    assert len(replay(policy, messages).by_sender) == 1


def test_many_senders_that_share_a_limit_need_few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = Counter[str]()
    try_acquire = Limiter.try_acquire

    def counting(self: Limiter, envelope: Envelope) -> Decision:
        tries["all"] += 1
        return try_acquire(self, envelope)

    monkeypatch.setattr(Limiter, "try_acquire", counting)
    policy = Policy(name="p", limits=[MessageRateLimit("10/minute", scope="global")])
    messages = [mail(0, sender=f"s{i}@x.y")[0] for i in range(300)]
    delays = delays_of(policy, messages)
    assert delays.at_once + len(delays.delays) == 300
    assert max(delays.delays) <= 40 * MINUTE
    assert tries["all"] < 300 * 25


SENDERS = st.sampled_from(["a@x.y", "b@x.y"])


@given(
    st.lists(st.tuples(st.integers(0, 5 * MINUTE), SENDERS, st.integers(1, 4)), max_size=25),
    st.sampled_from(["sender", "global"]),
)
def test_no_window_has_more_than_the_limit_and_no_message_is_lost(
    rows: list[tuple[int, str, int]], scope: str
) -> None:
    limit = RecipientRateLimit("5/minute", scope=scope)
    policy = Policy(name="p", limits=[limit])
    messages = [mail(time, sender=sender, to=to)[0] for time, sender, to in sorted(rows)]
    if not messages:
        return
    delays = delays_of(policy, messages)
    assert delays.at_once + len(delays.delays) == len(messages)
    assert all(0 < delay < LIFETIME for delay in delays.delays)


def test_clients_and_senders_are_counted_by_tier() -> None:
    policy = Policy(
        name="p",
        limits=[MessageRateLimit("1/minute")],
        tiers=[Tier("open", when=has_tag("open")), Tier("rest")],
    )
    tier = ByTier(policy)
    clients = [
        Client(address="2001:db8::1", tags=["open"]),
        Client(address="2001:db8::2", tags=["open"]),
        Client(user="Ann"),
        Client(),
    ]
    messages = [
        (i, Envelope(sender, ["b@x.y"], client))
        for i, (sender, client) in enumerate(
            zip(["a@x.y", "A@x.y", "b@x.y", "b@x.y"], clients, strict=True)
        )
    ]
    replay(policy, messages, tier.add)
    seen = {
        name: (x.messages, x.refused, len(x.clients), len(x.affected_clients), len(x.senders))
        for name, x in tier.tiers.items()
    }
    assert seen == {"open": (2, 1, 1, 1, 1), "rest": (2, 1, 1, 0, 1)}


def test_the_command_prints_the_delays(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    rows = "".join(f"{1_700_000_000 + i // 9},a@x.y,1\n" for i in range(40))
    file.write_text("time,sender,recipients\n" + rows + "1700000000,a@x.y,101\n")
    report = replay_json(file, "leeds-office365", "--retry")
    [tier] = report["retry"]["tiers"]
    assert (tier["at_once"], tier["delayed"], tier["never"]) == (30, 10, 1)
    assert tier["delay"] == {"p50": 57.0, "p95": 57.0, "max": 57.0}
    text = run_replay(file, "leeds-office365", "--retry").stdout
    assert "Delays with retries" in text
    assert "half of them within" in text
