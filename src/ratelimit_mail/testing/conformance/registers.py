"""Tests of registers: a few texts by key that all processes share; and of counts without limits."""

from __future__ import annotations

from ratelimit_mail.backends.base import CHECK, TAKE, Intent
from ratelimit_mail.counting.charge import ONE_MESSAGE, Charge, Count, Ledger
from ratelimit_mail.counting.window import Retention, Window
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import ConformanceTests

__all__ = ["RegisterTests"]

RETENTION = Retention(60_000)


class RegisterTests(ConformanceTests):
    """Tests of registers, and of counts that no window limits."""

    def test_a_register_holds_what_was_written_last(self) -> None:
        """Whatever characters its keys and its texts have."""
        clock = ManualClock()
        backend = self.backend(clock)
        assert backend.read_register("blocks") == (clock(), {})
        backend.write_register("blocks", {"a": "1", "b c": "\u00e9\n{}", "": ""})
        backend.write_register("blocks", {"a": "2", "d": None})
        clock.advance(5)
        expected = {"a": "2", "b c": "\u00e9\n{}", "": ""}
        assert backend.read_register("blocks") == (clock(), expected)

    def test_an_entry_is_removed(self) -> None:
        """The others stay, and other registers have entries of their own."""
        backend = self.backend(ManualClock())
        backend.write_register("blocks", {"a": "1", "b": "2"})
        backend.write_register("other", {"a": "3"})
        backend.write_register("blocks", {"a": None, "c": "4"})
        assert backend.read_register("blocks").entries == {"b": "2", "c": "4"}
        backend.write_register("blocks", {"b": None, "c": None})
        assert backend.read_register("blocks").entries == {}
        assert backend.read_register("other").entries == {"a": "3"}

    def test_many_entries_are_written_at_once(self) -> None:
        """And removed at once."""
        backend = self.backend(ManualClock())
        entries: dict[str, str | None] = {f"key {i}": f"text {i}" for i in range(3000)}
        backend.write_register("blocks", entries)
        assert backend.read_register("blocks").entries == entries
        backend.write_register("blocks", dict.fromkeys(entries))
        assert backend.read_register("blocks").entries == {}

    def test_a_count_without_windows_counts_and_refuses_nothing(self) -> None:
        """What it counted is there for a limit that comes later."""
        backend = self.backend(ManualClock())
        uncounted = Ledger("test:sender", (Count(0, (), RETENTION),), 60_000)
        charge: Charge = (uncounted, "ann@uwo.ca", (1, 1, 1, 1, 0, 0, 0, 0))
        for _ in range(3):
            verdict = backend.apply([charge], TAKE)
            assert verdict.at == verdict.now
            assert not verdict.refusals
        verdict = backend.apply([charge], CHECK)
        assert verdict.at == verdict.now
        assert backend.usage(uncounted, "ann@uwo.ca") == [[]]
        limited = Ledger("test:sender", (Count(0, (Window(3, 60_000),), RETENTION),), 60_000)
        [[reading]] = backend.usage(limited, "ann@uwo.ca")
        assert (reading.used, reading.remaining) == (3, 0)

    def test_a_count_without_windows_beside_a_limit_is_charged_with_it(self) -> None:
        """Together or not at all; bookings, settlements and refunds move both."""
        clock = ManualClock()
        backend = self.backend(clock)
        window = Window(2, 60_000)
        counts = (Count(0, (window,), RETENTION), Count(1, (), RETENTION))
        ledger = Ledger("test:sender", counts, 60_000)
        all_limited = Ledger(
            "test:sender",
            tuple(Count(unit, (Window(99, 60_000),), RETENTION) for unit in (0, 1)),
            60_000,
        )
        queue: Charge = (
            Ledger("test:bookings", (Count(0, (), RETENTION),), 60_000),
            "ann@uwo.ca",
            ONE_MESSAGE,
        )
        charge: Charge = (ledger, "ann@uwo.ca", (1, 5, 0, 0, 0, 0, 0, 0))

        def used() -> list[int]:
            return [each[0].used for each in backend.usage(all_limited, "ann@uwo.ca")]

        first = backend.apply([charge])
        assert backend.apply([charge]).receipt is not None
        refused = backend.apply([charge])
        assert [each[0].unit for each in refused.refusals] == [0]
        assert used() == [2, 10]
        booked = backend.apply([charge], Intent(queue=queue))
        assert booked.at == clock() + 60_000
        clock.advance(30)
        backend.settle(first.receipt)
        clock.advance(30)
        redeemed = backend.redeem(booked.receipt, [charge])
        assert redeemed.at == clock()
        assert used() == [2, 10]
        backend.refund(redeemed.receipt)
        assert used() == [1, 5]
