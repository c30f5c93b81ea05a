"""At which stages Postfix asks, what that cannot do, and the lines of main.cf for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail.limits import RateLimit, RecipientLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.server.postfix import Stage

__all__ = ["Stages", "limitations", "main_cf"]

DEFAULT: Final = (Stage.RCPT, Stage.END_OF_MESSAGE)

NAMES: Final = {
    Stage.RCPT: "rcpt",
    Stage.DATA: "data",
    Stage.END_OF_MESSAGE: "end-of-message",
}

GIVE_BACK_SECONDS: Final = 3600.0


class Stages:
    """The stages at which Postfix asks.

    charge_at: the one at which a message is charged: DATA if it is among them, because a refusal
        there saves the text; else END-OF-MESSAGE; else RCPT.
    confirms: whether a message that was charged at DATA is confirmed at END-OF-MESSAGE, and
        refunded if it does not come to that.
    """

    def __init__(self, stages: Iterable[Stage] = DEFAULT) -> None:
        self._stages = frozenset(stages)
        if not self._stages or Stage.OTHER in self._stages:
            raise ValueError(f"stages: one or more of {', '.join(NAMES.values())} are needed")
        self.charge_at = next(
            each for each in (Stage.DATA, Stage.END_OF_MESSAGE, Stage.RCPT) if each in self._stages
        )
        self.confirms = {Stage.DATA, Stage.END_OF_MESSAGE} <= self._stages
        self.give_back_after = GIVE_BACK_SECONDS

    @classmethod
    def parse(cls, text: str) -> Stages:
        """Return the stages in a text such as `rcpt,end-of-message`."""
        by_name = {name: stage for stage, name in NAMES.items()}
        words = [word.strip().lower() for word in text.split(",")]
        for word in words:
            if word not in by_name:
                raise ValueError(f"stages: {show(word)} is not one of {', '.join(by_name)}")
        return cls(by_name[word] for word in words)

    def check(self, policy: Policy) -> None:
        """Raise ValueError if the policy has limits on bytes and needs a later stage.

        Before END-OF-MESSAGE, Postfix knows only the size that the client announces, if any.
        """
        if policy.counts_bytes and self.charge_at is not Stage.END_OF_MESSAGE:
            raise ValueError(
                f"stages: the policy {show(policy.name)} has limits on bytes, and the size of a"
                " message is known at end-of-message; use rcpt,end-of-message"
            )

    def __contains__(self, stage: object) -> bool:
        return stage in self._stages

    def __str__(self) -> str:
        return ",".join(name for stage, name in NAMES.items() if stage in self._stages)


def limitations(stages: Stages, policy: Policy, *, holds: bool = False) -> Iterator[str]:
    """Yield what these stages cannot do for this policy, in a sentence each."""
    own = [*policy.limits, *(limit for tier in policy.tiers for limit in tier.limits)]
    if stages.charge_at is Stage.RCPT:
        yield (
            "at rcpt alone, each recipient is charged as a message of its own, as soon as it is"
            " named: a message of 60 recipients counts as 60 messages, one over a limit goes to"
            " the recipients that fitted, and what is dropped or refused later stays counted"
        )
    elif Stage.RCPT not in stages:
        yield (
            f"without rcpt, the recipients of a message to several are not known: each of"
            f" them is counted as an external one, also those of {policy.name}'s own domains"
        )
        if any(
            isinstance(each, RateLimit) and any(w.startswith("recipient") for w in each.scope)
            for each in own
        ):
            yield "without rcpt, limits per recipient do not see the recipients of such a message"
        if policy.directory is not None:
            yield "without rcpt, mailing lists and aliases among these recipients are not known"
    if stages.charge_at is Stage.DATA and not stages.confirms:
        yield (
            "at data without end-of-message, a message that the client breaks off, or that is too"
            " large, stays counted"
        )
    if stages.charge_at is Stage.RCPT and any(isinstance(each, RecipientLimit) for each in own):
        yield (
            "at rcpt alone, a recipient limit refuses the recipients above it, and not the message"
        )
    if holds and stages.charge_at is Stage.RCPT:
        yield "at rcpt alone, messages cannot be held: --excess hold does as the limit says"
    if stages.charge_at is Stage.DATA and holds:
        yield "a message that is held at data and then broken off stays booked until its time"
        if not stages.confirms:
            yield (
                "without end-of-message, a message that is held at data and is complete only after"
                " its time is looked for again: it is released up to twice as late"
            )


def main_cf(stages: Stages, service: str, *, direction: str = "outbound") -> str:
    """Return the lines for main.cf.

    service: where the server listens, as Postfix writes it, such as `inet:127.0.0.1:10040`.
    """
    check = f"check_policy_service {service}"
    lines = [
        "# Which clients may relay. A permit in these restrictions does not skip the others.",
        "smtpd_relay_restrictions =",
        "    permit_mynetworks,",
        "    permit_sasl_authenticated,",
        "    reject_unauth_destination",
        "",
    ]
    if Stage.RCPT in stages:
        lines += [
            "# The limits come last, so that no rule behind them refuses a recipient. Nothing",
            "# before them may permit, or what it permits is not counted.",
            "smtpd_recipient_restrictions =",
            "    reject_non_fqdn_recipient,",
            "    reject_unlisted_recipient,",
            f"    {check}",
        ]
    if Stage.DATA in stages:
        lines += ["smtpd_data_restrictions =", "    reject_unauth_pipelining,", f"    {check}"]
    if Stage.END_OF_MESSAGE in stages:
        lines += ["smtpd_end_of_data_restrictions =", f"    {check}"]
    lines += [
        "",
        "# While the server is away, clients are asked to come again.",
        "smtpd_policy_service_default_action =",
        "    451 4.3.5 Sending limits cannot be checked now. Try again later.",
        "smtpd_policy_service_timeout = 30s",
    ]
    if direction == "outbound":
        lines += [
            "",
            "# No policy service sees what sendmail(1) submits. Programs of this host use SMTP.",
            "authorized_submit_users = root",
        ]
    return "\n".join(lines)
