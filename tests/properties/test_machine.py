"""Operations in any order: the memory backend gives the answers of the brute force."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis.stateful import invariant
from rlm_testkit.state_machine import DAY, SECOND, Machine, MachineWithIds, MachineWithJumps

from ratelimit_mail.backends import Backend, MemoryBackend
from ratelimit_mail.testing import BruteForceBackend, ManualClock


class MemoryAndBruteForce(Machine):
    def backends(self, clock: ManualClock) -> Sequence[Backend]:
        self.brute_force = BruteForceBackend(clock)
        return self.brute_force, MemoryBackend(clock)

    @invariant()
    def no_window_exceeds_its_limit(self) -> None:
        if not hasattr(self, "brute_force"):
            return
        for unit, scope, amount, length in (
            (0, "sender", 3, 2 * SECOND),
            (0, "sender", 20, DAY),
            (1, "global", 9, 5 * SECOND),
            (1, "global", 90, DAY),
        ):
            events = [
                event
                for event in self.brute_force.events
                if (event.name[0], event.name[2]) == (f"machine:{scope}", unit)
                and not event.refused
            ]
            for end in events:
                used = sum(
                    event.cost
                    for event in events
                    if event.name == end.name and end.moment - length < event.moment <= end.moment
                )
                assert used <= amount


class WithJumps(MemoryAndBruteForce, MachineWithJumps): ...


class WithIds(MemoryAndBruteForce, MachineWithIds): ...


TestWithJumps = WithJumps.TestCase
TestWithIds = WithIds.TestCase
TestWithJumps.settings = TestWithIds.settings = settings(stateful_step_count=30)
