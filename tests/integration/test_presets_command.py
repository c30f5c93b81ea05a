"""`presets`: the rules of every preset in words, with source and date."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from click.testing import Result
from rlm_testkit.command_line import error_line, run_command

from ratelimit_mail import Policy, Tier
from ratelimit_mail.cli import presets as module
from ratelimit_mail.cli.describe import condition_in_words, rules_of
from ratelimit_mail.conditions import all_of, any_of, has_tag, in_network, not_, protocol
from ratelimit_mail.limits import MessageRateLimit, RecipientLimit
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.presets import PRESETS, SOURCES


def run(*arguments: str) -> Result:
    return run_command("presets", *arguments)


def description_of(name: str) -> str:
    """Return the output for one preset, as one line."""
    result = run(name)
    assert result.exit_code == 0
    return " ".join(result.stdout.split())


def test_without_a_name_every_preset_is_listed() -> None:
    result = run()
    assert result.exit_code == 0
    headings = [line for line in result.stdout.splitlines() if line and line[0] != " "]
    assert headings == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_limit_and_every_figure_of_a_preset_are_listed_with_source_and_date(
    name: str,
) -> None:
    def is_listed(text: str) -> bool:  # addresses are folded
        return "".join(text.split()) in printed

    printed = "".join(run(name).stdout.split())
    source = SOURCES[name]
    assert all(is_listed(str(limit)) for limit in PRESETS[name]().all_limits)
    for figure in source.figures:
        pages = ", ".join(str(source.pages.index(page) + 1) for page in figure.pages)
        assert is_listed(f"{figure} [{pages}]")
        assert is_listed(figure.refusal or "")
        assert is_listed(figure.note or "")
    for number, page in enumerate(source.pages, start=1):
        assert is_listed(f"[{number}]")
        assert is_listed(f'"{page.title}"')
        assert is_listed(f"read on {page.read}{page.address or ''}")
    assert is_listed(source.unconfirmed or "")
    assert is_listed(source.left_out or "")


def test_what_is_not_a_rate_is_listed_with_its_refusal_and_what_to_do() -> None:
    words = description_of("exchange-online")
    assert "also stated 1,000 internal recipients an hour" in words
    connections = "3 connections at a time that submit messages, for each mailbox [2]; refusal:"
    assert f"{connections} 432 4.3.2 Concurrent connections limit exceeded.; not a rate" in words
    assert "2,000 external recipients in 24 hours, for each mailbox [8]; cancelled:" in words


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("leeds-smtp", ["need a grant; mail from other senders is rejected"]),
        (
            "western-office365",
            [
                "clients by smtp: 30 messages per minute per sender",
                "each mailbox 3600 received messages per hour per recipient",
                "aliases at most 200 for one mailbox; they count as one recipient",
                "internal uwo.ca, .uwo.ca",
                "inbound mail is decided for each recipient separately",
            ],
        ),
        (
            "western-convergence",
            [
                "clients by webmail or tagged wireless or tagged reznet or without an address in"
                " 129.100.0.0/16: 50 external recipients per 15 minutes per submitter; excess"
                " messages are rejected; refused attempts count",
                "any other client: 500 external recipients per day per submitter",
                "per_server, exemptions",
            ],
        ),
        ("exchange-online", ["per sender and recipient, 33 % of 3600", "licences"]),
        ("google-workspace", ["clients by smtp or by api: 100 recipients per message"]),
        ("comcast", ["History:"]),
    ],
)
def test_rules_are_described_in_words(name: str, rules: list[str]) -> None:
    words = description_of(name)
    for rule in rules:
        assert rule in words


def test_tables_fit_80_columns_and_have_no_escape_codes_in_a_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ratelimit_mail.cli", "presets"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    lines = [line for line in done.stdout.splitlines() if "://" not in line]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout
    assert done.stderr == ""


def test_json_has_an_object_for_each_preset() -> None:
    printed = json.loads(run("--json").stdout)
    assert [each["name"] for each in printed] == list(PRESETS)
    for each in printed:
        assert date.fromisoformat(each["source"]["read"]) == SOURCES[each["name"]].read


def test_json_has_the_source_and_the_date_of_every_limit() -> None:
    for each in json.loads(run("--json").stdout):
        limits = [*each["limits"], *(limit for tier in each["tiers"] for limit in tier["limits"])]
        assert limits
        for limit in limits:
            documented = limit["documented"]
            assert documented["figure"] == limit["limit"]
            assert documented["unit"]
            for page in documented["sources"]:
                assert page["title"]
                assert date.fromisoformat(page["read"]) >= date(2026, 11, 22)


def test_json_has_figures_that_no_limit_enforces() -> None:
    printed = json.loads(run("exchange-online", "--json").stdout)
    [connections] = [
        each for each in printed["figures"] if each["unit"].startswith("connections at a time")
    ]
    assert (connections["limit"], connections["figure"]) == (None, 3)
    assert connections["refusal"].startswith("432 4.3.2")
    assert connections["note"].startswith("not a rate")
    [page] = connections["sources"]
    assert page["address"].startswith("https://learn.microsoft.com/")
    assert (page["read"], page["second_hand"]) == ("2026-11-27", False)


def test_json_of_one_preset_is_one_object_with_its_numbers() -> None:
    printed = json.loads(run("western-office365", "--json").stdout)
    assert [(each["name"], each["limit"], each.get("seconds")) for each in printed["limits"]] == [
        ("recipients a message", 500, None),
        ("recipients a day", 10_000, 86_400),
        ("messages received an hour", 3_600, 3_600),
    ]
    assert [each["direction"] for each in printed["limits"][1:]] == ["outbound", "inbound"]
    assert [tier["when"] for tier in printed["tiers"]] == ["clients by smtp"]
    assert printed["tiers"][0]["limits"][0]["limit"] == 30
    assert printed["internal_domains"] == ["uwo.ca", ".uwo.ca"]
    assert printed["proxy_address_limit"] == 200
    assert (printed["grants"], printed["exemptions"], printed["per_node"]) == (None, [], False)
    assert "directory" in printed["parameters"]


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_an_unknown_preset_is_an_error_with_similar_names(arguments: list[str]) -> None:
    line = error_line(run("leeds-office356", *arguments))
    assert "did you mean leeds-office365" in line


def test_a_policy_that_is_not_a_preset_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_policy", lambda _: Policy(name="campus"))
    result = run("campus\x1b[31m")
    assert result.exit_code == 2
    assert "campus\\x1b[31m is not a preset" in result.stderr


def _own_condition(_: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (None, "any other client"),
        (has_tag("wireless"), "clients tagged wireless"),
        (
            in_network("10.0.0.0/8", "2001:db8::/32"),
            "clients with an address in 10.0.0.0/8, 2001:db8::/32",
        ),
        (not_(protocol("smtp")), "clients not by smtp"),
        (
            all_of(protocol("smtp"), any_of(has_tag("a"), has_tag("b"))),
            "clients by smtp and (tagged a or tagged b)",
        ),
        (not_(any_of(has_tag("a"), has_tag("b"))), "clients not (tagged a or tagged b)"),
    ],
)
def test_conditions_are_described_in_words(condition: Any, words: str) -> None:
    assert condition_in_words(condition) == words


def test_an_own_condition_is_described_by_its_name() -> None:
    own: Callable[[Any], bool] = _own_condition
    assert "_own_condition" in condition_in_words(own)


def test_grants_exemptions_and_overrides_are_described_with_their_reasons() -> None:
    policy = Policy(
        name="campus",
        limits=[RecipientLimit(5, name="recipients a message")],
        tiers=[Tier("students", when=has_tag("student"))],
        grants=[Grant(senders=["ann@uwo.ca"], reason="Alumni news")],
        exemptions=[Exemption(senders=["dean@uwo.ca"], when=protocol("smtp"))],
        overrides=[Override({"recipients a message": 9}, when=has_tag("staff"))],
        per_node=True,
    )
    assert list(rules_of(policy)) == [
        ("everybody", "5 recipients per message"),
        ("students", "clients tagged student:"),
        ("senders", "need a grant; mail from other senders is rejected"),
        ("senders", "granted: ann@uwo.ca (Alumni news)"),
        ("exempt", "dean@uwo.ca, clients by smtp"),
        ("overrides", "clients tagged staff: recipients a message: 9"),
        ("mail servers", "each server counts separately"),
    ]


def test_how_addresses_and_clients_are_compared_is_in_words() -> None:
    words = description_of("western-convergence")
    for rule in (
        "500 external recipients per day per submitter",
        "kim+shop@ counts as kim@",
        "a client is an IPv4 address, or an IPv6 /64",
        "a submitter is the login; without one the sender; for bounces without one the client",
    ):
        assert rule in words
    assert "submitter" not in description_of("leeds-office365")
    policy = Policy(
        name="p",
        case_sensitive=True,
        subaddress="-+",
        ipv4_prefix=24,
        ipv6_prefix=128,
        limits=[MessageRateLimit("1/day", scope=["sender", "client"])],
    )
    assert [text for subject, text in rules_of(policy) if subject == "addresses"] == [
        "Kim@ and kim@ are two addresses",
        "kim-shop@ counts as kim@",
        "kim+shop@ counts as kim@",
        "a client is an IPv4 /24, or an IPv6 address",
    ]


def test_json_says_how_addresses_and_clients_are_compared() -> None:
    described = json.loads(run("western-convergence", "--json").stdout)
    names = ("case_sensitive", "subaddress", "ipv4_prefix", "ipv6_prefix")
    assert [described[name] for name in names] == [False, "+", 32, 64]


def test_a_preset_is_printed_as_a_policy_file() -> None:
    for name, preset in PRESETS.items():
        result = run_command("presets", name, "--toml")
        assert result.exit_code == 0
        assert Policy.loads(result.stdout) == preset()
    assert "needs the NAME" in error_line(run_command("presets", "--toml"))
