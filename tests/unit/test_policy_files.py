"""Policy files: reading, writing, and presets that decide the same after both."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache
from pathlib import Path

import pytest

from ratelimit_mail import (
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
    presets,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import all_of, any_of, has_tag, in_network, not_, protocol
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.testing import ManualClock

EXAMPLE = Path(__file__).parents[2] / "examples" / "campus.toml"

EVERYTHING = """
name = "campus"
internal_domains = ["uwo.ca", ".UWO.ca", "bücher.example"]
case_sensitive = true
subaddress = "+-"
ipv4_prefix = 24
ipv6_prefix = 56
proxy_address_limit = 2
partial = true
per_node = true
node = "mail1"
shard_by = "sender"
override_requires = ["reason", "granted_by"]

[[limits]]
kind = "recipient limit"
name = "recipients a message"
limit = 500
count = "external"

[[limits]]
kind = "message rate limit"
name = "received"
rate = "3600/hour"
direction = "inbound"
share = 0.33
scope = ["recipient", "sender"]

[[tiers]]
name = "tier 2"
when = { any_of = [
    { all_of = [{ protocol = "webmail" }, { tag = "wireless" }] },
    { not = { network = ["129.100.0.0/16", "2001:db8::/32"] } },
] }

[[tiers.limits]]
kind = "recipient rate limit"
rate = "50 per 15 minutes"
scope = "client"
count = "external"
denied = "count"
on_excess = "reject"
resolution = "1 second"
reply = "Try again later."
enforce = false

[[tiers]]
name = "tier 1"

[[overrides]]
senders = ["ann@uwo.ca", "leeds.ac.uk"]
limits = { "recipients a message" = 900, received = "7000/2 hours" }
reason = "Term\\nstarts"
granted_by = "IT Service Desk"
expected_recipients = 350
starts = 2026-01-01T12:00:00+01:00
ends = 2026-12-31

[[exemptions]]
when = { tag = "list-server" }
limits = ["received"]

[[grants]]
senders = ["<>", ".uwo.ca"]
expected_recipients = 3

[directory]
aliases = { "ann@uwo.ca" = ["a.smith@uwo.ca", "ann.smith@uwo.ca"] }

[[directory.lists]]
address = "staff@uwo.ca"
members = ["ann@uwo.ca"]
subscription = "open"
posting = "moderated"
posters = ["leeds.ac.uk"]
moderators = ["dean@uwo.ca"]
exempt = true
"""

AS_PYTHON = Policy(
    name="campus",
    internal_domains=["uwo.ca", ".uwo.ca", "xn--bcher-kva.example"],
    case_sensitive=True,
    subaddress="+-",
    ipv4_prefix=24,
    ipv6_prefix=56,
    proxy_address_limit=2,
    partial=True,
    per_node=True,
    node="mail1",
    shard_by="sender",
    override_requires=["reason", "granted_by"],
    limits=[
        RecipientLimit(500, name="recipients a message", count="external"),
        MessageRateLimit(
            "3600/hour",
            name="received",
            direction="inbound",
            share=0.33,
            scope=("sender", "recipient"),
        ),
    ],
    tiers=[
        Tier(
            "tier 2",
            when=any_of(
                all_of(protocol("webmail"), has_tag("wireless")),
                not_(in_network("129.100.0.0/16", "2001:db8::/32")),
            ),
            limits=[
                RecipientRateLimit(
                    "50/15 minutes",
                    scope="client",
                    count="external",
                    denied="count",
                    on_excess="reject",
                    resolution="1 second",
                    reply="Try again later.",
                    enforce=False,
                )
            ],
        ),
        Tier("tier 1"),
    ],
    overrides=[
        Override(
            {"recipients a message": 900, "received": "7000/2 hours"},
            senders=["ann@uwo.ca", "leeds.ac.uk"],
            reason="Term\nstarts",
            granted_by="IT Service Desk",
            expected_recipients=350,
            starts=datetime(2026, 1, 1, 11, tzinfo=UTC),
            ends=date(2026, 12, 31),
        )
    ],
    exemptions=[Exemption(["received"], when=has_tag("list-server"))],
    grants=[Grant(senders=["<>", ".uwo.ca"], expected_recipients=3)],
    directory=Directory(
        {"a.smith@uwo.ca": "ann@uwo.ca", "ann.smith@uwo.ca": "ann@uwo.ca"},
        [
            MailingList(
                "staff@uwo.ca",
                members=["ann@uwo.ca"],
                subscription="open",
                posting="moderated",
                posters=["leeds.ac.uk"],
                moderators=["dean@uwo.ca"],
                exempt=True,
            )
        ],
    ),
)


def test_every_key_of_a_file_means_the_same_as_in_python() -> None:
    assert Policy.loads(EVERYTHING) == AS_PYTHON


def test_a_dumped_policy_is_equal_when_loaded() -> None:
    assert Policy.loads(AS_PYTHON.dump()) == AS_PYTHON


def test_a_file_in_normal_form_is_dumped_unchanged() -> None:
    text = AS_PYTHON.dump()
    assert Policy.loads(text).dump() == text


def test_a_dump_is_readable() -> None:
    policy = Policy(
        name="campus",
        internal_domains=["uwo.ca"],
        limits=[RecipientLimit(500, name="recipients a message"), MessageRateLimit("30/minute")],
        tiers=[
            Tier(
                "wireless",
                when=any_of(has_tag("wireless"), not_(in_network("10.0.0.0/8"))),
                limits=[RecipientRateLimit("50/15 minutes", scope="client", count="external")],
            )
        ],
        overrides=[
            Override({"recipients a message": 900}, senders=["a@uwo.ca"], ends=date(2026, 12, 31))
        ],
        directory=Directory({"a.b@uwo.ca": "a@uwo.ca"}, [MailingList("all@uwo.ca")]),
    )
    assert policy.dump() == (
        """\
