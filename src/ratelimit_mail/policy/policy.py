"""Policy: the limits of one institution or provider, and what they charge a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import attrs

from ratelimit_mail._util.text import short_repr, show
from ratelimit_mail._util.validators import flag, name, name_or_none
from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.concessions import TargetIndex
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limits import Limit, RateLimit, limits_from
from ratelimit_mail.policy import validation
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits
from ratelimit_mail.policy.ledger_keys import queue_of, retentions_of
from ratelimit_mail.policy.resolved_envelope import ResolvedEnvelope
from ratelimit_mail.policy.selection import LimitSelector
from ratelimit_mail.scopes import (
    IPV4_PREFIX,
    IPV6_PREFIX,
    Comparison,
    common_shard,
    named_values,
    normal_scope,
    prefix_length,
    separators_or_none,
    subject_of,
)

if TYPE_CHECKING:
    from ratelimit_mail.directory import DirectoryLike
    from ratelimit_mail.overrides import Exemption, Grant, Override
    from ratelimit_mail.policy.directory_lookup import DirectoryLookup
    from ratelimit_mail.policy.tiers import Tier

__all__ = ["Policy"]


@attrs.frozen(kw_only=True)
class Policy:
    """The limits of one institution or provider.

    name: the name under which messages are counted; policies with the same name share their counts.
    limits: the limits of all clients.
    tiers: classes of clients with limits of their own; a client is in the first tier whose
        condition holds.
    internal_domains: the domains that are not external; `".uwo.ca"` means all subdomains of
        `uwo.ca`.
    case_sensitive: whether `Kim@uwo.ca` and `kim@uwo.ca` are two senders or recipients; by default
        they are one. This applies to logins too. Domains are always compared without case.
    subaddress: the characters that separate a subaddress, such as `"+"`: `kim+shop@uwo.ca` is then
        `kim@uwo.ca`. By default it is an address of its own.
    ipv4_prefix, ipv6_prefix: how many bits of an address identify a client: by default all 32 of
        an IPv4 address, and 64 of an IPv6 address.
    overrides: different numbers for some senders or clients; for each limit, the first override
        that holds applies.
    override_requires: the fields that each override must have, such as `"reason"` and
        `"expected_recipients"`.
    exemptions: senders or clients that all limits, or some of them, do not apply to.
    grants: the senders or clients that may send; left out: all; an empty list: none yet.
    directory: the aliases with their owners, and the mailing lists: a `Directory`, or any
        object with its methods `owner` and `mailing_list`.
    proxy_address_limit: the most aliases that one owner may have in a `Directory`.
    partial: whether each recipient of incoming mail gets a decision of its own; outgoing mail is
        always all or nothing.
    per_node: whether each mail server counts separately, under the node name of its limiter.
    node: the name of this mail server, if each counts separately.
    shard_by: for a Redis Cluster, the scope by which counts are spread over its nodes, such as
        `"sender"`; counts from whose scope it can be derived are stored together, and `"global"`
        puts all counts together. Left out: the narrowest scope that can be derived from the scope
        of every limit, if there is one.

    Raises ValueError or TypeError for an invalid policy, including a tier that can never be
    reached and an override of a limit that does not exist.
    """

    name: str = attrs.field(validator=name)
    limits: tuple[Limit, ...] = attrs.field(default=(), converter=limits_from)
    tiers: tuple[Tier, ...] = attrs.field(default=(), converter=validation.tiers)
    internal_domains: tuple[str, ...] = attrs.field(default=(), converter=validation.domains)
    case_sensitive: bool = attrs.field(default=False, validator=flag)
    subaddress: str | None = attrs.field(default=None, validator=separators_or_none)
    ipv4_prefix: int = attrs.field(default=IPV4_PREFIX, validator=prefix_length(32))
    ipv6_prefix: int = attrs.field(default=IPV6_PREFIX, validator=prefix_length(128))
    overrides: tuple[Override, ...] = attrs.field(default=(), converter=validation.overrides)
    override_requires: tuple[str, ...] = attrs.field(
        default=(), converter=validation.override_requires
    )
    exemptions: tuple[Exemption, ...] = attrs.field(default=(), converter=validation.exemptions)
    grants: tuple[Grant, ...] | None = attrs.field(default=None, converter=validation.grants)
    directory: DirectoryLike | None = attrs.field(
        default=None, validator=validation.directory_or_none
    )
    proxy_address_limit: int | None = attrs.field(
        default=None, validator=validation.alias_count_or_none
    )
    partial: bool = attrs.field(default=False, validator=flag)
    per_node: bool = attrs.field(default=False, validator=flag)
    node: str | None = attrs.field(default=None, validator=name_or_none)
    shard_by: str | None = attrs.field(default=None, validator=validation.scope_or_none)
    comparison: Comparison = attrs.field(init=False, repr=False, eq=False)
    """How addresses, logins and clients are compared."""
    _lookup: DirectoryLookup | None = attrs.field(init=False, repr=False, eq=False)
    _selector: LimitSelector = attrs.field(init=False, repr=False, eq=False)

    @comparison.default
    def _comparison(self) -> Comparison:
        return Comparison(
            case_sensitive=self.case_sensitive,
            subaddress=self.subaddress,
            ipv4_prefix=self.ipv4_prefix,
            ipv6_prefix=self.ipv6_prefix,
        )

    @tiers.validator
    def _reachable(self, _: object, tiers: tuple[Tier, ...]) -> None:
        if tiers:
            from ratelimit_mail.policy.tiers import check_tiers

            check_tiers(tiers)

    def __attrs_post_init__(self) -> None:
        if self.node is not None and not self.per_node:
            raise ValueError(
                f"node: {show(self.node)}: the policy {self.name!r} counts all servers together;"
                " with per_node=True each counts on its own"
            )
        validation.check_size(self.limits, self.tiers, self.overrides)
        validation.check_names(self._own_limits(), self.overrides, self.exemptions)
        validation.check_override_fields(self.overrides, self.override_requires, self.name)
        validation.check_aliases(self.directory, self.proxy_address_limit, self.name)
        comparison = self.comparison
        lookup = None if self.directory is None else _lookup_in(self.directory, comparison)
        object.__setattr__(self, "_lookup", lookup)
        selector = LimitSelector(
            self.counted_as,
            self.limits,
            self.tiers,
            overrides=TargetIndex(self.overrides, comparison),
            exemptions=TargetIndex(self.exemptions, comparison),
            grants=None if self.grants is None else TargetIndex(self.grants, comparison),
            internal=DomainSet(self.internal_domains, with_local=True),
            retentions=retentions_of(self.all_limits),
            shard=self.shard,
            comparison=comparison,
        )
        object.__setattr__(self, "_selector", selector)

    __repr__ = short_repr

    def at_node(self, node: str | None) -> Policy:
        """Return the policy by which one server counts; left out, the host's name is the server's.

        node: the name of the server.

        Raises ValueError if a server is named, and the policy counts all servers together.
        """
        if not self.per_node:
            return self if node is None else self.evolve(node=node)
        if node is None and self.node is None:
            import socket  # slow to import, and few policies count per node

            node = socket.gethostname()[:64]
        return self if node is None else self.evolve(node=node)

    def evolve(self, **changes: Any) -> Policy:
        """Return the policy with `changes` to its fields."""
        return attrs.evolve(self, **changes)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Return the policy in a TOML file.

        path: of the file.

        Raises PolicyFileError that names file, table and key of all that is wrong, and
        ModuleNotFoundError without the extra `ratelimit-mail[files]`.
        """
        from ratelimit_mail.policy import files  # few programs need it

        return files.load(cls, path)

    @classmethod
    def loads(cls, text: str) -> Self:
        """Return the policy in the text of a policy file. Raises as `load` does.

        The names of other files in it are relative to the working directory.
        """
        from ratelimit_mail.policy import files

        return files.loads(cls, text)

    def dump(self) -> str:
        """Return the text of a policy file from which `load` makes an equal policy.

        Raises PolicyFileError for what a file cannot hold: a condition or a directory of your own.
        """
        from ratelimit_mail.policy import files

        return files.dump(self)

    def _own_limits(self) -> tuple[Limit, ...]:
        return self.limits + tuple(limit for tier in self.tiers for limit in tier.limits)

    @property
    def all_limits(self) -> tuple[Limit, ...]:
        """The common limits, those of every tier, and all of these with each override applied."""
        own = self._own_limits()
        named: dict[str | None, list[int]] = {}
        for position, limit in enumerate(own):
            named.setdefault(limit.name, []).append(position)
        overridden = (
            each.applied_to(own[position])
            for each in self.overrides
            for position in sorted(p for name in each.limits for p in named.get(name, ()))
        )
        return tuple(dict.fromkeys((*own, *overridden)))

    @property
    def counted_as(self) -> str:
        """The name under which messages are counted: the policy's, and the node's if it has one."""
        return f"{self.name}/{self.node}" if self.per_node and self.node else self.name

    @property
    def shard(self) -> str | None:
        """The scope by which a cluster spreads the counts; None if each count stands on its own."""
        limits = (limit for limit in self._own_limits() if limit.enforce)
        scopes = {limit.scope for limit in limits if isinstance(limit, RateLimit)}
        return self.shard_by or common_shard(scopes)

    def queue(self, *, shadow: bool = False) -> Ledger:
        """Return the ledger of each sender's bookings, or of those for limits that only report.

        shadow: whether those for limits that only report are meant.
        """
        name = f"{self.counted_as}:shadow" if shadow else self.counted_as
        return queue_of(name, self._selector.retentions, self._selector.shard)

    def effective_limits(
        self, client: Client, sender: str | None = None, now: int = 0
    ) -> EffectiveLimits:
        """Return the limits that apply to `client`: the common ones and those of its tier.

        sender: the sender whose overrides and exemptions are applied.
        now: milliseconds since the epoch, for overrides and exemptions that have dates.
        """
        senders = () if sender is None else (sender, self.owner(sender))
        return self._selector.select(client, senders, now)

    def ledgers_of(self, scope: tuple[str, ...]) -> list[Ledger]:
        """Return the ledgers in which the policy counts per `scope`, in any tier."""
        effective = list(self._selector.by_tier.values())
        effective += [each.shadow for each in effective if each.shadow is not None]
        ledgers = (ledger for each in effective for ledger in each.ledgers_of(scope))
        return list({ledger.name: ledger for ledger in ledgers}.values())

    def owner(self, address: str) -> str:
        """Return the owner of the alias `address`; `address` if it is not an alias."""
        return address if self._lookup is None else self._lookup.owner(address)

    def holding_lists(self, envelope: Envelope) -> tuple[str, ...]:
        """Return the addresses of the mailing lists whose moderators must approve a message.

        envelope: the message.
        """
        return () if self._lookup is None else self._lookup.holding_lists(envelope)

    def is_moderator(self, address: str, mailing_list: str) -> bool:
        """Return whether an address, or the owner of that alias, moderates a mailing list.

        mailing_list: the address of the list.
        """
        rules = None if self._lookup is None else self._lookup.mailing_list(mailing_list)
        if rules is None:
            return False
        moderators = {self.comparison.address(self.owner(each)) for each in rules.moderators}
        return self.comparison.address(self.owner(address)) in moderators

    def sender_subject(self, envelope: Envelope) -> str:
        """Return the sender of `envelope` as counts per sender name it."""
        return self.comparison.address(self.owner(envelope.sender))

    def subject(
        self, scope: str | Sequence[str], value: str | Sequence[str] | None
    ) -> tuple[str, str | None]:
        """Return the subject of `scope` that a caller names, and the sender that it includes.

        scope: what is counted per.
        value: for that, such as an address; one for each word of the scope.

        In the subject, an alias is replaced by its owner; in the sender it is not.
        """
        values = named_values(scope, value)
        sender = values.get("sender")
        for word, each in values.items():
            if word in ("sender", "recipient"):
                each = self.owner(each)
            elif word == "submitter":
                kind, _, name = each.partition(":")
                if kind == "sender":
                    sender = sender or name
                    each = f"sender:{self.owner(name)}"
            values[word] = self.comparison.value(word, each)
        return subject_of(normal_scope(scope), values), sender

    def resolved(self, envelope: Envelope) -> ResolvedEnvelope:
        """Return `envelope` after its addresses were looked up in the directory, if any."""
        if self._lookup is None:
            return ResolvedEnvelope(envelope, frozenset(), None)
        return self._lookup.resolve(envelope)

    def plan(self, envelope: Envelope, now: int = 0) -> ChargePlan:
        """Return the charges of `envelope`, or the limit or rule under which it can never be sent.

        now: milliseconds since the epoch, for overrides, exemptions and grants that have dates.

        It is pure if the directory is: the same envelope at the same time always has the same
        plan. Raises TypeError if `envelope` is not an Envelope.
        """
        if not isinstance(envelope, Envelope):
            raise TypeError(f"an Envelope is needed, not {show(envelope)}")
        resolved = self.resolved(envelope)
        senders = (resolved.envelope.sender, envelope.sender)
        effective = self._selector.select(envelope.client, senders, now)
        if envelope.direction == "outbound" and not self._selector.may_send(
            envelope.client, senders, now
        ):
            from ratelimit_mail.rules import not_granted  # few policies require grants

            return ChargePlan(effective, [], not_granted())
        plan = effective.plan(resolved.envelope, resolved.exempt)
        if resolved.rule is not None and (plan.never is None or resolved.rule.action == "reject"):
            return ChargePlan(effective, [], resolved.rule)
        if effective.shadow is not None:
            shadow = effective.shadow.plan(resolved.envelope, resolved.exempt)
            return plan._replace(shadow=shadow)
        return plan

    def expecting_overrides(self, envelope: Envelope, now: int) -> dict[int, Override]:
        """Return the overrides with an expected number of recipients that apply to `envelope`.

        now: in milliseconds since the epoch; an override that has not begun, or that has ended,
            does not apply.

        They are returned by their position in `overrides`.
        """
        senders = (self.owner(envelope.sender), envelope.sender)
        return self._selector.expecting_overrides(envelope.client, senders, now)

    @property
    def blocks_on_excess(self) -> bool:
        """Whether a message above a limit leads to a block of its subject."""
        return any(
            limit.on_excess == "block"
            for limit in self._own_limits()  # an override changes only the number of a limit
            if isinstance(limit, RateLimit) and limit.enforce
        )

    @property
    def counts_bytes(self) -> bool:
        """Whether it has a limit on bytes, for which every envelope needs its size."""
        return self._selector.counts_bytes

    @property
    def has_dates(self) -> bool:
        """Whether its plans depend on the time: of overrides, exemptions and grants with dates."""
        return self._selector.has_dates

    @property
    def has_shadow(self) -> bool:
        """Whether it has limits that only report."""
        return self._selector.has_shadow

    @property
    def selector_by_sender(self) -> LimitSelector | None:
        """What selects the limits of most messages by the client's tier alone, if anything does.

        Its `names_sender` says for which messages it may select other limits.
        """
        if self.directory is not None or not self._selector.concedes_by_sender:
            return None
        return self._selector

    def planner(self, present: Callable[[], int]) -> Callable[[Envelope], ChargePlan]:
        """Return the fastest function that does the same as `plan`.

        present: returns the time in milliseconds since the epoch; called only if it matters.
        """
        selector = self._selector
        plan = partial(_plan_at, self.plan, present) if selector.has_dates else self.plan
        if self.selector_by_sender is None or selector.has_shadow:
            return plan
        quick = selector.plan_by_tier if self.tiers else selector.by_tier.default.plan
        return partial(_plan_by_sender, selector, plan, quick) if selector.concedes else quick


def _lookup_in(directory: DirectoryLike, comparison: Comparison) -> DirectoryLookup:
    from ratelimit_mail.policy.directory_lookup import DirectoryLookup  # few policies need it

    return DirectoryLookup(directory, comparison)


def _plan_at(
    plan: Callable[[Envelope, int], ChargePlan], present: Callable[[], int], envelope: Envelope
) -> ChargePlan:
    return plan(envelope, present())


def _plan_by_sender(
    selector: LimitSelector,
    plan: Callable[[Envelope], ChargePlan],
    quick: Callable[[Envelope], ChargePlan],
    envelope: Envelope,
) -> ChargePlan:
    if not isinstance(envelope, Envelope) or selector.names_sender(envelope):
        return plan(envelope)
    return quick(envelope)
