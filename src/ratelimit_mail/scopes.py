"""Scopes: what a rate limit is counted per, and the subject that an envelope has in a scope.

A scope is one or several of the words in `SCOPES`. A subject of it is one string, whose messages
are counted together. `Comparison` says which spellings of an address are one subject, and which
addresses of clients. In a cluster, each subject has a tag, and subjects of one tag stand together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import whole_number
from ratelimit_mail.addresses import (
    NULL_SENDER,
    SEPARATORS,
    folded,
    folded_text,
    without_subaddress,
)
from ratelimit_mail.envelope import IPV4_PREFIX, IPV6_PREFIX, Client, Envelope, network_of

if TYPE_CHECKING:
    import attrs

__all__ = [
    "IPV4_PREFIX",
    "IPV6_PREFIX",
    "SCOPES",
    "WITHOUT_CASE",
    "Comparison",
    "Scope",
    "common_shard",
    "envelope_values",
    "is_per_recipient",
    "named_subject",
    "named_values",
    "normal_scope",
    "prefix_length",
    "separators_or_none",
    "split_subject",
    "subject_getter",
    "subject_of",
    "tag_getter",
]

Scope = tuple[str, ...]

SCOPES: Final = (
    "sender",
    "client",
    "user",
    "submitter",
    "sender_domain",
    "recipient",
    "recipient_domain",
    "global",
)
"""What a rate limit may be counted per."""


def normal_scope(value: str | Iterable[str]) -> Scope:
    """Return one word of `SCOPES` or several as a tuple, in the order of `SCOPES`.

    So ("client", "sender") is the same count as ("sender", "client"). Raises TypeError or
    ValueError if `value` is not a scope.
    """
    if not isinstance(value, str | Iterable):
        raise TypeError(f"scope: one of {', '.join(SCOPES)} or several, not {show(value)}")
    words = [value] if isinstance(value, str) else list(value)
    for word in words:
        if word not in SCOPES:
            raise ValueError(f"scope: {show(word)} is not one of {', '.join(SCOPES)}")
    if not words or len(set(words)) < len(words):
        raise ValueError(f"scope: {show(value)} must name at least one, and each once")
    if "global" in words and len(words) > 1:
        raise ValueError(f"scope: {show(value)}: 'global' is one count for all, so it stands alone")
    return tuple(word for word in SCOPES if word in words)


def is_per_recipient(scope: Scope) -> bool:
    """Return whether one envelope has several subjects of `scope`."""
    return "recipient" in scope or "recipient_domain" in scope


def subject_of(scope: Scope, values: Mapping[str, str]) -> str:
    """Return the subject with these values, by the words of `scope`; no two have the same."""
    if len(scope) == 1:
        return values[scope[0]]
    return "".join(f"{len(values[word])}:{values[word]}" for word in scope)


def split_subject(scope: Scope, subject: str) -> dict[str, str]:
    """Return the values that `subject_of` made `subject` of."""
    if len(scope) == 1:
        return {scope[0]: subject}
    values = {}
    for word in scope:
        length, _, rest = subject.partition(":")
        values[word], subject = rest[: int(length)], rest[int(length) :]
    return values


# Which spellings and addresses are one subject.


def prefix_length(most: int) -> Callable[[object, attrs.Attribute[int], object], None]:
    """Return the validator of a prefix length of 1 to `most` bits."""

    def check(_: object, attribute: attrs.Attribute[int], value: object) -> None:
        if not 1 <= whole_number(attribute.name, value) <= most:
            raise ValueError(f"{attribute.name}: {show(value)} is not between 1 and {most}")

    return check


MOST_SEPARATORS: Final = 4


def separators_or_none(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    """Raise TypeError or ValueError if the value is neither None nor separators of subaddresses."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a separator such as '+' is needed, not {show(value)}")
    is_valid = 1 <= len(value) <= MOST_SEPARATORS and len(set(value)) == len(value)
    if not is_valid or not set(value) <= set(SEPARATORS):
        raise ValueError(
            f"{attribute.name}: {show(value)} is not a separator such as '+': 1 to"
            f" {MOST_SEPARATORS} different characters of {SEPARATORS} are needed"
        )


