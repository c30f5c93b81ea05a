"""The three kinds of limit: rates, scopes, resolutions, and their text."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import attrs
import pytest
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute, parse

from ratelimit_mail import MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.scopes import SCOPES

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KINDS = [MessageRateLimit, RecipientRateLimit]
RateKind = type[MessageRateLimit] | type[RecipientRateLimit]

kinds = pytest.mark.parametrize("kind", KINDS)


class Instant(RateLimitItemPerMinute):
    """A rate without a window."""

    def get_expiry(self) -> int:
        return 0


class Blink(RateLimitItemPerMinute):
    """A rate whose window is half a millisecond."""

    def get_expiry(self) -> float:  # type: ignore[override]
        return 0.0005


class Moment(RateLimitItemPerMinute):
    """A rate with the shortest window that is allowed."""

    def get_expiry(self) -> float:  # type: ignore[override]
        return 0.001


@kinds
@pytest.mark.parametrize(
    ("rate", "limit", "window"),
    [
        ("30/minute", 30, MINUTE),
        ("30 per minute", 30, MINUTE),
        ("50/15 minutes", 50, 15 * MINUTE),
        ("50 per 15 minutes", 50, 15 * MINUTE),
        ("10000/day", 10_000, DAY),
        ("500/24 hours", 500, DAY),
        ("1/second", 1, SECOND),
        ("3600/hour", 3600, HOUR),
        ("5/MONTH", 5, 30 * DAY),
        ("1000000000000/100 years", 10**12, 36_000 * DAY),
        ("5/36600 days", 5, 36_600 * DAY),
        ("5/010 minutes", 5, 10 * MINUTE),
        ("5/1 second", 5, SECOND),
        (RateLimitItemPerDay(7), 7, DAY),
        (RateLimitItemPerMinute(7, 2), 7, 2 * MINUTE),
        (parse("5/hour"), 5, HOUR),
        (Moment(5), 5, 1),
    ],
)
def test_a_rate_is_an_amount_and_a_window(
    kind: RateKind, rate: str | RateLimitItem, limit: int, window: int
) -> None:
    made = kind(rate)
    assert (made.limit, made.window, made.slot) == (limit, window, 1)


@kinds
@pytest.mark.parametrize(
    ("rate", "error", "named", "expected"),
    [
        ("0/minute", ValueError, "'0/minute'", "at least 1"),
        ("-1/day", ValueError, "'-1/day'", "'30/minute'"),
        ("ten/day", ValueError, "'ten/day'", "'30/minute'"),
        ("1.5/day", ValueError, "'1.5/day'", "'30/minute'"),
        ("٣/day", ValueError, "'٣/day'", "'30/minute'"),
        ("5/fortnight", ValueError, "'5/fortnight'", "'30/minute'"),
        ("5/1.5 minutes", ValueError, "'5/1.5 minutes'", "'30/minute'"),
        ("5", ValueError, "'5'", "did you mean '5/minute', '5/hour' or '5/day'?"),
        ("/minute", ValueError, "'/minute'", "'30/minute'"),
        ("", ValueError, "''", "'30/minute'"),
        ("1/day;5/hour", ValueError, "'1/day;5/hour'", "one rate"),
        ("1/day, 5/hour", ValueError, "'1/day, 5/hour'", "one rate"),
        ("1" * 9_996 + "/day", ValueError, "(10002 characters)", "'30/minute'"),
        (None, TypeError, "None", "'30/minute'"),
        (5, TypeError, "5", "'30/minute'"),
        (b"5/day", TypeError, "b'5/day'", "'30/minute'"),
        (RateLimitItemPerDay(0), ValueError, "0 per 1 day", "at least 1"),
        (RateLimitItemPerDay(-5), ValueError, "-5 per 1 day", "at least 1"),
        (RateLimitItemPerDay(5, -1), ValueError, "5 per -1 day", "shorter than a millisecond"),
        ("1000000000001/day", ValueError, "'1000000000001/day'", "1000000000000"),
        (RateLimitItemPerDay(10**5000), ValueError, "RateLimitItemPerDay", "1000000000000"),
        ("5/102 years", ValueError, "'5/102 years'", "longer than 100 years"),
        ("5/36601 days", ValueError, "'5/36601 days'", "longer than 100 years"),
        (f"5/{'9' * 90} days", ValueError, "characters)", "longer than 100 years"),
        (RateLimitItem(5), TypeError, "RateLimitItem", "no unit of time"),
        (Instant(5), ValueError, "5 per 1 minute", "shorter than a millisecond"),
        (Blink(5), ValueError, "5 per 1 minute", "shorter than a millisecond"),
    ],
)
def test_an_invalid_rate_is_an_error(
    kind: RateKind, rate: Any, error: type[Exception], named: str, expected: str
) -> None:
    with pytest.raises(error) as caught:
        kind(rate)
    text = str(caught.value)
    assert named in text
    assert expected in text
    assert text.isprintable()
    assert len(text) < 300


@kinds
@pytest.mark.parametrize(
    ("rate", "limit", "seconds"),
    [
        ("30/min", 30, 60),
        ("5 per sec", 5, 1),
        ("5/s", 5, 1),
        ("10k/day", 10_000, 86_400),
        ("10K per day", 10_000, 86_400),
        ("50/15 mins", 50, 900),
        ("100/2h", 100, 7_200),
        ("500/week", 500, 604_800),
        ("500 per 2 weeks", 500, 1_209_600),
    ],
)
def test_an_abbreviation_with_one_meaning_is_understood(
    kind: RateKind, rate: str, limit: int, seconds: int
) -> None:
    made = kind(rate)
    assert (made.limit, made.window) == (limit, seconds * 1000)


@kinds
@pytest.mark.parametrize(
    ("rate", "meant"),
    [
        ("30/m", "'30/minute' or '30/month'"),
        ("30/minut", "'30/minute'"),
        ("1,000/day", "'1000/day'"),
        ("10_000 / 2 days", "'10000 per 2 days'"),
        ("30 messages/minute", "'30/minute'"),
        ("500 recipients per hr", "'500/hour'"),
        ("30 a minute", "'30/minute'"),
        ("30 in 5 min", "'30 per 5 minutes'"),
        ("100 messages", "'100/minute', '100/hour' or '100/day'"),
    ],
)
def test_what_is_nearly_a_rate_is_refused_with_what_to_write(
    kind: RateKind, rate: str, meant: str
) -> None:
    with pytest.raises(ValueError, match="is not one rate") as caught:
        kind(rate)
    assert str(caught.value) == f"{rate!r} is not one rate; did you mean {meant}?"


@pytest.mark.parametrize("rate", ["5/0 minutes", "5/0min", "5 per 0 days", "5/00 hour", "5PER0DAY"])
def test_a_window_of_no_length_is_an_error(rate: str) -> None:
    with pytest.raises(ValueError, match="shorter than a millisecond"):
        MessageRateLimit(rate)


@kinds
@pytest.mark.parametrize("words", [*permutations(["sender", "client", "recipient_domain"])])
def test_a_scope_of_several_words_is_the_same_in_any_order(
    kind: RateKind, words: tuple[str, ...]
) -> None:
    limit = kind("5/day", scope=words)
    assert limit.scope == ("sender", "client", "recipient_domain")
    assert limit == kind("5/day", scope=list(words))
    assert hash(limit) == hash(kind("5/day", scope=words[::-1]))


@pytest.mark.parametrize("word", SCOPES)
def test_each_word_is_a_scope_by_itself(word: str) -> None:
    assert MessageRateLimit("5/day", scope=word).scope == (word,)
    assert MessageRateLimit("5/day", scope=[word]).scope == (word,)


@pytest.mark.parametrize(
    ("scope", "error", "named", "expected"),
    [
        ("planet", ValueError, "'planet'", "sender, client, user, submitter, sender_domain"),
        ("", ValueError, "''", "sender, client"),
        ("Sender", ValueError, "'Sender'", "sender, client"),
        (["sender", "planet"], ValueError, "'planet'", "sender, client"),
        (["sender", None], ValueError, "None", "sender, client"),
        ([["sender"]], ValueError, "['sender']", "sender, client"),
        ([], ValueError, "[]", "at least one"),
        ((), ValueError, "()", "at least one"),
        (["sender", "sender"], ValueError, "['sender', 'sender']", "each once"),
        (["global", "sender"], ValueError, "['global', 'sender']", "stands alone"),
        (["client", "global"], ValueError, "['client', 'global']", "stands alone"),
        (None, TypeError, "None", "sender, client"),
        (5, TypeError, "5", "sender, client"),
    ],
)
def test_an_invalid_scope_is_an_error(
    scope: Any, error: type[Exception], named: str, expected: str
) -> None:
    with pytest.raises(error, match=r"^scope: ") as caught:
        MessageRateLimit("5/day", scope=scope)
    assert named in str(caught.value)
    assert expected in str(caught.value)


WORDS = {
    "count": ("all", "external"),
    "denied": ("ignore", "count"),
    "on_excess": ("defer", "reject", "block"),
}
NONSENSE: list[Any] = ["nonsense", "", None, 5, True, [], "x" * 10_000]


@pytest.mark.parametrize("name", [*WORDS])
@pytest.mark.parametrize("value", NONSENSE)
def test_an_unknown_word_is_an_error_that_lists_the_known_ones(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        MessageRateLimit("5/day", **{name: value})
    assert repr(value)[:40] in str(caught.value)
    for word in WORDS[name]:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", [*WORDS])
@pytest.mark.parametrize("value", ["nonsense", "x" * 10_000])
def test_an_unknown_word_is_an_error_of_one_readable_line(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        MessageRateLimit("5/day", **{name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert str(caught.value).endswith(f" is not one of {', '.join(WORDS[name])}")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("resolution", "slot"),
    [
        (None, 1),
        ("1 second", SECOND),
        ("minute", MINUTE),
        ("15 minutes", 15 * MINUTE),
        ("day", DAY),
    ],
)
def test_a_resolution_may_be_as_long_as_the_window(resolution: str | None, slot: int) -> None:
    assert RecipientRateLimit("5/day", resolution=resolution).slot == slot


@pytest.mark.parametrize(
    ("resolution", "error", "expected"),
    [
        ("nonsense", ValueError, "not a length of time such as '1 second'"),
        ("", ValueError, "not a length of time such as '1 second'"),
        ("-1 second", ValueError, "not a length of time such as '1 second'"),
        ("1/second", ValueError, "not a length of time such as '1 second'"),
        ("second; 5/day", ValueError, "not a length of time such as '1 second'"),
        ("x" * 10_000, ValueError, "not a length of time such as '1 second'"),
        (5, TypeError, "a string such as '1 second'"),
        (1.5, TypeError, "a string such as '1 second'"),
        (b"1 second", TypeError, "a string such as '1 second'"),
        ("2 days", ValueError, "longer than the window"),
        ("25 hours", ValueError, "longer than the window"),
    ],
)
def test_an_invalid_resolution_is_an_error(
    resolution: Any, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected) as caught:
        RecipientRateLimit("5/day", resolution=resolution)
    assert repr(resolution)[:40] in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("resolution", ["0 seconds", "0second", "00 minutes"])
def test_a_resolution_of_no_length_is_an_error(resolution: str) -> None:
    with pytest.raises(ValueError, match="not a length of time"):
        RecipientRateLimit("5/day", resolution=resolution)


@pytest.mark.parametrize("limit", [1, 100, 10**12])
def test_a_recipient_limit_may_be_any_whole_number_above_zero(limit: int) -> None:
    assert RecipientLimit(limit).limit == limit


@pytest.mark.parametrize(
    ("limit", "error", "expected"),
    [
        (0, ValueError, "at least 1"),
        (-5, ValueError, "at least 1"),
        (10**12 + 1, ValueError, "the most there may be, 1000000000000"),
        (True, TypeError, "whole number"),
        (1.5, TypeError, "whole number"),
        (5.0, TypeError, "whole number"),
        ("5", TypeError, "whole number"),
        (None, TypeError, "whole number"),
    ],
)
def test_an_invalid_recipient_limit_is_an_error(
    limit: Any, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected) as caught:
        RecipientLimit(limit)
    assert str(caught.value).startswith("limit: ")
    assert repr(limit) in str(caught.value)


@pytest.mark.parametrize("count", ["internal", "", None])
def test_a_recipient_limit_counts_all_or_external_recipients(count: Any) -> None:
    with pytest.raises(ValueError, match="external") as caught:
        RecipientLimit(5, count=count)
    assert repr(count) in str(caught.value)


MAKERS = [
    lambda reply: RecipientLimit(5, reply=reply),
    lambda reply: MessageRateLimit("5/day", reply=reply),
    lambda reply: RecipientRateLimit("5/day", reply=reply),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("reply", [None, "x", "Slow down, please.", "x" * 400])
def test_a_reply_is_not_changed(make: Any, reply: str | None) -> None:
    assert make(reply).reply == reply


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("reply", "error", "expected"),
    [
        ("", ValueError, "1 to 400 printable ASCII"),
        ("a\r\n250 OK", ValueError, "1 to 400 printable ASCII"),
        ("a\n", ValueError, "1 to 400 printable ASCII"),
        ("a\x00", ValueError, "1 to 400 printable ASCII"),
        ("größer", ValueError, "1 to 400 printable ASCII"),
        ("x" * 401, ValueError, "1 to 400 printable ASCII"),
        (5, TypeError, "a line of text"),
        (b"x", TypeError, "a line of text"),
    ],
)
def test_an_invalid_reply_is_an_error(
    make: Any, reply: Any, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected) as caught:
        make(reply)
    assert str(caught.value).startswith("reply: ")
    assert repr(reply)[:40] in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (RecipientLimit(500), "500 recipients per message"),
        (RecipientLimit(1), "1 recipient per message"),
        (RecipientLimit(1, count="external"), "1 external recipient per message"),
        (MessageRateLimit("1/day"), "1 message per day per sender"),
        (
            RecipientRateLimit("1/2 hours", count="external"),
            "1 external recipient per 2 hours per sender",
        ),
        (RecipientLimit(500, count="external"), "500 external recipients per message"),
        (MessageRateLimit("30/minute"), "30 messages per minute per sender"),
        (RecipientRateLimit("10000/day"), "10000 recipients per day per sender"),
        (
            RecipientRateLimit("50/15 minutes", count="external"),
            "50 external recipients per 15 minutes per sender",
        ),
        (MessageRateLimit("5/hour", scope="global"), "5 messages per hour in all"),
        (
            MessageRateLimit("5/hour", scope=["recipient_domain", "user"]),
            "5 messages per hour per user and recipient domain",
        ),
    ],
)
def test_str_describes_a_limit_in_words(limit: object, text: str) -> None:
    assert str(limit) == text


def test_limits_with_the_same_meaning_are_equal() -> None:
    assert MessageRateLimit("60/minute") == MessageRateLimit("60 per 60 seconds")
    assert hash(MessageRateLimit("60/minute")) == hash(MessageRateLimit("60 per 60 seconds"))
    assert MessageRateLimit("60/minute") != MessageRateLimit("61/minute")
    assert MessageRateLimit("60/minute") != MessageRateLimit("60/hour")
    assert len({MessageRateLimit("60/minute"), RecipientRateLimit("60/minute")}) == 2
    assert MessageRateLimit("60/minute") != MessageRateLimit("60/minute", denied="count")
    assert RecipientLimit(5) == RecipientLimit(5)
    assert RecipientLimit(5) != RecipientLimit(5, count="external")


@pytest.mark.parametrize("limit", [RecipientLimit(5), MessageRateLimit("5/day")])
def test_a_limit_is_frozen(limit: Any) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        limit.count = "external"
    assert limit.count == "all"
