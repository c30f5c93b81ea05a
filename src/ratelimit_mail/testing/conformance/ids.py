"""Messages that are known by an id: the first answer again, and one charge."""

from __future__ import annotations

from ratelimit_mail.conditions import has_tag
from ratelimit_mail.decision import Action
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.exceptions import RateLimitExceeded
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy, Tier
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import Suite, letter, policy_of

__all__ = ["Ids"]


def job(
    number: str = "job-1",
    recipients: int = 1,
    sender: str = "ann@uwo.ca",
    domain: str = "example.com",
) -> Envelope:
    """A message of `letter`, known by an id."""
    plain = letter(recipients, sender, domain)
    return Envelope(plain.sender, plain.recipients, id=number)


def used(limiter: Limiter, sender: str = "ann@uwo.ca") -> list[int]:
    """How much of each of its limits a sender has used."""
    return [usage.used for usage in limiter.usage(sender)]


class Ids(Suite):
    """Messages that are known by an id: the first answer again, and one charge."""

    def remembering(self, seconds: float, *limits: Limit) -> tuple[Limiter, ManualClock]:
        """A limiter that remembers answers for so long, and its clock."""
        clock = ManualClock()
        return Limiter(policy_of(*limits), self.backend(clock), remember=seconds), clock

    def test_what_is_asked_again_is_charged_once(self) -> None:
        """In every limit, and however much time lies between."""
        limiter, clock = self.limiter(MessageRateLimit("3/hour"), RecipientRateLimit("5/day"))
        for _ in range(9):
            assert limiter.try_acquire(job(recipients=2))
            clock.advance(1)
        assert used(limiter) == [1, 2]
        clock.advance(3590)
        assert limiter.try_acquire(job(recipients=2))
        assert used(limiter) == [1, 2]

    def test_what_is_asked_again_is_charged_once_in_every_scope(self) -> None:
        """Also where the counts of one message stand far apart."""
        limiter, _ = self.limiter(
            MessageRateLimit("5/day"),
            MessageRateLimit("5/day", scope="recipient_domain"),
            MessageRateLimit("5/day", scope="global"),
        )
        envelope = Envelope("ann@uwo.ca", ["x@a.org", "y@b.org"], id="job-1")
        for _ in range(7):
            assert limiter.try_acquire(envelope)
        for subject, scope in (
            ("ann@uwo.ca", "sender"),
            ("a.org", "recipient_domain"),
            ("b.org", "recipient_domain"),
            (None, "global"),
        ):
            assert limiter.usage(subject, scope=scope)[0].used == 1

    def test_a_wait_that_is_asked_for_again_waits_for_the_same_place(self) -> None:
        """Once its time has come it waits no more."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        start = clock()
        assert limiter.acquire(letter())
        for _ in range(3):
            assert limiter.acquire(job())
            assert clock() - start == 60_000
        assert limiter.acquire(job("job-2"))
        assert clock() - start == 120_000

    def test_a_reservation_that_is_asked_for_again_is_the_same_place(self) -> None:
        """Its delay is told from now."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(letter())
        first = limiter.reserve(job())
        clock.advance(20)
        again = limiter.reserve(job())
        assert (first.delay, again.delay) == (60, 40)
        assert again.at == first.at
        assert limiter.reserve(letter()).delay == 100
        clock.advance(50)
        assert limiter.reserve(job()).delay == 0

    def test_a_reservation_that_was_refused_is_refused_again(self) -> None:
        """Until the moment that the refusal said."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        filler = limiter.try_acquire(letter())
        for pause, wait in ((0, 60), (10, 50), (49.999, 0.001)):
            clock.advance(pause)
            try:
                limiter.reserve(job(), max_delay=0)
            except RateLimitExceeded as error:
                assert error.decision.retry_after == wait
            else:
                raise AssertionError("booked, though it was refused")
            if pause == 0:
                limiter.refund(filler)
        clock.advance(0.001)
        assert limiter.reserve(job(), max_delay=0).delay == 0

    def test_an_id_twice_in_one_batch_is_charged_once(self) -> None:
        """And once more one by one, still once."""
        limiter, _ = self.limiter(MessageRateLimit("2/minute"))
        batch = [job(), job("job-2"), job(), job("job-3"), job("job-2")]
        assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 1, 1, 0, 1]
        assert limiter.try_acquire(job("job-2"))
        assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 1, 1, 0, 1]
        assert used(limiter) == [2]

    def test_a_refusal_is_remembered_until_the_moment_that_it_says(self) -> None:
        """The same limit speaks, and tells the time from now; then it is decided anew."""
        limit = MessageRateLimit("1/minute", on_excess="reject")
        limiter, clock = self.limiter(limit, MessageRateLimit("9/day"))
        filler = limiter.try_acquire(letter())
        first = limiter.try_acquire(job())
        limiter.refund(filler)
        clock.advance(59.999)
        again = limiter.try_acquire(job())
        assert [first.retry_after, again.retry_after] == [60, 0.001]
        assert (first.action, first.limit) == (again.action, again.limit) == (Action.REJECT, limit)
        assert limiter.try_acquire(job("job-2"))
        clock.advance(0.001)
        assert limiter.try_acquire(job()).retry_after == 59.999
        clock.advance(59.999)
        assert limiter.try_acquire(job())
        assert used(limiter) == [1, 2]

    def test_a_refusal_is_remembered_no_longer_than_an_answer(self) -> None:
        """Where the moment that it says lies further ahead."""
        limiter, clock = self.remembering(10, MessageRateLimit("1/minute"))
        filler = limiter.try_acquire(letter())
        assert not limiter.try_acquire(job())
        limiter.refund(filler)
        clock.advance(9.999)
        assert not limiter.try_acquire(job())
        clock.advance(0.001)
        assert limiter.try_acquire(job())

    def test_a_refused_attempt_that_counts_is_counted_once(self) -> None:
        """So a retry after a lost answer does not keep its sender out for longer."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute", denied="count"))
        assert limiter.try_acquire(letter())
        clock.advance(10)
        assert limiter.try_acquire(job()).retry_after == 60
        clock.advance(10)
        assert limiter.try_acquire(job()).retry_after == 50
        assert used(limiter) == [2]
        assert limiter.try_acquire(job("job-2")).retry_after == 60
        assert used(limiter) == [3]

    def test_what_can_never_fit_is_counted_once(self) -> None:
        """Where refused attempts count."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute", denied="count"))
        for _ in range(3):
            assert limiter.try_acquire(job(recipients=6)).retry_after is None
        assert used(limiter) == [6]

    def test_another_id_sender_or_recipient_is_another_question(self) -> None:
        """And so is none at all."""
        limiter, _ = self.limiter(MessageRateLimit("9/minute", scope="global"))
        asked = [
            job(),
            job("job-2"),
            job("job-1 "),
            job(sender="bob@uwo.ca"),
            job(domain="a.org"),
            job(recipients=2),
            letter(),
            letter(),
        ]
        for envelope in [*asked, *asked[:6]]:
            assert limiter.try_acquire(envelope)
        assert limiter.usage(scope="global")[0].used == len(asked)

    def test_another_policy_is_another_question(self) -> None:
        """Each counts for itself on one backend."""
        backend = self.backend(ManualClock())
        for name in ("a", "aa"):
            limiter = Limiter(policy_of(MessageRateLimit("9/minute"), name=name), backend)
            assert limiter.try_acquire(job())
            assert used(limiter) == [1]

    def test_another_client_is_another_question_where_it_is_charged_elsewhere(self) -> None:
        """Another count, or another tier."""
        policy = Policy(
            name="clients",
            limits=[MessageRateLimit("9/minute", scope="client")],
            tiers=[Tier("wireless", when=has_tag("w"), limits=[MessageRateLimit("9/hour")])],
        )
        limiter = Limiter(policy, self.backend(ManualClock()))
        home, away = Client(address="10.0.0.1"), Client(address="10.0.0.2", tags={"w"})
        for _ in range(2):
            for client in (home, away):
                assert limiter.try_acquire(
                    Envelope("ann@uwo.ca", ["b@example.com"], client, id="job-1")
                )
        for address in ("10.0.0.1", "10.0.0.2"):
            assert limiter.usage(address, scope="client")[0].used == 1
        assert limiter.usage("ann@uwo.ca", client=away)[0].used == 1

    def test_a_check_is_neither_remembered_nor_told_what_is(self) -> None:
        """It looks at the counts as they are."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        filler = limiter.try_acquire(letter())
        assert not limiter.check(job())
        limiter.refund(filler)
        assert limiter.check(job())
        assert limiter.try_acquire(job())
        assert not limiter.check(job())
        assert used(limiter) == [1]

    def test_what_was_refunded_is_a_new_question(self) -> None:
        """Asked again it is charged again, and once."""
        limiter, _ = self.limiter(MessageRateLimit("2/minute"), RecipientRateLimit("9/day"))
        limiter.refund(limiter.try_acquire(job(recipients=2)))
        assert used(limiter) == [0, 0]
        for _ in range(3):
            assert limiter.try_acquire(job(recipients=2))
        assert used(limiter) == [1, 2]

    def test_two_who_hold_one_decision_refund_it_once(self) -> None:
        """The second takes nothing from another message of the same moment and cost."""
        limiter, _ = self.limiter(MessageRateLimit("9/minute"))
        held = [limiter.try_acquire(job()) for _ in range(3)]
        assert limiter.try_acquire(letter())
        for decision in held:
            limiter.refund(decision)
        assert used(limiter) == [1]

    def test_a_late_refund_takes_nothing_from_the_same_message_asked_anew(self) -> None:
        """Of two holders one refunds, a third is charged anew, and then the other refunds."""
        limiter, _ = self.limiter(MessageRateLimit("9/minute"))
        first, second = limiter.try_acquire(job()), limiter.try_acquire(job())
        limiter.refund(first)
        third = limiter.try_acquire(job())
        limiter.refund(second)
        assert used(limiter) == [1]
        limiter.refund(third)
        assert used(limiter) == [0]

    def test_a_place_given_back_by_one_holder_is_free(self) -> None:
        """The other holder gives nothing back a second time."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(letter())
        first, second = limiter.reserve(job()), limiter.reserve(job())
        first.cancel()
        assert limiter.reserve(letter()).delay == 60
        second.cancel()
        assert limiter.reserve(job()).delay == 120

    def test_an_answer_is_forgotten_in_the_end(self) -> None:
        """Then it is asked and charged anew."""
        limiter, clock = self.remembering(10, MessageRateLimit("2/minute"))
        for pause, held in ((0, 1), (9.999, 1), (0.001, 2), (9.999, 2)):
            clock.advance(pause)
            assert limiter.try_acquire(job())
            assert used(limiter) == [held]
        clock.advance(0.001)
        assert limiter.try_acquire(job()).retry_after == 40