class Comparison:
    """How a policy compares addresses, logins and clients; the same key is the same subject.

    The policy checks its arguments:

    case_sensitive: whether `Kim@uwo.ca` is not `kim@uwo.ca`; holds for logins too.
    subaddress: the characters that may separate a subaddress, such as `"+"`: `kim+shop@uwo.ca` is
        `kim@uwo.ca`. None if there are none.
    ipv4_prefix, ipv6_prefix: how many bits of a client's address say which client it is.
    """

    __slots__ = ("case_sensitive", "ipv4_prefix", "ipv6_prefix", "subaddress")

    def __init__(
        self,
        *,
        case_sensitive: bool = False,
        subaddress: str | None = None,
        ipv4_prefix: int = IPV4_PREFIX,
        ipv6_prefix: int = IPV6_PREFIX,
    ) -> None:
        self.case_sensitive = case_sensitive
        self.subaddress = subaddress
        self.ipv4_prefix = ipv4_prefix
        self.ipv6_prefix = ipv6_prefix

    @property
    def is_prepared(self) -> bool:
        """Whether an envelope has the keys of its addresses at hand."""
        return not self.case_sensitive and self.subaddress is None

    def spelling(self, address: str) -> str:
        """Return the key of an address as it is, with its subaddress."""
        return address if self.case_sensitive else folded(address)

    def address(self, address: str) -> str:
        """Return the key of an address; it is its own key."""
        key = self.spelling(address)
        return key if self.subaddress is None else without_subaddress(key, self.subaddress)

    def login(self, user: str) -> str:
        """Return the key of a login."""
        user = user.strip(" ")
        return user if self.case_sensitive else folded_text(user)

    def network(self, address: str) -> str:
        """Return the network of a client's address, or of that network; it is its own key."""
        written, slash, prefix = address.partition("/")
        client = Client(address=written or None)
        if client.ip is None:
            return ""
        length = self.ipv4_prefix if client.ip.version == 4 else self.ipv6_prefix
        if slash and prefix != str(length):
            raise ValueError(
                f"client: {show(address)} is not one client; a client is the /{length} of its"
                " address, so name an address"
            )
        return network_of(client.ip, self.ipv4_prefix, self.ipv6_prefix)

    def value(self, word: str, value: str) -> str:
        """Return the key of a normal value of a word of SCOPES."""
        if word in ("sender", "recipient"):
            return self.address(value)
        if word == "client":
            return self.network(value)
        if word == "user":
            return self.login(value)
        if word == "submitter":
            kind, _, rest = value.partition(":")
            return f"{kind}:{self.value(kind, rest)}"
        return value

    # What an envelope has. These are methods, and not lambdas, so that a policy can be pickled.

    def recipients(self, envelope: Envelope) -> tuple[str, ...]:
        """Return the keys of the recipients, each once."""
        return tuple(self.domain_of(envelope))

    def domains(self, envelope: Envelope) -> tuple[str, ...]:
        """Return the domain of each of `recipients`; so many recipients count."""
        if self.case_sensitive:
            names, domains = envelope.recipients, envelope.domains
        else:
            names, domains = envelope.folded_recipients, envelope.folded_domains
        if self.subaddress is None or len(names) == 1:
            return domains
        text = "".join(names)
        if not any(separator in text for separator in self.subaddress):
            return domains
        return tuple(self.domain_of(envelope).values())

    def domains_getter(self) -> Callable[[Envelope], tuple[str, ...]]:
        """Return the fastest function that does the same as `domains`."""
        return attrgetter("folded_domains") if self.is_prepared else self.domains

    def getter(self, word: str) -> Callable[[Envelope], str] | None:
        """Return the fastest function from an envelope to its key for a word of SCOPES.

        None for a word of which each recipient has a value of its own. A value that the envelope
        lacks is the empty string, which no other value is.
        """
        prepared: dict[str, Callable[[Envelope], str]] = {
            "sender_domain": attrgetter("sender_domain"),
            "global": _global,
        }
        if self.is_prepared:
            prepared["sender"] = attrgetter("folded_sender")
        if not self.case_sensitive:
            prepared["user"] = attrgetter("client.folded_user")
        if (self.ipv4_prefix, self.ipv6_prefix) == (IPV4_PREFIX, IPV6_PREFIX):
            prepared["client"] = attrgetter("client.network")
        computed: dict[str, Callable[[Envelope], str]] = {
            "sender": self._sender,
            "client": self._client,
            "user": self._user,
            "submitter": self._submitter,
        }
        return prepared.get(word) or computed.get(word)

    def domain_of(self, envelope: Envelope) -> dict[str, str]:
        """Return the domain of each recipient that counts, by the key of its address."""
        if self.case_sensitive:
            names, domains = envelope.recipients, envelope.domains
        else:
            names, domains = envelope.folded_recipients, envelope.folded_domains
        separators = self.subaddress
        if separators is None:
            return dict(zip(names, domains, strict=True))
        return {
            without_subaddress(name, separators): domain
            for name, domain in zip(names, domains, strict=True)
        }

    def _sender(self, envelope: Envelope) -> str:
        name = envelope.sender if self.case_sensitive else envelope.folded_sender
        return name if self.subaddress is None else without_subaddress(name, self.subaddress)

    def _client(self, envelope: Envelope) -> str:
        ip = envelope.client.ip
        return "" if ip is None else network_of(ip, self.ipv4_prefix, self.ipv6_prefix)

    def _user(self, envelope: Envelope) -> str:
        client = envelope.client
        return (client.user or "") if self.case_sensitive else client.folded_user

    def _submitter(self, envelope: Envelope) -> str:
        client = envelope.client
        if client.user is not None:
            return f"user:{client.user if self.case_sensitive else client.folded_user}"
        if (sender := self._sender(envelope)) != NULL_SENDER:
            return f"sender:{sender}"
        if network := self._client(envelope):
            return f"client:{network}"
        # A bounce of which only the recipients are known, nearly always one address.
        return f"recipient:{min(self.recipients(envelope))}"


