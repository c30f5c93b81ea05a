"""OpenTelemetryMetrics: what a limiter decides and waits for, as metrics of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter

from ratelimit_mail.decision import Decision
from ratelimit_mail.events import Event
from ratelimit_mail.monitoring.labels import Labels

__all__ = ["OpenTelemetryMetrics"]


class OpenTelemetryMetrics:
    """Metrics for `Limiter(..., metrics=...)`, and a listener of its events.

    meter: makes the instruments; by default that of the global meter provider, which the program
        or `opentelemetry-instrument` sets up.

    The instruments are those of PrometheusMetrics with dots: `ratelimit_mail.decisions`,
    `ratelimit_mail.degraded_decisions`, `ratelimit_mail.events`, `ratelimit_mail.wait`,
    `ratelimit_mail.backend`, `ratelimit_mail.backend_errors`, `ratelimit_mail.held_messages` and
    `ratelimit_mail.queue_messages`, with the same attributes. No attribute has an address.
    """

    def __init__(self, meter: Meter | None = None) -> None:
        if meter is None:
            meter = get_meter("ratelimit_mail")
        self._labels = Labels()
        self._held: dict[str, Callable[[], float]] = {}
        self._queues: dict[str, Callable[[], Mapping[Any, int]]] = {}
        self._decisions = meter.create_counter(
            "ratelimit_mail.decisions", "{decision}", "Decisions on messages"
        )
        self._degraded = meter.create_counter(
            "ratelimit_mail.degraded_decisions",
            "{decision}",
            "Decisions that were made while the backend was away",
        )
        self._events = meter.create_counter(
            "ratelimit_mail.events", "{event}", "Events, such as first denials"
        )
        self._waits = meter.create_histogram(
            "ratelimit_mail.wait", "s", "How long acquire has waited for an accepted message"
        )
        self._calls = meter.create_histogram(
            "ratelimit_mail.backend", "s", "How long a call of the backend took"
        )
        self._errors = meter.create_counter(
            "ratelimit_mail.backend_errors", "{call}", "Calls of the backend that failed"
        )
        meter.create_observable_gauge(
            "ratelimit_mail.held_messages",
            [self._observe_held],
            "{message}",
            "Messages that are held",
        )
        meter.create_observable_gauge(
            "ratelimit_mail.queue_messages",
            [self._observe_queues],
            "{message}",
            "Messages in the outbox",
        )

    def decided(self, policy: str, decision: Decision) -> None:
        """See `events.Recorder`."""
        self._decisions.add(1, self._labels.of_decision(policy, decision, "enforced")._asdict())
        if decision.degraded:
            self._degraded.add(1, {"policy": self._labels.bounded("policy", policy)})

    def decided_in_shadow(self, policy: str, decision: Decision) -> None:
        """See `events.Recorder`."""
        self._decisions.add(1, self._labels.of_decision(policy, decision, "shadow")._asdict())

    def waited(self, policy: str, seconds: float) -> None:
        """See `events.Recorder`."""
        self._waits.record(seconds, {"policy": self._labels.bounded("policy", policy)})

    def called(self, operation: str, seconds: float, *, failed: bool) -> None:
        """See `events.Recorder`."""
        self._calls.record(seconds, {"operation": operation})
        if failed:
            self._errors.add(1, {"operation": operation})

    def __call__(self, event: Event) -> None:
        """Count an event."""
        policy = self._labels.bounded("policy", event.policy)
        mode = "enforced" if event.enforced else "shadow"
        self._events.add(1, {"policy": policy, "kind": type(event).__name__, "mode": mode})

    def watch_held(self, policy: str, count: Callable[[], float]) -> None:
        """Call `count` at each collection for the number of messages that are held."""
        self._held[self._labels.bounded("policy", policy)] = count

    def watch_queue(self, policy: str, counts: Callable[[], Mapping[Any, int]]) -> None:
        """Call `counts` at each collection for the number of messages of an outbox by state."""
        self._queues[self._labels.bounded("policy", policy)] = counts

    def _observe_held(self, _: CallbackOptions) -> Iterable[Observation]:
        for policy, count in self._held.items():
            yield Observation(count(), {"policy": policy})

    def _observe_queues(self, _: CallbackOptions) -> Iterable[Observation]:
        for policy, counts in self._queues.items():
            for state, number in counts().items():
                yield Observation(number, {"policy": policy, "state": str(state)})
