"""Policy: the limits of one institution or provider, who meets which, and who is excepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Self

import attrs

from ratelimit_mail._util.text import short_repr, show
from ratelimit_mail._util.validators import flag, name, name_or_none
from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.decision import not_granted
from ratelimit_mail.directory import DirectoryLike
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.overrides import Exemption, Grant, Override, TargetIndex
from ratelimit_mail.policy import validation as given
from ratelimit_mail.policy.charges import EffectiveLimits, Plan
from ratelimit_mail.policy.directory_lookup import ResolvedEnvelope, owner_of, resolve
from ratelimit_mail.policy.ledger_keys import queue_of, retentions_of
from ratelimit_mail.policy.selection import LimitSelector
from ratelimit_mail.policy.tiers import Tier, check_tiers, limits_from
from ratelimit_mail.scopes import common_shard, named_subject, normal_scope, parts_of, subject_of

__all__ = ["Policy", "Tier"]


@attrs.frozen(kw_only=True)
class Policy:
    """The limits of one institution or provider.

    name: what its counts are kept under; two policies of one name share their counts.
    limits: what everybody meets.
    tiers: classes of clients with limits of their own; the first that holds is the one.
    internal_domains: what is not external; `".uwo.ca"` stands for all subdomains of `uwo.ca`.
    overrides: other numbers for some; of several for one limit, the first that holds.
    exemptions: whom it leaves alone.
    grants: who may send at all; left out: everybody; an empty list: nobody yet.
    directory: whose alias an address is, and which are mailing lists: a `Directory`, or any
        object with its methods `owner` and `mailing_list`.
    proxy_address_limit: the most aliases that one owner may have in a `Directory`.
    partial: mail that arrives is decided on recipient by recipient; what goes out never is.
    per_node: each mail server counts on its own, under the name that its limiter gives.
    node: the server that counts, where each does on its own.
    shard_by: for a Redis Cluster, the scope by which counts are spread over its nodes, such as
        `"sender"`; counts whose scope tells it stand together, and `"global"` keeps all of them
        together. Left out: the narrowest that every limit's scope tells, if there is one.

    Raises ValueError or TypeError for what could not work, a tier that can never be
    reached and an override of a limit that does not exist included.
    """

    name: str = attrs.field(validator=name)
    limits: tuple[Limit, ...] = attrs.field(default=(), converter=limits_from)
    tiers: tuple[Tier, ...] = attrs.field(default=(), converter=given.tiers)
    internal_domains: tuple[str, ...] = attrs.field(default=(), converter=given.domains)
    overrides: tuple[Override, ...] = attrs.field(default=(), converter=given.overrides)
    exemptions: tuple[Exemption, ...] = attrs.field(default=(), converter=given.exemptions)
    grants: tuple[Grant, ...] | None = attrs.field(default=None, converter=given.grants)
    directory: DirectoryLike | None = attrs.field(default=None, validator=given.directory_or_none)
    proxy_address_limit: int | None = attrs.field(default=None, validator=given.number_of_aliases)
    partial: bool = attrs.field(default=False, validator=flag)
    per_node: bool = attrs.field(default=False, validator=flag)
    node: str | None = attrs.field(default=None, validator=name_or_none)
    shard_by: str | None = attrs.field(default=None, validator=given.scope_or_none)
    _selector: LimitSelector = attrs.field(init=False, repr=False, eq=False)

    @tiers.validator
    def _reachable(self, _: object, tiers: tuple[Tier, ...]) -> None:
        check_tiers(tiers)

    def __attrs_post_init__(self) -> None:
        if self.node is not None and not self.per_node:
            raise ValueError(
                f"node: {show(self.node)}: the policy {self.name!r} counts all servers together;"
                " with per_node=True each counts on its own"
            )
        given.check_names(self._own_limits(), self.overrides, self.exemptions)
        given.check_aliases(self.directory, self.proxy_address_limit, self.name)
        selector = LimitSelector(
            self.counted_as,
            self.limits,
            self.tiers,
            TargetIndex(self.overrides),
            TargetIndex(self.exemptions),
            None if self.grants is None else TargetIndex(self.grants),
            DomainSet(self.internal_domains, with_local=True),
            retentions_of(self.all_limits),
            self.shard,
        )
        object.__setattr__(self, "_selector", selector)

    __repr__ = short_repr

    def at_node(self, node: str | None) -> Policy:
        """The same policy as one server counts by; left out, the host's name is the server's.

        Raises ValueError for a server where the policy counts all of them together.
        """
        if not self.per_node:
            return self if node is None else self.evolve(node=node)
        if node is None and self.node is None:
            import socket  # slow to import, and few count so

            node = socket.gethostname()[:64]
        return self if node is None else self.evolve(node=node)

    def evolve(self, **changes: Any) -> Policy:
        """The same policy with other values."""
        return attrs.evolve(self, **changes)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """The policy in a TOML file.

        Raises PolicyFileError that names file, table and key of all that is wrong, and
        ModuleNotFoundError without the extra `ratelimit-mail[files]`.
        """
        from ratelimit_mail.policy import files  # which few need

        return files.load(cls, path)

    @classmethod
    def loads(cls, text: str) -> Self:
        """The policy in the text of a policy file; other files are sought from the working
        directory on. Raises as `load` does."""
        from ratelimit_mail.policy import files

        return files.loads(cls, text)

    def dump(self) -> str:
        """The text of a policy file that `load` makes an equal policy of.

        Raises PolicyFileError for what no file can hold: a condition or a directory of your own.
        """
        from ratelimit_mail.policy import files

        return files.dump(self)

    def _own_limits(self) -> tuple[Limit, ...]:
        return self.limits + tuple(limit for tier in self.tiers for limit in tier.limits)

    @property
    def all_limits(self) -> tuple[Limit, ...]:
        """The common limits, those of every tier, and what overrides make of them."""
        own = self._own_limits()
        overridden = (
            each.applied_to(limit)
            for each in self.overrides
            for limit in own
            if limit.name in each.limits
        )
        return tuple(dict.fromkeys((*own, *overridden)))

    @property
    def counted_as(self) -> str:
        """What the counts are kept under."""
        return f"{self.name}/{self.node}" if self.per_node and self.node else self.name

    @property
    def shard(self) -> str | None:
        """The scope by which a cluster spreads the counts; None where each stands on its own."""
        limits = (limit for limit in self._own_limits() if limit.enforce)
        scopes = {limit.scope for limit in limits if isinstance(limit, RateLimit)}
        return self.shard_by or common_shard(scopes)

    def queue(self, *, shadow: bool = False) -> Ledger:
        """The ledger of each sender's bookings, or of those for limits that only report."""
        name = f"{self.counted_as}:shadow" if shadow else self.counted_as
        return queue_of(name, self._selector.retentions, self._selector.shard)

    def sheet(self, client: Client, sender: str | None = None, now: int = 0) -> EffectiveLimits:
        """What `client` meets: the common limits and those of its tier.

        sender: whose overrides and exemptions hold. now: milliseconds since the epoch, for those
            that have dates.
        """
        senders = () if sender is None else (sender, self.owner(sender))
        return self._selector.sheet(client, senders, now)

    def ledgers_of(self, scope: tuple[str, ...]) -> list[Ledger]:
        """What the policy counts per `scope`, in whatever tier."""
        sheets = [self._selector.common, *(sheet for _, sheet in self._selector.of_tiers)]
        sheets += [sheet.shadow for sheet in sheets if sheet.shadow is not None]
        ledgers = (ledger for sheet in sheets for ledger in sheet.ledgers_of(scope))
        return list({ledger.name: ledger for ledger in ledgers}.values())

    def owner(self, address: str) -> str:
        """The address that `address` is an alias of; itself where it is none."""
        return address if self.directory is None else owner_of(self.directory, address)

    def subject(self, scope: str | Sequence[str], value: Any) -> tuple[str, str | None]:
        """The subject of `scope` that a caller names, and the sender that it tells.

        An alias stands for its owner in the one, and for itself in the other.
        """
        named = named_subject(scope, value)
        ordered = normal_scope(scope)
        parts = parts_of(ordered, named)
        sender = parts.get("sender")
        for word in ("sender", "recipient"):
            if parts.get(word):
                parts[word] = self.owner(parts[word])
        return subject_of(ordered, parts), sender

    def plan(self, envelope: Envelope, now: int = 0) -> Plan:
        """The charges of `envelope`, or the limit or rule that turns it away for ever.

        now: milliseconds since the epoch, for overrides and their like that have dates.

        Pure, where the directory is: the same envelope at the same time always has the same
        plan. Raises TypeError for anything but an Envelope.
        """
        if not isinstance(envelope, Envelope):
            raise TypeError(f"an Envelope is needed, not {show(envelope)}")
        if self.directory is None:
            found = ResolvedEnvelope(envelope, frozenset(), None)
        else:
            found = resolve(self.directory, envelope)
        senders = (found.envelope.sender, envelope.sender)
        sheet = self._selector.sheet(envelope.client, senders, now)
        if envelope.direction == "outbound" and not self._selector.may_send(
            envelope.client, senders, now
        ):
            return Plan(sheet, [], not_granted())
        plan = sheet.plan(found.envelope, found.free)
        if found.rule is not None and (plan.never is None or found.rule.action == "reject"):
            return Plan(sheet, [], found.rule)
        if sheet.shadow is not None:
            return plan._replace(shadow=sheet.shadow.plan(found.envelope, found.free))
        return plan

    @property
    def has_shadows(self) -> bool:
        """Whether it has limits that only report."""
        return self._selector.shadows

    @property
    def selector_by_tier(self) -> LimitSelector | None:
        """What says which limits a message meets, where nothing but its client's tier matters."""
        selector = self._selector
        if self.directory is not None or selector.concedes or selector.shadows:
            return None
        return selector

    def planner(self, present: Callable[[], int]) -> Callable[[Envelope], Plan]:
        """What `plan` does, by the shortest way.

        present: gives the time, where that matters.
        """
        selector = self._selector
        if selector.has_dates:
            return lambda envelope: self.plan(envelope, present())
        if self.selector_by_tier is None:
            return self.plan
        return selector.plan_by_tier if self.tiers else selector.common.plan