WITHOUT_CASE: Final = Comparison()
"""How most policies compare."""


def _global(_: Envelope) -> str:
    return ""


# The subject of an envelope.


def envelope_values(
    scope: Scope, envelope: Envelope, comparison: Comparison = WITHOUT_CASE
) -> dict[str, str]:
    """Return the keys of `envelope` for the words of `scope`, those of recipients left out."""
    getters = ((word, comparison.getter(word)) for word in scope)
    return {word: getter(envelope) for word, getter in getters if getter is not None}


def subject_getter(
    scope: Scope, comparison: Comparison = WITHOUT_CASE
) -> Callable[[Envelope], str]:
    """Return the function from an envelope to its subject, for a scope without recipients."""
    getters = {word: getter for word in scope if (getter := comparison.getter(word)) is not None}
    if len(scope) == 1:
        return getters[scope[0]]
    return partial(_combined_subject, scope, getters)


def _combined_subject(
    scope: Scope, getters: Mapping[str, Callable[[Envelope], str]], envelope: Envelope
) -> str:
    return subject_of(scope, {word: getter(envelope) for word, getter in getters.items()})


# The subject that a caller names.


def _client(value: str) -> str:
    address, slash, prefix = value.partition("/")
    normal = Client(address=address or None).address or ""
    return f"{normal}{slash}{prefix}"


def _user(value: str) -> str:
    return Client(user=value or None).user or ""


def _submitter(value: str) -> str:
    kind, _, rest = value.partition(":")
    if kind not in SUBMITTERS or not rest:
        raise ValueError(
            f"{show(value)} does not name a submitter such as 'user:ann', 'sender:ann@uwo.ca',"
            " 'client:10.1.2.3' or 'recipient:bob@example.com'"
        )
    return f"{kind}:{_normal(kind, rest)}"


