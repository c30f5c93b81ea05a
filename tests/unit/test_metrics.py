"""Metrics: what is counted, with few labels and never an address."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from rlm_testkit.builders import envelope_to

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Envelope,
    Exemption,
    Limiter,
    MessageRateLimit,
    Override,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
)
from ratelimit_mail.backends import AsyncSQLiteBackend, MemoryBackend, SQLiteBackend
from ratelimit_mail.events import Dispatcher
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.monitoring.opentelemetry import OpenTelemetryMetrics
from ratelimit_mail.monitoring.prometheus import PrometheusMetrics
from ratelimit_mail.testing import ManualClock

DASHBOARD = Path(__file__).parents[2] / "examples" / "grafana-dashboard.json"

_METRIC = re.compile(r"ratelimit_mail_[a-z_]+")

POLICY = Policy(
    name="campus",
    limits=[
        MessageRateLimit("3/hour", name="messages an hour"),
        RecipientLimit(10),
        MessageRateLimit("2/hour", enforce=False, name="stricter"),
    ],
)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> PrometheusMetrics:
    return PrometheusMetrics(registry)


def samples(registry: CollectorRegistry) -> Iterator[Any]:
    for metric in registry.collect():
        yield from metric.samples


def decisions(registry: CollectorRegistry) -> dict[tuple[str, str, str], float]:
    return {
        (each.labels["limit"], each.labels["result"], each.labels["mode"]): each.value
        for each in samples(registry)
        if each.name == "ratelimit_mail_decisions_total"
    }


EXPECTED = {
    ("", "accept", "enforced"): 3.0,
    ("messages an hour", "defer", "enforced"): 2.0,
    ("10 recipients per message", "reject", "enforced"): 1.0,
    ("block", "reject", "enforced"): 1.0,
    ("", "accept", "shadow"): 2.0,
    ("stricter", "defer", "shadow"): 4.0,
}


def test_each_decision_is_counted_by_limit_and_result(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    limiter = Limiter(POLICY, metrics=metrics)
    for _ in range(5):
        limiter.try_acquire(envelope_to(1))
        limiter.check(envelope_to(1))  # is not counted
    limiter.try_acquire(envelope_to(11))
    limiter.block("eve@uwo.ca")
    limiter.try_acquire(envelope_to(1, "eve@uwo.ca"))
    assert decisions(registry) == EXPECTED


async def test_an_async_limiter_counts_the_same(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    limiter = AsyncLimiter(POLICY, metrics=metrics)
    for _ in range(5):
        await limiter.try_acquire(envelope_to(1))
    await limiter.try_acquire(envelope_to(11))
    await limiter.block("eve@uwo.ca")
    await limiter.try_acquire(envelope_to(1, "eve@uwo.ca"))
    assert decisions(registry) == EXPECTED


def test_waits_are_measured(registry: CollectorRegistry, metrics: PrometheusMetrics) -> None:
    clock = ManualClock()
    policy = Policy(name="campus", limits=[MessageRateLimit("1/minute")])
    limiter = Limiter(policy, MemoryBackend(clock), metrics=metrics, sleep=clock.advance)
    for _ in range(3):
        limiter.acquire(envelope_to(1))
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(envelope_to(1), timeout=1)
    labels = {"policy": "campus"}
    assert registry.get_sample_value("ratelimit_mail_wait_seconds_sum", labels) == 120
    assert registry.get_sample_value("ratelimit_mail_wait_seconds_count", labels) == 3


def test_calls_of_the_backend_are_measured(
    registry: CollectorRegistry, metrics: PrometheusMetrics, tmp_path: Any
) -> None:
    limiter = Limiter(POLICY, SQLiteBackend(tmp_path / "counts.db"), metrics=metrics)
    limiter.try_acquire(envelope_to(1))
    limiter.usage("ann@uwo.ca")

    def count(operation: str) -> float | None:
        labels = {"operation": operation}
        return registry.get_sample_value("ratelimit_mail_backend_seconds_count", labels)

    assert (count("apply"), count("usage"), count("read_register")) == (2, 2, 1)


async def test_calls_of_an_async_backend_are_measured(
    registry: CollectorRegistry, metrics: PrometheusMetrics, tmp_path: Any
) -> None:
    backend = AsyncSQLiteBackend(tmp_path / "counts.db")
    limiter = AsyncLimiter(POLICY, backend, metrics=metrics)
    await limiter.try_acquire(envelope_to(1))
    await backend.aclose()
    labels = {"operation": "apply"}
    assert registry.get_sample_value("ratelimit_mail_backend_seconds_count", labels) == 2


def test_an_outage_is_counted(registry: CollectorRegistry, metrics: PrometheusMetrics) -> None:
    class Away(MemoryBackend):
        def apply(self, *_: Any) -> Any:
            raise BackendUnavailable("away")

    class Server:
        """A backend that is not in this process's memory."""

        def __init__(self) -> None:
            memory = Away()
            for name in ("apply", "apply_many", "read_register", "now", "shard_of"):
                setattr(self, name, getattr(memory, name))

    backend: Any = Server()
    policy = Policy(name="campus", limits=[MessageRateLimit("1/minute")])
    limiter = Limiter(policy, backend, metrics=metrics, on_backend_error="deny")
    assert not limiter.try_acquire(envelope_to(1))
    assert decisions(registry) == {("outage", "defer", "enforced"): 1.0}
    labels = {"policy": "campus"}
    assert registry.get_sample_value("ratelimit_mail_degraded_decisions_total", labels) == 1
    errors = "ratelimit_mail_backend_errors_total"
    assert registry.get_sample_value(errors, {"operation": "apply"}) == 1


