"""The Celery application that the workers of a test run, set up by environment variables."""

from __future__ import annotations

import os
import smtplib
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import task_failure, task_prerun

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.adapters.celery import SendingUncertain, limited_task
from ratelimit_mail.backends import from_url

app = Celery("rlm_testkit.celery_program", broker=os.environ["BROKER"])
folder = Path(os.environ["FOLDER"])
options: dict[str, Any] = {
    "visibility_timeout": 6,
    "unacked_mutex_expire": 2,
    "unacked_restore_interval": 0.5,
    "unacked_restore_throttle": 1,
}
if os.environ["BROKER"].startswith("filesystem:"):
    options = {f"data_folder_{each}": str(folder / "queue") for each in ("in", "out")}
    options["polling_interval"] = 0.1
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options=options,
    task_ignore_result=True,
    worker_enable_remote_control=False,
)
policy = Policy(name="test", limits=[MessageRateLimit(os.environ["RATE"])])
limiter = Limiter(policy, from_url(os.environ["STORE"]))


@task_prerun.connect
def record(task_id: str, **_: object) -> None:
    """Append the task's id to a file at each execution."""
    with (folder / "executions").open("a") as file:
        file.write(f"{task_id}\n")


@task_failure.connect
def record_failure(task_id: str, exception: BaseException, **_: object) -> None:
    """Append the task's id to a file if its message was perhaps sent, and the worker died."""
    name = "uncertain" if isinstance(exception, SendingUncertain) else "failed"
    with (folder / name).open("a") as file:
        file.write(f"{task_id}\n")


@limited_task(
    limiter,
    app=app,
    envelope=lambda sender, _: Envelope(sender, ["bob@example.com"]),
    order_timeout=12,
    sending_timeout=10,
)
def send(sender: str, name: str) -> None:
    """Send one message, with its name as the subject."""
    with smtplib.SMTP("127.0.0.1", int(os.environ["SMTP_PORT"])) as smtp:
        smtp.sendmail(sender, ["bob@example.com"], f"Subject: {name}\r\n\r\nHello")