SUBMITTERS: Final = ("user", "sender", "client", "recipient")
"""What may be known of a submitter, the surest first: its subjects begin with the word."""


def _normal(word: str, value: str) -> str:
    """Return the normal value for a word of `SCOPES` that a caller wrote."""
    if word == "client":
        return _client(value)
    if word == "user":
        return _user(value)
    if word == "submitter":
        return _submitter(value)
    # Imported here, because few programs name subjects.
    from ratelimit_mail.smtp_addresses import subject_address, subject_domain, subject_sender

    if word == "sender":
        return subject_sender(value)
    if word == "recipient":
        return subject_address(value)
    if word == "sender_domain" and value in ("", NULL_SENDER):
        return NULL_SENDER
    return subject_domain(value)


def named_values(scope: str | Sequence[str], value: str | Sequence[str] | None) -> dict[str, str]:
    """Return the normal value for each word of `scope`, by which a caller names one subject.

    The empty string names the null sender, and the subject of envelopes without a client address
    or user. Raises TypeError or ValueError if `value` does not name one subject.
    """
    ordered = normal_scope(scope)
    words = (scope,) if isinstance(scope, str) else tuple(scope)
    if ordered == ("global",):
        if value is not None:
            raise ValueError(f"the scope 'global' is one count for all; leave {show(value)} out")
        return {"global": ""}
    values = (value,) if isinstance(value, str) else () if value is None else value
    if isinstance(values, bytes) or not isinstance(values, Sequence):
        raise TypeError(f"a subject is named by a string, or by several, not {show(value)}")
    for each in values:
        if not isinstance(each, str):
            raise TypeError(f"each part of a subject is a string, not {show(each)}")
    if len(values) != len(words):
        raise ValueError(
            f"{show(value)} does not name one subject of the scope {' and '.join(words)}"
        )
    return {word: _normal(word, each) for word, each in zip(words, values, strict=True)}


def named_subject(
    scope: str | Sequence[str],
    value: str | Sequence[str] | None,
    comparison: Comparison = WITHOUT_CASE,
) -> str:
    """Return the subject that a caller names by one value for each word of `scope`, in its order.

    Raises as `named_values` does.
    """
    values = named_values(scope, value)
    return subject_of(
        normal_scope(scope), {word: comparison.value(word, each) for word, each in values.items()}
    )


# Sharding: subjects with the same tag stand together on one node of a cluster.

_IMPLIED_BY: Final = {"sender_domain": "sender", "recipient_domain": "recipient"}
"""The word whose value determines another word's: an address has one domain."""


def determines(scope: Scope, word: str) -> bool:
    """Return whether a subject of `scope` determines the value of `word`."""
    return word == "global" or word in scope or _IMPLIED_BY.get(word) in scope


def common_shard(scopes: Collection[Scope]) -> str | None:
    """Return the narrowest word of SCOPES that all of `scopes` determine; None if there is none.

    It is never "global": that all counts stand together must be asked for.
    """
    for word in (*(word for word in SCOPES if word not in _IMPLIED_BY), *_IMPLIED_BY):
        if word != "global" and scopes and all(determines(scope, word) for scope in scopes):
            return word
    return None


def tag_getter(scope: Scope, shard: str | None) -> Callable[[str], str] | None:
    """Return the function from a subject of `scope` to its tag; None if the subject is the tag.

    shard: the word of SCOPES by which counts are spread; subjects with one value of it have one
        tag.
    """
    if shard is None or scope == (shard,) or not determines(scope, shard):
        return None
    if shard == "global":
        return _global_tag
    return partial(_value_in, scope, shard)


def _global_tag(_: str) -> str:
    return ""


def _value_in(scope: Scope, word: str, subject: str) -> str:
    values = split_subject(scope, subject)
    if word in values:
        return values[word]
    address = values[_IMPLIED_BY[word]]
    return address if address == NULL_SENDER else address.rpartition("@")[2]