name = "campus"
internal_domains = ["uwo.ca"]

[[limits]]
kind = "recipient limit"
name = "recipients a message"
limit = 500

[[limits]]
kind = "message rate limit"
rate = "30/minute"

[[tiers]]
name = "wireless"
when = { any_of = [{ tag = "wireless" }, { not = { network = "10.0.0.0/8" } }] }

[[tiers.limits]]
kind = "recipient rate limit"
rate = "50/15 minutes"
scope = "client"
count = "external"

[[overrides]]
senders = ["a@uwo.ca"]
limits = { "recipients a message" = 900 }
ends = 2026-12-31

[directory]

[directory.aliases]
"a@uwo.ca" = ["a.b@uwo.ca"]

[[directory.lists]]
address = "all@uwo.ca"
"""
    )


def test_the_example_is_a_policy_file(tmp_path: Path) -> None:
    policy = Policy.load(EXAMPLE)
    assert [tier.name for tier in policy.tiers] == ["tier 2", "tier 1"]
    copy = tmp_path / "copy.toml"
    copy.write_text(policy.dump(), encoding="utf-8")
    assert Policy.load(str(copy)) == policy


@pytest.mark.parametrize("grants", [None, (), (Grant(senders=["ann@uwo.ca"]),)])
def test_a_missing_list_of_grants_differs_from_an_empty_one(
    grants: tuple[Grant, ...] | None,
) -> None:
    policy = Policy(name="smtp", grants=grants)
    assert Policy.loads(policy.dump()).grants == grants


def test_a_moment_whose_offset_has_seconds_is_written_in_utc() -> None:
    local = timezone(timedelta(hours=1, seconds=20))
    starts = datetime(2026, 1, 1, 12, tzinfo=local)
    override = Override({"messages": 9}, senders=["ann@uwo.ca"], starts=starts)
    policy = Policy(
        name="a", limits=[MessageRateLimit("5/day", name="messages")], overrides=[override]
    )
    assert "starts = 2026-01-01T10:59:40" in policy.dump()
    assert Policy.loads(policy.dump()) == policy


def test_an_empty_directory_differs_from_none() -> None:
    assert Policy.loads(Policy(name="a", directory=Directory()).dump()).directory == Directory()
    assert Policy.loads(Policy(name="a").dump()).directory is None


def test_a_directory_may_be_in_csv_files_beside_the_policy_file(tmp_path: Path) -> None:
    (tmp_path / "aliases.csv").write_text("alias,owner\na.smith@uwo.ca,ann@uwo.ca\n")
    (tmp_path / "lists.csv").write_text("list,members\nall@uwo.ca,ann@uwo.ca\n")
    file = tmp_path / "campus.toml"
    file.write_text(
        'name = "campus"\n[directory]\naliases_csv = "aliases.csv"\nlists_csv = "lists.csv"\n'
        '[[directory.lists]]\naddress = "few@uwo.ca"\n'
    )
    few, everybody = MailingList("few@uwo.ca"), MailingList("all@uwo.ca", members=["ann@uwo.ca"])
    assert Policy.load(file).directory == Directory(
        {"a.smith@uwo.ca": "ann@uwo.ca"}, [few, everybody]
    )
    file.write_text(
        'name = "campus"\n[directory]\naliases = { "ann@uwo.ca" = ["x@uwo.ca"] }\n'
        'lists_csv = "lists.csv"\n'
    )
    assert Policy.load(file).directory == Directory({"x@uwo.ca": "ann@uwo.ca"}, [everybody])


def test_a_subclass_of_policy_loads_itself() -> None:
    class OwnPolicy(Policy):
        pass

    assert type(OwnPolicy.loads('name = "own"')) is OwnPolicy


def test_cattrs_is_imported_only_when_a_file_is_loaded() -> None:
    code = (
        "import sys; from ratelimit_mail import Policy; print('cattrs' in sys.modules);"
        "Policy.loads('name = \"a\"'); print('cattrs' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


VARIANTS: dict[str, Callable[[], Policy]] = {
    **presets.PRESETS,
    "leeds-office365, one raised": lambda: presets.leeds_office365(
        overrides=[
            Override(
                {"recipients a message": 500},
                senders=["ann@uwo.ca"],
                reason="Open day",
                expected_recipients=350,
            )
        ]
    ),
    "leeds-smtp, some granted": lambda: presets.leeds_smtp(grants=["ann@uwo.ca", "leeds.ac.uk"]),
    "western-convergence, each server": lambda: presets.western_convergence(
        per_server=True, exemptions=["bob@uwo.ca"], scope=("sender", "client")
    ),
    "western-office365, with a directory": lambda: presets.western_office365(
        directory=Directory({"ann@uwo.ca": "bob@uwo.ca"}, [MailingList("r1@uwo.ca", exempt=True)])
    ),
    "exchange-online, of a tenant": lambda: presets.exchange_online(
        licences=1, internal_domains=["uwo.ca"], outbound_spam_policy="strict"
    ),
    "ionos": lambda: presets.ionos(message_rate="50/hour"),
}

ENVELOPES, ENOUGH = 10_000, 1_500


@cache
def envelopes() -> list[tuple[float, Envelope]]:
    """Return envelopes of a few busy senders, with the seconds between them."""
    dice = random.Random(4)
    return [(dice.choice((0, 0, 0.5, 1, 7)), _envelope(dice)) for _ in range(ENVELOPES)]


def _envelope(dice: random.Random) -> Envelope:
    inbound = dice.random() < 0.3
    domain = "uwo.ca" if inbound else dice.choice(("uwo.ca", "example.com", "example.com"))
    most = dice.choices((1, 5, 60, 600, 2500), (60, 30, 8, 0, 0) if inbound else (60, 30, 8, 1, 1))[
        0
    ]
    first = dice.randint(0, 3)
    return Envelope(
        dice.choice(("ann@uwo.ca", "bob@uwo.ca", "cy@leeds.ac.uk", "<>")),
        [f"r{first + i}@{domain}" for i in range(dice.randint(1, most))],
        Client(
            address=dice.choice((None, "129.100.1.1", "192.0.2.1")),
            protocol=dice.choice((None, "smtp", "webmail", "api")),
            tags=dice.choice((set(), {"wireless"}, {"reznet"})),
        ),
        direction="inbound" if inbound else "outbound",
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_preset_loaded_from_its_file_decides_the_same(variant: str) -> None:
    preset = VARIANTS[variant]()
    loaded = Policy.loads(preset.dump())
    assert loaded == preset
    clock = ManualClock(1_700_000_000_000)
    of_preset = Limiter(preset, MemoryBackend(clock=clock))
    of_file = Limiter(loaded, MemoryBackend(clock=clock))
    actions: Counter[str] = Counter()
    for number, (pause, envelope) in enumerate(envelopes()):
        if number > ENOUGH and len(actions) > 1:
            break
        clock.advance(pause)
        expected = of_preset.try_acquire(envelope)
        assert of_file.try_acquire(envelope) == expected
        actions[expected.action.value] += 1
    required = {"reject"} if variant == "leeds-smtp" else {"accept"}  # no sender has a grant there
    assert required < actions.keys() or actions.keys() == {"reject"} == required
