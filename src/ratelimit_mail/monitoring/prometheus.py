"""PrometheusMetrics: what a limiter decides and waits for, as metrics of prometheus_client."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import start_http_server as _start_http_server

from ratelimit_mail.decision import Decision
from ratelimit_mail.events import Event
from ratelimit_mail.monitoring.labels import Labels

__all__ = ["PrometheusMetrics"]

WAITS: Final = (0.1, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)

CALLS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


_by_registry: WeakKeyDictionary[CollectorRegistry, PrometheusMetrics] = WeakKeyDictionary()
_lock = threading.Lock()


class PrometheusMetrics:
    """Metrics for `Limiter(..., metrics=...)`, and a listener of its events; one for a process.

    registry: where the metrics are registered; they can be registered once, so `shared` returns
        those that are there.

    | metric | labels |
    |---|---|
    | `ratelimit_mail_decisions_total` | policy, limit, result, mode |
    | `ratelimit_mail_degraded_decisions_total` | policy |
    | `ratelimit_mail_events_total` | policy, kind, mode |
    | `ratelimit_mail_wait_seconds` | policy |
    | `ratelimit_mail_backend_seconds` | operation |
    | `ratelimit_mail_backend_errors_total` | operation |
    | `ratelimit_mail_held_messages` | policy |
    | `ratelimit_mail_queue_messages` | policy, state |

    No label has an address, and each has at most 100 values.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._labels = Labels()
        self._registry = registry
        self._decisions = Counter(
            "ratelimit_mail_decisions",
            "Decisions on messages",
            ["policy", "limit", "result", "mode"],
            registry=registry,
        )
        self._degraded = Counter(
            "ratelimit_mail_degraded_decisions",
            "Decisions that were made while the backend was away",
            ["policy"],
            registry=registry,
        )
        self._events = Counter(
            "ratelimit_mail_events",
            "Events, such as first denials",
            ["policy", "kind", "mode"],
            registry=registry,
        )
        self._waits = Histogram(
            "ratelimit_mail_wait_seconds",
            "How long acquire has waited for an accepted message",
            ["policy"],
            buckets=WAITS,
            registry=registry,
        )
        self._calls = Histogram(
            "ratelimit_mail_backend_seconds",
            "How long a call of the backend took",
            ["operation"],
            buckets=CALLS,
            registry=registry,
        )
        self._errors = Counter(
            "ratelimit_mail_backend_errors",
            "Calls of the backend that failed",
            ["operation"],
            registry=registry,
        )
        self._held = Gauge(
            "ratelimit_mail_held_messages",
            "Messages that are held",
            ["policy"],
            registry=registry,
        )
        self._queue = Gauge(
            "ratelimit_mail_queue_messages",
            "Messages in the outbox",
            ["policy", "state"],
            registry=registry,
        )

    @classmethod
    def shared(cls, registry: CollectorRegistry | None = None) -> PrometheusMetrics:
        """Return the metrics of a registry, which are made once: a name is registered once."""
        registry = REGISTRY if registry is None else registry
        with _lock:
            metrics = _by_registry.get(registry)
            if metrics is None:
                metrics = _by_registry[registry] = cls(registry)
            return metrics

    def decided(self, policy: str, decision: Decision) -> None:
        """See `events.Recorder`."""
        self._decisions.labels(*self._labels.of_decision(policy, decision, "enforced")).inc()
        if decision.degraded:
            self._degraded.labels(self._labels.bounded("policy", policy)).inc()

    def decided_in_shadow(self, policy: str, decision: Decision) -> None:
        """See `events.Recorder`."""
        self._decisions.labels(*self._labels.of_decision(policy, decision, "shadow")).inc()

    def waited(self, policy: str, seconds: float) -> None:
        """See `events.Recorder`."""
        self._waits.labels(self._labels.bounded("policy", policy)).observe(seconds)

    def called(self, operation: str, seconds: float, *, failed: bool) -> None:
        """See `events.Recorder`."""
        self._calls.labels(operation).observe(seconds)
        if failed:
            self._errors.labels(operation).inc()

    def __call__(self, event: Event) -> None:
        """Count an event."""
        mode = "enforced" if event.enforced else "shadow"
        policy = self._labels.bounded("policy", event.policy)
        self._events.labels(policy, type(event).__name__, mode).inc()

    def watch_held(self, policy: str, count: Callable[[], float]) -> None:
        """Call `count` at each scrape for the number of messages that are held."""
        label = self._labels.bounded("policy", policy)
        self._held.labels(label).set_function(partial(_number, count))

    def watch_queue(self, policy: str, counts: Callable[[], Mapping[Any, int]]) -> None:
        """Call `counts` at each scrape for the number of messages of an outbox by state.

        With an outbox: `metrics.watch_queue(policy.name, lambda: outbox.stats().counts)`.
        """
        label = self._labels.bounded("policy", policy)
        for state in counts():
            self._queue.labels(label, str(state)).set_function(
                partial(_number, partial(_count_of, counts, state))
            )

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Answer scrapes at http://host:port/metrics on a thread; return what ends that."""
        server, thread = _start_http_server(port, host, self._registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


def _count_of(counts: Callable[[], Mapping[Any, int]], state: Any) -> float:
    return counts()[state]


def _number(count: Callable[[], float]) -> float:
    """Return a number for a scrape; what cannot be counted now is not a number."""
    try:
        return float(count())
    except Exception:
        return math.nan
