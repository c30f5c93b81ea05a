"""MailingList: who is on it, who may join it, and who may post to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import one_of
from ratelimit_mail.addresses import DomainSet, normal_address, normal_pattern

__all__ = ["MailingList", "Posting"]

Posting = Literal["open", "held", "refused"]
"""What becomes of a message to a list: it goes, waits for a moderator, or never goes."""


def _address(value: object) -> str:
    return _normal("address", value)


def _members(values: object) -> tuple[str, ...]:
    return _several("members", values, lambda value: normal_address(value)[0])


def _posters(values: object) -> tuple[str, ...]:
    return _several("posters", values, _address_or_pattern)


def _moderators(values: object) -> tuple[str, ...]:
    return _several("moderators", values, lambda value: normal_address(value)[0])


def _briefly(values: tuple[str, ...]) -> str:
    if len(values) <= 4:
        return repr(values)
    return f"({', '.join(map(repr, values[:3]))}, ... and {len(values) - 3:,} more)"


def _flag(_: object, attribute: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name}: True or False is needed, not {show(value)}")


@attrs.frozen
class MailingList:
    """One address that stands for many; to a limit it is one recipient, whatever its members.

    address: where one writes to it.
    members: addresses, other lists among them.
    subscription: `"open"`, people may subscribe themselves, or `"closed"`.
    posting: `"open"` to all; `"moderated"`, held for a moderator but from posters; or
        `"named"`, from posters alone.
    posters: who may always post: addresses, or domains as in `"leeds.ac.uk"`, where
        `".leeds.ac.uk"` stands for all its subdomains.
    moderators: addresses that may always post, and subscribe others.
    exempt: whether its traffic is not under the rate limits.

    Raises TypeError or ValueError that names what is wrong, a list that is its own member included.
    """

    address: str = attrs.field(converter=_address)
    members: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_members, repr=_briefly
    )
    subscription: Literal["closed", "open"] = attrs.field(
        default="closed", kw_only=True, validator=one_of("closed", "open")
    )
    posting: Literal["open", "moderated", "named"] = attrs.field(
        default="open", kw_only=True, validator=one_of("open", "moderated", "named")
    )
    posters: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_posters, repr=_briefly
    )
    moderators: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_moderators, repr=_briefly
    )
    exempt: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    _privileged: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    _domains: DomainSet = attrs.field(init=False, repr=False, eq=False)

    @_privileged.default
    def _addresses_that_may_post(self) -> frozenset[str]:
        return frozenset((*self.posters, *self.moderators))

    @_domains.default
    def _domains_that_may_post(self) -> DomainSet:
        return DomainSet(poster for poster in self.posters if "@" not in poster)

    @members.validator
    def _not_itself(self, _: object, members: tuple[str, ...]) -> None:
        if self.address in members:
            raise ValueError(f"members: the list {show(self.address)} contains itself")

    def posting_by(self, sender: str, *also: str) -> Posting:
        """What becomes of a message from `sender`.

        also: who else that is, such as the owner of the address; one that may post is enough.
        Addresses are taken as `addresses.normal_address` writes them, or `"<>"`.
        """
        if self.posting == "open" or any(map(self._may_post, (sender, *also))):
            return "open"
        return "held" if self.posting == "moderated" else "refused"

    def subscribed(self, address: str, by: str | None = None) -> MailingList:
        """The list with one member more; the same where `address` is one already.

        by: who asks for it; left out: whoever runs the list. A moderator may subscribe
            anybody; others only themselves, and only where subscription is open.

        Raises ValueError where `by` may not, or the list would contain itself.
        """
        member = _normal("address", address)
        who = None if by is None else _normal("by", by)
        if who is not None and who not in self.moderators:
            if self.subscription == "closed":
                raise ValueError(
                    f"subscription to {show(self.address)} is closed: {show(who)} cannot subscribe"
                    f" {show(member)}; a moderator or whoever runs the list can"
                )
            if who != member:
                raise ValueError(
                    f"{show(who)} is no moderator of {show(self.address)} and so can subscribe"
                    f" only itself, not {show(member)}"
                )
        if member in self.members:
            return self
        return attrs.evolve(self, members=(*self.members, member))

    def unsubscribed(self, address: str, by: str | None = None) -> MailingList:
        """The list with one member less.

        by: who asks for it; left out: whoever runs the list. A moderator may unsubscribe
            anybody; others themselves, always.

        Raises ValueError where `by` may not, or `address` is no member: it may be one under
        another address, and would go on getting mail.
        """
        member = _normal("address", address)
        who = None if by is None else _normal("by", by)
        if who is not None and who != member and who not in self.moderators:
            raise ValueError(
                f"{show(who)} is no moderator of {show(self.address)} and so can unsubscribe"
                f" only itself, not {show(member)}"
            )
        if member not in self.members:
            raise ValueError(f"{show(member)} is no member of {show(self.address)}")
        return attrs.evolve(self, members=[other for other in self.members if other != member])

    def _may_post(self, sender: str) -> bool:
        if sender in self._privileged:
            return True
        # Asked, a DomainSet keeps the answer: not where it can only be no.
        return bool(self._domains.patterns) and self._domains[sender.rpartition("@")[2]]


def _normal(what: str, value: object) -> str:
    try:
        return normal_address(value)[0]
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None


def _several(what: str, values: object, normal: Callable[[object], str]) -> tuple[str, ...]:
    """Each of `values` once, in its one spelling."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{what}: a list of addresses is needed, not {show(values)}")
    normals: dict[str, Any] = {}
    try:
        normals.update((normal(value), None) for value in values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None
    return tuple(normals)


def _address_or_pattern(value: object) -> str:
    if isinstance(value, str) and "@" in value:
        return normal_address(value)[0]
    return normal_pattern(value)
