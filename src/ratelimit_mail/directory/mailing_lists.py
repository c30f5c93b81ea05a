"""MailingList: the members of a mailing list, who may join it, and who may post to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import flag, one_of, prefix_errors
from ratelimit_mail.addresses import DomainSet, folded, normal_address, normal_pattern
from ratelimit_mail.scopes import WITHOUT_CASE, Comparison

__all__ = ["MailingList", "Posting"]

Posting = Literal["open", "held", "refused"]
"""What happens to a message to a list: it is sent, waits for a moderator, or is refused."""


def _address(value: str) -> str:
    return _normal("address", value)


def _members(values: Iterable[str]) -> tuple[str, ...]:
    return _each_once("members", values, lambda value: normal_address(value)[0])


def _posters(values: Iterable[str]) -> tuple[str, ...]:
    return _each_once("posters", values, _address_or_pattern)


def _moderators(values: Iterable[str]) -> tuple[str, ...]:
    return _each_once("moderators", values, lambda value: normal_address(value)[0])


def _normal(field: str, value: str) -> str:
    with prefix_errors(field):
        return normal_address(value)[0]


def _each_once(field: str, values: Iterable[str], normal: Callable[[str], str]) -> tuple[str, ...]:
    """Return the normal form of `values`, each once, in their order."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{field}: a list of addresses is needed, not {show(values)}")
    with prefix_errors(field):
        return tuple(dict.fromkeys(map(normal, values)))


def _address_or_pattern(value: str) -> str:
    if isinstance(value, str) and "@" in value:
        return normal_address(value)[0]
    return normal_pattern(value)


def _has(addresses: tuple[str, ...], address: str) -> bool:
    """Return whether `address` is among `addresses`, in whatever case its letters are."""
    return address in addresses or folded(address) in map(folded, addresses)


def _short_tuple(values: tuple[str, ...]) -> str:
    if len(values) <= 4:
        return repr(values)
    return f"({', '.join(map(repr, values[:3]))}, ... and {len(values) - 3:,} more)"


@attrs.frozen
class MailingList:
    """A mailing list: one address for many members, and always one recipient to a limit.

    address: the address that messages to the list are sent to.
    members: addresses, which may be those of other lists.
    subscription: `"open"` if people may subscribe themselves, or `"closed"`.
    posting: `"open"` to every sender; `"moderated"`, where a message is held for a moderator
        unless a poster sent it; or `"named"`, where only posters may post.
    posters: the senders that may always post: addresses, or domains as in `"leeds.ac.uk"`;
        `".leeds.ac.uk"` stands for all its subdomains.
    moderators: addresses that may always post, and may subscribe other people.
    exempt: whether its traffic is not under the rate limits.

    Addresses are stored as written, and are found in any case of their letters.

    Raises TypeError or ValueError that names what is wrong, also for a list that is its own member.
    """

    address: str = attrs.field(converter=_address)
    members: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_members, repr=_short_tuple
    )
    subscription: Literal["closed", "open"] = attrs.field(
        default="closed", kw_only=True, validator=one_of("closed", "open")
    )
    posting: Literal["open", "moderated", "named"] = attrs.field(
        default="open", kw_only=True, validator=one_of("open", "moderated", "named")
    )
    posters: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_posters, repr=_short_tuple
    )
    moderators: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_moderators, repr=_short_tuple
    )
    exempt: bool = attrs.field(default=False, kw_only=True, validator=flag)
    _privileged: dict[Comparison, frozenset[str]] = attrs.field(
        init=False, factory=dict, repr=False, eq=False
    )
    """The keys of the addresses that may always post, by how they are compared."""
    _domains: DomainSet = attrs.field(init=False, repr=False, eq=False)

    @_domains.default
    def _domains_that_may_post(self) -> DomainSet:
        return DomainSet(poster for poster in self.posters if "@" not in poster)

    @members.validator
    def _not_itself(self, _: object, members: tuple[str, ...]) -> None:
        if _has(members, self.address):
            raise ValueError(f"members: the list {show(self.address)} contains itself")

    def posting_by(self, sender: str, *also: str, comparison: Comparison = WITHOUT_CASE) -> Posting:
        """Return what happens to a message from `sender`.

        also: other addresses of the same sender, such as the owner of an alias; it is enough if
            one of them may post. Addresses are as `addresses.normal_address` writes them, or
            `"<>"`.
        comparison: how addresses are compared.
        """
        if self.posting == "open" or any(
            self._may_post(each, comparison) for each in (sender, *also)
        ):
            return "open"
        return "held" if self.posting == "moderated" else "refused"

    def subscribed(self, address: str, by: str | None = None) -> MailingList:
        """Return the list with one more member; the same list if `address` is a member already.

        by: the address that asks for it; left out: the administrator of the list. A moderator
            may subscribe any address; other people may subscribe only themselves, and only if
            subscription is open.

        Raises ValueError if `by` may not do so, or the list would contain itself.
        """
        member = self.check_subscribing(address, by)
        if _has(self.members, member):
            return self
        return attrs.evolve(self, members=(*self.members, member))

    def check_subscribing(self, address: str, by: str | None = None) -> str:
        """Return `address` as it is stored. Raise ValueError if `by` may not subscribe it."""
        member = _normal("address", address)
        requester = None if by is None else _normal("by", by)
        if requester is not None and not _has(self.moderators, requester):
            if self.subscription == "closed":
                raise ValueError(
                    f"subscription to {show(self.address)} is closed: {show(requester)} cannot"
                    f" subscribe {show(member)}; a moderator or the list's administrator can"
                )
            if folded(requester) != folded(member):
                raise ValueError(
                    f"{show(requester)} is not a moderator of {show(self.address)} and so can"
                    f" subscribe only itself, not {show(member)}"
                )
        return member

    def unsubscribed(self, address: str, by: str | None = None) -> MailingList:
        """Return the list without the member `address`.

        by: the address that asks for it; left out: the administrator of the list. A moderator
            may unsubscribe any address; other people may always unsubscribe themselves.

        Raises ValueError if `by` may not do so, or if `address` is not a member: the person may
        be a member under another address, and would go on receiving mail.
        """
        member = self.check_unsubscribing(address, by)
        if not _has(self.members, member):
            raise ValueError(f"{show(member)} is not a member of {show(self.address)}")
        key = folded(member)
        return attrs.evolve(self, members=[each for each in self.members if folded(each) != key])

    def check_unsubscribing(self, address: str, by: str | None = None) -> str:
        """Return `address` as it is stored. Raise ValueError if `by` may not unsubscribe it."""
        member = _normal("address", address)
        requester = None if by is None else _normal("by", by)
        if (
            requester is not None
            and folded(requester) != folded(member)
            and not _has(self.moderators, requester)
        ):
            raise ValueError(
                f"{show(requester)} is not a moderator of {show(self.address)} and so can"
                f" unsubscribe only itself, not {show(member)}"
            )
        return member

    def _may_post(self, sender: str, comparison: Comparison) -> bool:
        privileged = self._privileged.get(comparison)
        if privileged is None:
            addresses = (each for each in (*self.posters, *self.moderators) if "@" in each)
            privileged = self._privileged[comparison] = frozenset(
                map(comparison.address, addresses)
            )
        if comparison.address(sender) in privileged:
            return True
        # A DomainSet stores each answer: do not fill it where there are no domains to match.
        return bool(self._domains.patterns) and self._domains[sender.rpartition("@")[2]]
