"""The jobs of RQ and dramatiq on the documentation's page wait for their time and send once."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import unique_prefix, valkey_only
from rlm_testkit.servers import Server, wait_until

from ratelimit_mail import Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import RedisBackend

PAGE = Path(__file__).parents[2] / "docs" / "celery.md"

pytestmark = valkey_only


@pytest.fixture
def mailer(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a module with what the blocks of the page need, and what was sent."""
    monkeypatch.setenv("REDIS_URL", server.url)
    module: Any = ModuleType("mailer")
    policy = Policy(name="test", limits=[MessageRateLimit("2/second")])
    backend = RedisBackend.from_url(server.url, prefix=unique_prefix())
    module.limiter = Limiter(policy, backend)
    module.sent = []
    module.transfer = lambda sender, to, text: module.sent.append(text)
    monkeypatch.setitem(sys.modules, "mailer", module)
    exec("import os\nfrom ratelimit_mail import Envelope", module.__dict__)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        if "def send_by_" in block:
            exec(block, module.__dict__)
    return module


def test_jobs_of_rq_wait_and_are_sent_once(server: Server, mailer: Any) -> None:
    rq = pytest.importorskip("rq")
    from rq.scheduler import RQScheduler

    connection = redis.Redis.from_url(server.url)
    queue = rq.Queue("mails", connection=connection)
    for number in range(5):
        queue.enqueue(mailer.send_by_rq, "ann@uwo.ca", "bob@example.com", str(number))
    scheduler: Any = RQScheduler([queue], connection=connection)
    scheduler.acquire_locks()

    def work() -> bool:
        scheduler.enqueue_scheduled_jobs()
        rq.SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR")
        return len(mailer.sent) >= 5

    wait_until(work)
    scheduler.release_locks()
    connection.close()
    assert sorted(mailer.sent) == ["0", "1", "2", "3", "4"]


def test_messages_of_dramatiq_wait_and_are_sent_once(server: Server, mailer: Any) -> None:
    dramatiq = pytest.importorskip("dramatiq")
    worker = dramatiq.Worker(mailer.broker, worker_threads=2)
    worker.start()
    for number in range(5):
        mailer.send_by_dramatiq.send("ann@uwo.ca", "bob@example.com", str(number))
    wait_until(lambda: len(mailer.sent) >= 5)
    worker.stop()
    mailer.broker.close()
    assert sorted(mailer.sent) == ["0", "1", "2", "3", "4"]
