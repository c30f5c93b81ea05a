"""Count what a message costs each limit: messages, recipients, external recipients, bytes.

`EffectiveLimits` are the limits of one tier. They are prepared once as ledgers, so that the
`ChargePlan` of a message is quick to make. What the other tiers count is recorded as well, without
a limit, so that a client who comes to another tier finds there what was sent before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Final, NamedTuple

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.counting.charge import (
    FIRST_UNIQUE,
    Charge,
    Costs,
    Count,
    Ledger,
    UniqueCosts,
)
from ratelimit_mail.counting.window import Retention
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import Limit, MessageSizeLimit, RateLimit, RecipientLimit
from ratelimit_mail.policy.ledger_keys import LedgerKey, Retentions, by_ledger_key, window_of
from ratelimit_mail.scopes import (
    WITHOUT_CASE,
    Comparison,
    Scope,
    envelope_values,
    is_per_recipient,
    subject_getter,
    subject_of,
    tag_getter,
)

if TYPE_CHECKING:
    from ratelimit_mail.rules import Rule

__all__ = ["ChargePlan", "EffectiveLimits", "MessageCharge", "counts_size"]

NO_BOUND: Final = 1 << 62

NONE_EXEMPT: Final[frozenset[str]] = frozenset()

_Recipient = tuple[str, str]
"""The key of an address, and its domain."""

MessageCharge = tuple[Ledger, Callable[[Envelope], str], Costs]
"""A charge whose subject does not depend on the recipients: the function gets it."""


class MessageCharges(list[MessageCharge]):
    """What a message is charged once. only: the charge if there is one alone, else None."""

    __slots__ = ("only",)

    def __init__(self, charges: Iterable[MessageCharge]) -> None:
        super().__init__(charges)
        self.only = self[0] if len(self) == 1 else None


_new = tuple.__new__  # makes a named tuple in half the time


class ChargePlan(NamedTuple):
    """The charges of one envelope.

    never: the limit that would refuse it even if nothing had been sent, or the rule that refuses
        it; the charges are then those of a refused attempt.
    shadow: its plan under the limits that only report.
    """

    effective_limits: EffectiveLimits
    charges: list[Charge]
    never: Limit | Rule | None = None
    shadow: ChargePlan | None = None

    @property
    def is_limited(self) -> bool:
        """Whether a limit counts the message; if not, it is at most recorded for other tiers."""
        return any(
            count.windows and costs[count.unit]
            for ledger, _, costs in self.charges
            for count in ledger.counts
        )

    @property
    def counts_denied(self) -> bool:
        """Whether a refused attempt of the message is counted."""
        return any(ledger.counts_denied for ledger, _, _ in self.charges)


class EffectiveLimits:
    """The limits that a message is subject to, those of its tier included, as ledgers.

    name: the name under which the policy's messages are counted.
    tier: the name of the tier.
    recorded: the limits of all tiers; what they count is recorded.
    comparison: how addresses and clients are compared.
    enforce: False takes the limits that only report.
    """

    def __init__(
        self,
        name: str,
        tier: str | None,
        limits: Iterable[Limit],
        internal: DomainSet,
        retentions: Retentions,
        shard: str | None = None,
        *,
        recorded: Iterable[Limit] = (),
        comparison: Comparison = WITHOUT_CASE,
        enforce: bool = True,
    ) -> None:
        self.tier = tier
        self.comparison = comparison
        self._domains_of = comparison.domains_getter()
        limits, recorded = tuple(limits), tuple(recorded)
        self.limits = tuple(limit for limit in limits if limit.enforce is enforce)
        counted = [limit for limit in (*limits, *recorded) if limit.enforce is enforce]
        self.shadow: EffectiveLimits | None = None
        if enforce and len(counted) < len(limits) + len(recorded):
            self.shadow = EffectiveLimits(
                name,
                tier,
                limits,
                internal,
                retentions,
                shard,
                recorded=recorded,
                comparison=comparison,
                enforce=False,
            )
        self._shard = shard
        self._internal = internal
        self._is_internal = internal.__getitem__
        self._limits_of: dict[Count, list[RateLimit]] = {}
        limits_of = by_ledger_key(self.limits)
        self._ledgers = {
            key: self._ledger(
                name,
                key,
                {unit: limits_of.get(key, {}).get(unit, []) for unit in units},
                retentions[key],
            )
            for key, units in by_ledger_key(counted).items()
        }
        self._per_message = [
            (ledger, subject_getter(scope, comparison))
            for (_, direction, _, scope), ledger in self._ledgers.items()
            if direction == "outbound" and not is_per_recipient(scope)
        ]
        self._per_recipient = [
            (ledger, scope)
            for (_, direction, _, scope), ledger in self._ledgers.items()
            if direction == "outbound" and is_per_recipient(scope)
        ]
        self._inbound = [
            (ledger, scope)
            for (_, direction, _, scope), ledger in self._ledgers.items()
            if direction == "inbound"
        ]
        self._counts_external = any(limit.count == "external" for limit in counted)
        self._counts_unique = any(
            isinstance(limit, RateLimit) and limit.is_unique for limit in counted
        )
        self._limit_of_size = next(filter(counts_size, counted), None)
        """A limit that needs the size of the message, if there is one."""
        self._most = self._smallest_limit("all")
        self._most_external = self._smallest_limit("external")
        self.charges_by_domains = BoundedCache(self._charges_for, most=512)
        """The charges of a message by the domains of its recipients, for any sender.

        None if they depend on which recipients it has, or on its size.
        """
        self._charges_by_costs = BoundedCache(self._message_charges, most=512)
        """Messages of equal costs share one object, by which a backend recognises them."""
        self._depends_on_message = bool(
            self._per_recipient
            or self._counts_unique
            or (self._inbound and internal.patterns)
            or self._limit_of_size is not None
        )

    def _ledger(
        self,
        name: str,
        key: LedgerKey,
        units: Mapping[int, list[RateLimit]],
        retentions: Mapping[int, Retention],
    ) -> Ledger:
        counts = []
        for unit, limits in units.items():
            counts.append(Count(unit, tuple(map(window_of, limits)), retentions[unit]))
            self._limits_of[counts[-1]] = limits
        span = max(retention.span for retention in retentions.values())
        tag_of = tag_getter(key.scope, self._shard)
        return Ledger(key.ledger_name(name), tuple(counts), span, tag_of)

    def _smallest_limit(self, counted: str) -> int:
        """Return the most recipients that a message may have under every limit on recipients.

        Without the limits per recipient, of which each recipient takes its own.
        """
        return min(
            (
                limit.limit
                for limit in self.limits
                if not isinstance(limit, MessageSizeLimit)
                and limit.count == counted
                and not (
                    isinstance(limit, RateLimit)
                    and (
                        limit.unit != "recipients"
                        or limit.on_oversize == "spread"
                        or _costs_per_recipient(limit)
                    )
                )
            ),
            default=NO_BOUND,
        )

    def plan(self, envelope: Envelope, exempt: Set[str] = NONE_EXEMPT) -> ChargePlan:
        """Return the charges of `envelope`, or the limit that it can never meet.

        exempt: recipients that no rate limit counts, by the keys of their addresses.
        """
        try:
            domains, direction = self._domains_of(envelope), envelope.direction
        except AttributeError:
            raise TypeError(f"an Envelope is needed, not {show(envelope)}") from None
        message_charges = self.charges_by_domains[domains]
        if message_charges is None or exempt or direction == "inbound":
            return self._plan_by_recipient(envelope, exempt)
        charges = [(ledger, subject(envelope), costs) for ledger, subject, costs in message_charges]
        return _new(ChargePlan, (self, charges, None, None))

    def _charges_for(self, domains: tuple[str, ...]) -> MessageCharges | None:
        costs = self._costs(domains)
        _, total, _, external, *_ = costs
        if self._depends_on_message or total > self._most or external > self._most_external:
            return None
        return self._charges_by_costs[costs]

    def _message_charges(self, costs: Costs) -> MessageCharges:
        """Return what a message is charged once, whichever recipients it has."""
        return MessageCharges(
            (ledger, subject, costs)
            for ledger, subject in self._per_message
            if ledger.charges(costs)
        )

    def _plan_by_recipient(self, envelope: Envelope, exempt: Set[str]) -> ChargePlan:
        """Return the plan of a message whose charges depend on its recipients or its size."""
        size = self._size_of(envelope)
        counted = [
            (recipient, domain)
            for recipient, domain in self.comparison.domain_of(envelope).items()
            if recipient not in exempt
        ]
        charges: list[Charge] = []
        if envelope.direction == "outbound":
            if (never := self._exceeded_limit(envelope, size)) is not None:
                return ChargePlan(self, [], never)
            costs = self._costs_of_recipients(counted, size)
            for ledger, subject, _ in self._message_charges(costs):
                charges.append((ledger, subject(envelope), costs))
            for ledger, scope in self._per_recipient:
                charges += self._charges_per_subject(ledger, scope, envelope, counted)
        if self._inbound:
            mailboxes = self._mailboxes(envelope, counted)
            for ledger, scope in self._inbound:
                charges += self._charges_per_subject(ledger, scope, envelope, mailboxes)
        return ChargePlan(self, *self._check_fits_empty_counts(charges))

    def _size_of(self, envelope: Envelope) -> int:
        """Return the size of a message; 0 if no limit needs it.

        Raises ValueError if a limit needs it and the envelope does not have it: a message of
        unknown size would be free.
        """
        if self._limit_of_size is None:
            return 0
        if envelope.size is None:
            raise ValueError(
                "size: the envelope has none, and the policy has a limit on bytes"
                f" ({self._limit_of_size}); say Envelope(..., size=len(data))"
            )
        return envelope.size

    def _mailboxes(self, envelope: Envelope, counted: list[_Recipient]) -> list[_Recipient]:
        """Return the recipients whose mailboxes are the policy's own.

        These are the internal ones; without internal domains, all recipients of an inbound
        envelope.
        """
        if self._internal.patterns:
            return [each for each in counted if self._internal[each[1]]]
        return counted if envelope.direction == "inbound" else []

    def _costs(self, domains: Sequence[str], size: int = 0) -> Costs:
        """Return what a message of `size` with recipients of these domains costs in each unit."""
        total = external = len(domains)
        if self._counts_external:
            external -= sum(map(self._is_internal, domains))
        return (
            1 if total else 0,
            total,
            1 if external else 0,
            external,
            size if total else 0,
            size if external else 0,
            total,
            external,
        )

    def _costs_of_recipients(self, counted: Sequence[_Recipient], size: int) -> Costs:
        """Return the same, with the recipients if a limit counts each of them once."""
        costs = self._costs([domain for _, domain in counted], size)
        if not self._counts_unique:
            return costs
        members = [(_digest(recipient), domain) for recipient, domain in counted]
        external = members
        if self._counts_external:
            external = [each for each in members if not self._is_internal(each[1])]
        return UniqueCosts.of(
            costs,
            {
                FIRST_UNIQUE: tuple(member for member, _ in members),
                FIRST_UNIQUE + 1: tuple(member for member, _ in external),
            },
        )

    def _charges_per_subject(
        self, ledger: Ledger, scope: Scope, envelope: Envelope, counted: list[_Recipient]
    ) -> list[Charge]:
        """Return one charge for each subject among the counted recipients and their domains."""
        common = envelope_values(scope, envelope, self.comparison)
        recipients_of: dict[str, list[_Recipient]] = {}
        for recipient, domain in counted:
            values = {**common, "recipient": recipient, "recipient_domain": domain}
            recipients_of.setdefault(subject_of(scope, values), []).append((recipient, domain))
        charges: list[Charge] = []
        for subject, recipients in recipients_of.items():
            costs = self._costs_of_recipients(recipients, self._size_of(envelope))
            if ledger.charges(costs):
                charges.append((ledger, subject, costs))
        return charges

    def _exceeded_limit(
        self, envelope: Envelope, size: int
    ) -> RecipientLimit | MessageSizeLimit | None:
        """Return the first limit on one message that the message exceeds."""
        _, total, _, external, *_ = self._costs(self._domains_of(envelope))
        for limit in self.limits:
            if isinstance(limit, RecipientLimit):
                cost = total if limit.count == "all" else external
            elif isinstance(limit, MessageSizeLimit):
                cost = size
            else:
                continue
            if cost > limit.limit:
                return limit
        return None

    def _check_fits_empty_counts(self, charges: list[Charge]) -> tuple[list[Charge], Limit | None]:
        """Return the charges and None, if they fit into empty counts.

        If they do not, return the charges of a refused attempt, and the limit that refuses it.
        """
        for ledger, _, costs in charges:
            for count in ledger.counts:
                if costs[count.unit] > count.most:
                    limits = self._limits_of[count]
                    never = next(
                        limit
                        for limit in limits
                        if limit.limit == count.most
                        and not (isinstance(limit, RateLimit) and limit.on_oversize == "spread")
                    )
                    return [charge for charge in charges if charge[0].counts_denied], never
        return charges, None

    def limit_of(self, count: Count, window: int) -> RateLimit:
        """Return the limit that window number `window` of a count belongs to."""
        return self._limits_of[count][window]

    def ledgers_of(self, scope: Scope) -> list[Ledger]:
        """Return the ledgers per `scope`, those that are only recorded included.

        Those of the limits that spread a message are ledgers of their own.
        """
        return [ledger for key, ledger in self._ledgers.items() if key.scope == scope]


def counts_size(limit: Limit) -> bool:
    """Return whether `limit` needs the size of a message."""
    return isinstance(limit, MessageSizeLimit) or (
        isinstance(limit, RateLimit) and limit.unit == "bytes"
    )


def _digest(recipient: str) -> str:
    """Return 22 characters that stand for a recipient, however long its address is."""
    import hashlib  # both are slow to import, and few policies count unique recipients
    from base64 import b64encode

    digest = hashlib.blake2b(recipient.encode(errors="surrogatepass"), digest_size=16).digest()
    return b64encode(digest)[:22].decode()


def _costs_per_recipient(limit: RateLimit) -> bool:
    """Return whether a message costs `limit` something that depends on which recipients it has."""
    return limit.direction == "inbound" or is_per_recipient(limit.scope)
