"""Errors in a policy file, and in writing one: each names its place."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from limits import RateLimitItemPerDay
from limits.limits import GRANULARITIES, Granularity, RateLimitItem

from ratelimit_mail import Client, MessageRateLimit, Policy, RecipientLimit, Tier
from ratelimit_mail.conditions import HasTag, Protocol, any_of, has_tag, not_
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.exceptions import PolicyFileError, RateLimitMailError
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.policy.files import toml_text as text_module


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(PolicyFileError) as caught:
        Policy.loads(text)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def problem_with(rest: str) -> str:
    """Return the one problem of a policy file with `rest` in it."""
    (problem,) = problems_of(
        'name = "campus"\n'
        f"{rest}\n"
        "[[limits]]\n"
        'kind = "recipient limit"\n'
        'name = "recipients a message"\n'
        "limit = 5\n"
    )
    return problem


LIMIT = '[[limits]]\nkind = "message rate limit"\nrate = "30/minute"\n'
TIER = '[[tiers]]\nname = "tier 1"\n'
FOR_ANN = 'senders = ["ann@uwo.ca"]\n'
OVERRIDE = f"[[overrides]]\n{FOR_ANN}"
KINDS = (
    "recipient limit, message rate limit, recipient rate limit, message size limit, byte rate limit"
)
WORDS = "network, tag, protocol, any_of, all_of, not"


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        (
            LIMIT.replace("minute", "minut"),
            "limits[0].rate: '30/minut' is not one rate; did you mean '30/minute'?",
        ),
        (
            LIMIT + 'scop = "client"',
            "limits[0].scop: there is no such key; did you mean 'scope'?",
        ),
        (LIMIT + '"a b\\u001b" = 1', None),
        (LIMIT + "limit = 3", "limits[0].limit: there is no such key;"),
        (LIMIT + 'count = "extern"', "limits[0].count: 'extern' is not one of all, external"),
        (LIMIT + "share = 2", "limits[0].share: 2 is not above 0 and at most 1"),
        (LIMIT + 'enforce = "no"', "limits[0].enforce: True or False is needed, not 'no'"),
        (
            LIMIT + 'resolution = "1 hour"',
            "limits[0].resolution: '1 hour' is longer than the window of 30 per 1 minute",
        ),
        ("[[limits]]\nlimit = 5", f"limits[0].kind: this key is needed; one of {KINDS}"),
        ('[[limits]]\nkind = "limit"', f"limits[0].kind: 'limit' is not one of {KINDS}"),
        ("[[limits]]\nkind = []", f"limits[0].kind: [] is not one of {KINDS}"),
        ('[[limits]]\nkind = "recipient limit"', "limits[0].limit: this key is needed"),
        (
            '[[limits]]\nkind = "recipient limit"\nlimit = 0',
            "limits[0].limit: 0 lets nothing through; at least 1 is needed",
        ),
        ("[[tiers]]", "tiers[0].name: this key is needed"),
        (TIER + "limits = 3", "tiers[0].limits: a list of tables is needed, not 3"),
        (TIER + "limits = [3]", "tiers[0].limits[0]: a table is needed, not 3"),
        (
            TIER + 'when = { tagg = "a" }',
            f"tiers[0].when: 'tagg' is not one of {WORDS}",
        ),
        (
            TIER + "when = {}",
            f"tiers[0].when: a table of one key is needed, one of {WORDS}; not {{}}",
        ),
        (
            TIER + 'when = { not = { any_of = [{ tag = "a" }, { protocol = "ftp" }] } }',
            "tiers[0].when.not.any_of[1].protocol: 'ftp' is not one of smtp, webmail, api",
        ),
        (
            TIER + 'when = { network = ["10.0.0.0/8", "10.0.0.1/8"] }',
            "tiers[0].when.network: '10.0.0.1/8' is not a network such as '129.100.0.0/16'"
            " (has host bits set)",
        ),
        (
            TIER + "when = { all_of = [] }",
            "tiers[0].when.all_of: at least one condition is needed",
        ),
        (
            TIER + 'when = { all_of = { tag = "a" } }',
            "tiers[0].when.all_of: a list is needed, not {'tag': 'a'}",
        ),
        (TIER + TIER, "tiers: two of them are named 'tier 1'"),
        ("tiers = 5", "tiers: a list of tables is needed, not 5"),
        (
            'internal_domains = "uwo.ca"',
            "internal_domains: a list of domains is needed, not 'uwo.ca'",
        ),
        (
            OVERRIDE + 'limits = { "recipients per message" = 7 }',
            "overrides: no limit is named 'recipients per message'; did you mean"
            " 'recipients a message'?",
        ),
        (
            OVERRIDE + 'limits = { "recipients a message" = 1.5 }',
            "overrides[0].limits: 'recipients a message': a number such as 500, or a rate such as"
            " '20000/day', is needed, not 1.5",
        ),
        (
            OVERRIDE + 'limits = { "recipients a message" = "7/day" }',
            "override of 'recipients a message': a number is needed, not '7/day'",
        ),
        (OVERRIDE, "overrides[0].limits: this key is needed"),
        (
            f'override_requires = ["reason"]\n{OVERRIDE}limits = {{ "recipients a message" = 7 }}',
            "overrides: the override of 'recipients a message' for 'ann@uwo.ca' has no reason;"
            " the policy 'campus' requires reason",
        ),
        (
            'override_requires = ["reasons"]',
            "override_requires: 'reasons' is not one of reason, granted_by, expected_recipients,"
            " starts, ends",
        ),
        (
            f"[[grants]]\n{FOR_ANN}starts = 2026-02-01\nends = 2026-01-01",
            "grants[0]: grant: it ends (2026-01-01) before it starts (2026-02-01)",
        ),
        (
            f"[[grants]]\n{FOR_ANN}ends = 2026-01-01T08:30:00",
            "grants[0].ends: 2026-01-01T08:30:00 has no time zone; write 2026-01-01T08:30:00Z for"
            " UTC, or a date alone",
        ),
        (
            f'[[grants]]\n{FOR_ANN}ends = "2026-01-01"',
            "grants[0].ends: a date or datetime is needed, not '2026-01-01'",
        ),
        (
            '[[exemptions]]\nreason = "none"',
            "exemptions[0]: exemption: senders=[...], when=... or both are needed",
        ),
        (
            '[[exemptions]]\nsenders = ["ann@"]',
            "exemptions[0].senders: the address 'ann@': '' is not a domain",
        ),
        ("directory = 5", "directory: a table is needed, not 5"),
        (
            "[directory]\nalias = {}",
            "directory.alias: there is no such key; did you mean 'aliases'?",
        ),
        (
            '[directory]\naliases = { "a@uwo.ca" = ["c@uwo.ca"], "b@uwo.ca" = ["c@uwo.ca"] }',
            "directory.aliases: alias: 'c@uwo.ca' has two owners, 'a@uwo.ca' and 'b@uwo.ca'",
        ),
        (
            '[directory]\naliases = { "a@uwo.ca" = "c@uwo.ca" }',
            "directory.aliases: a list of the aliases of 'a@uwo.ca' is needed, not 'c@uwo.ca'",
        ),
        (
            '[[directory.lists]]\naddress = "all@uwo.ca"\nposting = "closed"',
            "directory.lists[0].posting: 'closed' is not one of open, moderated, named",
        ),
        (
            '[[directory.lists]]\naddress = "a@uwo.ca"\nmembers = ["b@uwo.ca"]\n'
            '[[directory.lists]]\naddress = "b@uwo.ca"\nmembers = ["a@uwo.ca"]',
            "directory.lists: 'a@uwo.ca' contains itself",
        ),
        ("[directory]\nlists_csv = 5", "directory.lists_csv: the name of a file is needed, not 5"),
        (
            '[directory]\nlists_csv = "no-such.csv"',
            "directory: 'no-such.csv' cannot be read: No such file or directory",
        ),
        (
            '[directory]\naliases_csv = "a.csv"\naliases = { "a@uwo.ca" = ["c@uwo.ca"] }',
            "directory.aliases_csv: there are aliases in this file too; give one of the two",
        ),
        (
            'proxy_address_limit = 1\n[directory.aliases]\n"a@uwo.ca" = ["c@uwo.ca", "d@uwo.ca"]',
            "directory: 'a@uwo.ca' has 2 aliases; the proxy address limit of 'campus' is 1",
        ),
        ("per_node = 1", "per_node: True or False is needed, not 1"),
        ("partiall = true", "partiall: there is no such key; did you mean 'partial'?"),
        ("qwertz = true", "qwertz: there is no such key; there are name, limits, tiers,"),
        ("x = [", "not TOML: "),
        ("name = 'b'", "not TOML: Cannot overwrite a value (at line 2, column 11)"),
        ("when = " + "[" * 5000, "nested too deep to be read"),
        ("node = " + "9" * 5000, "not TOML: "),
    ],
)
def test_an_error_names_table_and_key(rest: str, problem: str | None) -> None:
    actual = problem_with(rest)
    if problem is None:
        problem = "limits[0].'a b\\x1b': there is no such key;"
    assert actual.startswith(problem)
    assert actual.isprintable()


def test_a_condition_nested_too_deep_is_an_error_and_not_a_crash() -> None:
    deep = "{ not = " * 33 + '{ tag = "a" }' + " }" * 33
    assert "more than 32 conditions within each other" in problem_with(f"{TIER}when = {deep}")


def test_all_errors_are_listed_at_once_in_one_line_each() -> None:
    assert problems_of(
        'nam = "campus"\n'
        + LIMIT.replace("minute", "minut")
        + LIMIT
        + 'scope = "sendr"\nreplay = "no"\n'
        + TIER
        + "when = { tag = 5 }\n[[tiers.limits]]\nlimit = 5\n"
    ) == (
        "name: this key is needed",
        "limits[0].rate: '30/minut' is not one rate; did you mean '30/minute'?",
        "limits[1].replay: there is no such key; did you mean 'reply'?",
        "tiers[0].when.tag: 5 is not a word such as 'wireless'",
        "tiers[0].limits[0].kind: this key is needed; one of " + KINDS,
        "nam: there is no such key; did you mean 'name'?",
    )


def test_after_twenty_errors_the_rest_is_counted() -> None:
    problems = problems_of('name = "a"\n' + "[[limits]]\n" * 1_025)
    assert len(problems) == 21
    assert problems[-1] == "and 1,005 more"


def loading(path: Any) -> str:
    with pytest.raises(PolicyFileError) as caught:
        Policy.load(path)
    return str(caught.value)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "campus\x1b[31m.toml"
    file.write_text("limits = 5\nnoise = 6\n")
    named = str(file).replace("\x1b", "\\x1b")
    lines = loading(file).splitlines()
    assert lines[0] == f"{named}: name: this key is needed"
    assert [line.startswith(f"{named}: ") for line in lines] == [True] * 3


def test_a_path_without_a_file_is_an_error(tmp_path: Path) -> None:
    missing = tmp_path / "campus.toml"
    assert loading(missing) == f"{missing}: cannot be read: No such file or directory"
    assert loading(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    assert loading("a\0b") == "a\\x00b: cannot be read: embedded null byte"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_text('name = "a"')
    file.chmod(0)
    assert "Permission denied" in loading(file)


def test_a_file_that_is_not_utf_8_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_bytes(b'name = "a"\n# caf\xe9\n')
    assert loading(file) == f"{file}: line 2: not UTF-8"


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_bytes(b'\xef\xbb\xbfname = "a"\r\n')
    assert Policy.load(file) == Policy(name="a")


def test_a_file_or_dump_that_is_too_large_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(name="a", directory=Directory({"b@uwo.ca": "a@uwo.ca"}))
    file = tmp_path / "campus.toml"
    file.write_text(policy.dump())
    monkeypatch.setattr(text_module, "LARGEST", 50)
    assert "larger than 50 bytes" in loading(file)
    with pytest.raises(PolicyFileError, match="larger than 50 bytes"):
        policy.dump()


def test_an_error_in_a_csv_file_names_it_and_its_line(tmp_path: Path) -> None:
    (tmp_path / "aliases.csv").write_text("alias,owner\nb@uwo.ca,\n")
    file = tmp_path / "campus.toml"
    file.write_text('name = "a"\n[directory]\naliases_csv = "aliases.csv"\n')
    assert loading(file).startswith(f"{file}: directory: 'aliases.csv', line 2: owner:")


def test_a_policy_file_error_is_a_value_error_of_this_library() -> None:
    assert issubclass(PolicyFileError, ValueError)
    assert issubclass(PolicyFileError, RateLimitMailError)


@pytest.mark.parametrize("wrong", [None, b"name = 'a'", 5])
def test_a_text_that_is_not_a_string_is_an_error(wrong: Any) -> None:
    with pytest.raises(PolicyFileError, match="the text of a policy file is needed"):
        Policy.loads(wrong)


def own_condition(client: Client) -> bool:
    return client.user == "root"


class OwnLimit(MessageRateLimit):
    """A kind of limit that a file cannot hold."""

    __slots__ = ()


class OwnTier(Tier):
    """A tier that a file cannot hold."""


class LiveDirectory:
    """A directory that a file cannot hold."""

    def owner(self, address: str) -> str:
        return address

    def mailing_list(self, address: str) -> MailingList | None:
        return None


class PerFortnight(RateLimitItem):
    """A unit of time that is not in the notation, of a length that is."""

    GRANULARITY = Granularity(14 * 86_400, "fortnight")


class PerHalfSecond(RateLimitItem):
    """A unit that is not a whole number of seconds."""

    GRANULARITY = Granularity(0.5, "half")  # type: ignore[arg-type]


class PerShortDay(RateLimitItem):
    """A unit with the name of another unit."""

    GRANULARITY = Granularity(23 * 3_600, "day")


# `limits` would read them from now on.
del GRANULARITIES["fortnight"], GRANULARITIES["half"]
GRANULARITIES["day"] = RateLimitItemPerDay


HALF = "half a \ud83d"
NAMED = RecipientLimit(5, name="recipients a message")


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        (
            Policy(name="a", tiers=[Tier("x", when=any_of(has_tag("b"), own_condition))]),
            "tiers[0].when: <function own_condition",
        ),
        (
            Policy(name="a", grants=[], exemptions=[Exemption(when=not_(own_condition))]),
            "exemptions[0].when: <function own_condition",
        ),
        (
            Policy(name="a", tiers=[Tier("x", when=not_(HasTag("")))]),
            "tiers[0].when.not.tag: '' is not a word",
        ),
        (
            Policy(name="a", tiers=[Tier("x", when=Protocol("SMTP"))]),
            "tiers[0].when: Protocol(name='SMTP') cannot be written so that it is read the same",
        ),
        (Policy(name="a", directory=LiveDirectory()), "directory: <"),
        (
            Policy(name="a", tiers=[Tier("x", limits=[NAMED, OwnLimit("5/day")])]),
            "tiers[0].limits[1]: OwnLimit(",
        ),
        (Policy(name="a", tiers=[OwnTier("x")]), "tiers[0]: OwnTier("),
        (
            Policy(name="a", limits=[MessageRateLimit(PerHalfSecond(5))]),
            "limits[0].rate: ",
        ),
        (
            Policy(
                name="a",
                limits=[NAMED],
                overrides=[
                    Override({"recipients a message": 6}, senders=["a@uwo.ca"], reason=HALF)
                ],
            ),
            "overrides[0].reason: 'half a \\ud83d' has half a character",
        ),
    ],
)
def test_a_policy_that_a_file_cannot_hold_is_an_error(policy: Policy, problem: str) -> None:
    with pytest.raises(PolicyFileError) as caught:
        policy.dump()
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("rate", "written"),
    [(PerFortnight(5, 2), "5/2419200 seconds"), (PerShortDay(5), "5/82800 seconds")],
)
def test_a_custom_unit_of_time_is_written_in_seconds(rate: RateLimitItem, written: str) -> None:
    policy = Policy(name="a", limits=[MessageRateLimit(rate)])
    assert f'rate = "{written}"' in policy.dump()
    assert Policy.loads(policy.dump()) == policy


@pytest.mark.parametrize(
    ("missing", "where", "message"),
    [
        ("cattrs.errors", "errors", "policy files need cattrs: pip install"),
        ("tomli_w", "layout", "policy files need tomli_w: pip install"),
        ("ratelimit_mail.policy.files.schema", "errors", "ratelimit_mail.policy.files.schema"),
    ],
)
def test_without_the_extra_an_error_says_what_to_install(
    missing: str, where: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(name="a")
    policy.dump()
    monkeypatch.delitem(sys.modules, f"ratelimit_mail.policy.files.{where}")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=message):
        policy.dump()