def test_no_label_has_an_address_and_their_number_is_bounded(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    overrides = [
        Override(senders=[f"s{i}@uwo.ca"], limits={"many": i + 1}, reason="x@y.z")
        for i in range(300)
    ]
    policy = Policy(
        name="campus",
        limits=[
            MessageRateLimit("1/hour", name="many"),
            MessageRateLimit("400/hour", scope="client"),
            MessageRateLimit("200/hour", scope="user", enforce=False),
        ],
        overrides=overrides,
        exemptions=[Exemption(senders=["free@uwo.ca"])],
    )
    dispatcher = Dispatcher(metrics, most_waiting=10**6)
    limiter = Limiter(policy, metrics=metrics, on_event=dispatcher)
    for number in range(300):
        client = Client(
            address=f"10.1.{number // 250}.{number % 250}", user=f"login{number}@uwo.ca"
        )
        for _ in range(3):
            limiter.try_acquire(Envelope(f"s{number}@uwo.ca", ["bob@example.com"], client=client))
        if number % 20 == 0:
            limiter.block(f"s{number}@uwo.ca")
        limiter.try_acquire(Envelope(f"s{number}@uwo.ca", ["bob@example.com"], client=client))
    for number in range(200):
        metrics.decided(f"policy{number}", limiter.check(Envelope("z@uwo.ca", ["b@example.com"])))
    assert dispatcher.flush(60)
    all_labels = [each.labels for each in samples(registry)]
    values = {value for labels in all_labels for value in labels.values()}
    assert not [value for value in values if "@" in value or "login" in value or "10.1." in value]
    assert len({labels["policy"] for labels in all_labels if "policy" in labels}) <= 101
    assert len({labels["limit"] for labels in all_labels if "limit" in labels}) <= 104


def test_a_scrape_shows_queues_and_held_messages(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    def broken() -> float:
        raise OSError("the file is away")

    metrics.watch_held("campus", lambda: 7)
    metrics.watch_held("other", broken)
    metrics.watch_queue("campus", lambda: {"queued": 3, "failed": 1})
    text = generate_latest(registry).decode()
    assert 'ratelimit_mail_held_messages{policy="campus"} 7.0' in text
    assert 'ratelimit_mail_held_messages{policy="other"} NaN' in text
    assert 'ratelimit_mail_queue_messages{policy="campus",state="queued"} 3.0' in text


def test_opentelemetry_gets_the_same_numbers() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    metrics = OpenTelemetryMetrics(provider.get_meter("test"))
    dispatcher = Dispatcher(metrics)
    limiter = Limiter(POLICY, metrics=metrics, on_event=dispatcher)
    for _ in range(5):
        limiter.try_acquire(envelope_to(1))
    limiter.acquire(envelope_to(1, "bob@uwo.ca"))
    metrics.called("apply", 0.01, failed=True)
    metrics.watch_held("campus", lambda: 2)
    metrics.watch_queue("campus", lambda: {"queued": 4})
    assert dispatcher.flush(30)
    data = reader.get_metrics_data()
    assert data is not None
    points = {
        metric.name: {
            tuple(sorted(dict(point.attributes or {}).items())): point
            for point in metric.data.data_points
        }
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    provider.shutdown()
    deferred = {
        "policy": "campus",
        "limit": "messages an hour",
        "result": "defer",
        "mode": "enforced",
    }
    counted: Any = points["ratelimit_mail.decisions"][tuple(sorted(deferred.items()))]
    assert counted.value == 2
    assert set(points) == {
        "ratelimit_mail.decisions",
        "ratelimit_mail.events",
        "ratelimit_mail.wait",
        "ratelimit_mail.backend",
        "ratelimit_mail.backend_errors",
        "ratelimit_mail.held_messages",
        "ratelimit_mail.queue_messages",
    }
    assert not [key for each in points.values() for key in each if "@" in str(key)]


def test_the_dashboard_asks_for_metrics_and_labels_that_exist(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    metrics.decided("campus", Limiter(POLICY).try_acquire(envelope_to(1)))
    metrics.called("apply", 0.1, failed=True)
    metrics.waited("campus", 1.0)
    metrics.watch_held("campus", lambda: 1)
    metrics.watch_queue("campus", lambda: {"queued": 1})
    labels_of = {metric.name: metric for metric in registry.collect()}
    names = {word for text in expressions for word in _METRIC.findall(text)}
    known = {
        f"{name}{end}" for name in labels_of for end in ("", "_total", "_bucket", "_count", "_sum")
    }
    assert names
    assert names <= known
    assert {panel["id"] for panel in dashboard["panels"]} == set(range(1, 9))
