"""The command `outbox run`."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.backends import Backend
from ratelimit_mail.cli.errors import INTERRUPTED, CommandError, reported_errors
from ratelimit_mail.cli.find_policy import find_policy
from ratelimit_mail.cli.monitoring import (
    monitoring_options,
    monitoring_settings,
    started_monitoring,
)
from ratelimit_mail.cli.options import JSON, STORE, list_of_seconds, seconds
from ratelimit_mail.cli.outbox.forecast import Forecast, forecast
from ratelimit_mail.cli.outbox.options import MOMENTS, OUTBOX, POLICY, opened_outbox
from ratelimit_mail.cli.outbox.output import iso
from ratelimit_mail.cli.outbox.transports import (
    CountedTransport,
    Login,
    maildir_transport,
    smtp_transport,
)
from ratelimit_mail.cli.outbox.watch import Watch
from ratelimit_mail.cli.plan.mailing import parse_zone
from ratelimit_mail.cli.store import opened_store
from ratelimit_mail.cli.tables import number_of
from ratelimit_mail.events import (
    Delayed,
    Dispatcher,
    Event,
    Failed,
    Held,
    Listener,
    OutboxEvent,
    Uncertain,
)
from ratelimit_mail.exceptions import BackendError, OutboxError
from ratelimit_mail.monitoring import Monitoring
from ratelimit_mail.outbox import Notices, Outbox, RetrySchedule, State, Transport
from ratelimit_mail.policy import Policy

__all__ = ["TRANSPORT_OPTIONS", "run_command", "send_queued"]

NOT_ALL_SENT: Final = 1
"""The exit code with --until-empty if a message failed or may have been sent."""

TRANSPORT_OPTIONS: Final = (
    "smtp_url",
    "maildir",
    "password_file",
    "password_env",
    "oauth_token_file",
    "tls",
    "connections",
    "timeout",
)
"""The parameters that say how to send."""

FORECAST_SECONDS: Final = 10.0
"""How often the time at which all will be out is computed for a terminal, and at least ..."""

FORECAST_SHARE: Final = 20
"""... this many times as long as that takes."""

EVENTS_SECONDS: Final = 5.0
"""How long the end waits for the events that are left."""

LINE_SECONDS: Final = 600.0
"""How often it is printed where there is no terminal."""


@click.command("run")
@OUTBOX
@POLICY
@STORE
@click.option(
    "--smtp",
    "smtp_url",
    metavar="URL",
    help="The mail server, such as smtp://ann@smtp.example.com:587.",
)
@click.option(
    "--maildir",
    type=click.Path(path_type=Path),
    help="Write the messages into this Maildir instead, for tests.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="A file with the password of the user; it is read for each login.",
)
@click.option(
    "--password-env", metavar="NAME", help="The environment variable that has the password."
)
@click.option(
    "--oauth-token-file",
    type=click.Path(path_type=Path),
    help="A file with an access token for XOAUTH2; it is read for each login.",
)
@click.option(
    "--tls",
    type=click.Choice(["starttls", "implicit", "none"]),
    help="Default: starttls for smtp:, implicit for smtps:.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="The most connections to the mail server at the same time.",
)
@click.option(
    "--timeout",
    callback=seconds,
    default="60s",
    show_default=True,
    help="How long to wait for a reply.",
)
@click.option("--until-empty", is_flag=True, help="End when nothing is queued.")
@click.option(
    "--on-uncertain",
    type=click.Choice(["report", "resend"]),
    default="report",
    show_default=True,
    help="What happens to a message that may have been sent.",
)
@click.option(
    "--retry-delays",
    callback=list_of_seconds,
    metavar="TIMES",
    help="How long to wait after the 1st, 2nd, ... temporary refusal.  [default: 30m,2h,3h]",
)
@click.option(
    "--give-up",
    callback=seconds,
    metavar="TIME",
    help="How long after its first attempt a message fails.  [default: 5d]",
)
@click.option(
    "--reconnect",
    callback=list_of_seconds,
    metavar="TIMES",
    help="How long to wait after the 1st, 2nd, ... failure to connect.  [default: 5s,30s,2m,5m]",
)
@click.option(
    "--notices-from", metavar="ADDRESS", help="Send senders notices of failures from ADDRESS."
)
@click.option(
    "--delay-notice-after",
    callback=seconds,
    metavar="TIME",
    help="Also send a notice if a message is still queued after TIME.",
)
@click.option(
    "--hold-for",
    callback=seconds,
    default="5d",
    show_default=True,
    metavar="TIME",
    help="How long a message waits for a moderator.",
)
@click.option(
    "--keep",
    callback=seconds,
    default="7d",
    show_default=True,
    metavar="TIME",
    help="How long the text of a message is stored after its end.",
)
@click.option(
    "--keep-records",
    callback=seconds,
    default="90d",
    show_default=True,
    metavar="TIME",
    help="How long the record of a message, with its key, is stored after its end.",
)
@monitoring_options
@MOMENTS
@click.option("--quiet", "-q", is_flag=True, help="Print only what went wrong.")
@JSON
def run_command(
    file: Path,
    policy_name: str | None,
    url: str | None,
    smtp_url: str | None,
    maildir: Path | None,
    password_file: Path | None,
    password_env: str | None,
    oauth_token_file: Path | None,
    tls: str | None,
    connections: int,
    timeout: float,
    **options: Any,
) -> None:
    """Send the messages in OUTBOX when the limits allow it, until SIGTERM or Ctrl-C.

    At the first signal, the command finishes the message in hand; at the second, it ends at once.
    A password is never an argument, because other users of the host could read it.

    Any number of these commands may run at the same time. They count what they send in --store,
    which must survive a restart, such as sqlite:///counts.db or redis://localhost:6379/0.

    --json prints an object for each event in a line of its own, and one at the end.

    The exit code is 0, also after a signal; 2 if an option, OUTBOX or --store cannot be used; 130
    after a second signal. With --until-empty, it is 1 if a message failed or may have been sent,
    and 143 or 130 if SIGTERM or Ctrl-C ended it while messages were queued.
    """
    if policy_name is None:
        raise CommandError(
            "--policy NAME is needed: the limits of the messages; `ratelimit-mail presets` lists"
            " the presets"
        )
    policy = find_policy(policy_name)
    if url is None:
        raise CommandError(
            "--store URL is needed, such as sqlite:///counts.db: where messages are counted, over"
            " restarts too (memory: forgets them)"
        )
    if (smtp_url is None) == (maildir is None):
        raise CommandError("one of --smtp URL and --maildir DIR is needed")
    login = Login(password_file, password_env, oauth_token_file)
    if smtp_url is not None:
        sender = smtp_transport(smtp_url, login, tls=tls, connections=connections, timeout=timeout)
    elif any(login):
        raise CommandError("a password or a token needs --smtp")
    else:
        sender = maildir_transport(maildir or Path())
    send_queued(
        file,
        policy,
        url,
        sender,
        policy_name=policy_name,
        **options,
    )


def send_queued(
    file: Path,
    policy: Policy,
    store: str | Backend,
    sender: Transport,
    *,
    policy_name: str | None = None,
    until_empty: bool,
    on_uncertain: str,
    retry_delays: tuple[float, ...] | None,
    give_up: float | None,
    reconnect: tuple[float, ...] | None,
    notices_from: str | None,
    delay_notice_after: float | None,
    hold_for: float,
    keep: float,
    keep_records: float,
    alerts_file: str | None,
    metrics_address: str | None,
    time_zone: str,
    quiet: bool,
    wants_json: bool,
) -> None:
    """Send the messages in an outbox with any transport; see `run_command` for the options.

    policy_name: the policy file that may say what is reported and measured.
    """
    monitoring = monitoring_settings(policy_name, alerts_file, metrics_address)
    zone = parse_zone(time_zone)
    schedule = {"delays": retry_delays, "give_up": give_up, "reconnect": reconnect}
    if delay_notice_after is not None and notices_from is None:
        raise CommandError("--delay-notice-after needs --notices-from ADDRESS")
    with reported_errors():
        retry = RetrySchedule(**{k: v for k, v in schedule.items() if v is not None})  # type: ignore[arg-type] # by name
        notices = None
        if notices_from is not None:
            notices = Notices(notices_from, delayed_after=delay_notice_after)
    if not (quiet or wants_json or file.exists()):
        # A service may start before the first message; a wrong name looks the same.
        click.echo(f"{escape(str(file))}: there is no outbox yet; a new one is created", err=True)
    transport = CountedTransport(sender)
    reporter = _Reporter(transport, zone, is_quiet=quiet, wants_json=wants_json)
    with (
        _log_on_stderr(reporter),
        opened_store(store) as backend,
        started_monitoring(monitoring, policy.name, backend) as started,
        _reported_to(reporter, started),
        opened_outbox(
            file,
            policy,
            backend,
            create=True,
            limiter_options={"on_event": started.on_event, "metrics": started.metrics},
            transport=transport,
            retry=retry,
            on_uncertain=on_uncertain,
            notices=notices,
            on_event=reporter.dispatcher,
            hold_for=hold_for,
            keep=keep,
            keep_records=keep_records,
        ) as outbox,
    ):
        started.watch_queue(policy.name, lambda: outbox.stats().counts)
        stopped_by = _run(outbox, policy, backend, reporter, until_empty=until_empty)
        counts = outbox.stats().counts
        queued = counts[State.QUEUED] + counts[State.SENDING]
    reporter.print_end(queued, is_stopped=stopped_by is not None)
    if not until_empty:
        return
    if queued and stopped_by is not None:
        sys.exit(128 + stopped_by)
    if reporter.failed or reporter.uncertain:
        sys.exit(NOT_ALL_SENT)


def _run(
    outbox: Outbox,
    policy: Policy,
    backend: Backend | None,
    reporter: _Reporter,
    *,
    until_empty: bool,
) -> int | None:
    """Run until the end; return the number of the signal that stopped it, None if none did."""

    def progress() -> float:
        return reporter.show_progress(lambda: forecast(outbox, policy, backend))

    watch = Watch(outbox, reporter.print_stop)
    try:
        with reporter.open():
            watch.run(until_empty=until_empty, every=progress)
    except KeyboardInterrupt:
        click.echo("Ended at once: a message may be uncertain after the next run.", err=True)
        sys.stdout.flush()
        # The thread that sends may be anywhere; it must not go on while the files are closed.
        os._exit(INTERRUPTED)
    reporter.dispatcher.flush()
    return watch.signal


@contextmanager
def _reported_to(reporter: _Reporter, started: Monitoring) -> Iterator[None]:
    """Let the alerts have the events too, and wait until they have."""
    if started.on_event is not None:
        reporter.add_listener(started.on_event.dispatch)
    yield
    reporter.dispatcher.flush(EVENTS_SECONDS)


class _Reporter:
    """Print the progress, the events and the end of a run."""

    def __init__(
        self, transport: CountedTransport, zone: tzinfo, *, is_quiet: bool, wants_json: bool
    ) -> None:
        self._transport = transport
        self._zone = zone
        self._is_quiet = is_quiet
        self._wants_json = wants_json
        self._console = Console(stderr=True)
        self._status: Status | None = None
        self._forecast: Forecast | None = None
        self._forecast_due = 0.0
        self.dispatcher = Dispatcher(self._report)
        self.failed = self.uncertain = 0

    def add_listener(self, listener: Listener) -> None:
        """Let another listener have the events; before the first of them."""
        self.dispatcher = Dispatcher([self._report, listener])

    @contextmanager
    def open(self) -> Iterator[None]:
        """Show the progress on a terminal while this is open."""
        if self._is_quiet or not self._console.file.isatty():
            yield
            return
        with self._console.status("") as self._status:
            yield
        self._status = None

    def show_progress(self, compute: Any) -> float:
        """Show the progress; return in how many seconds it is to be shown again."""
        if self._is_quiet:
            return LINE_SECONDS
        began = time.monotonic()
        if self._status is None or began >= self._forecast_due:
            # The store or the file may be away for a while; the outbox waits for them, too.
            with suppress(BackendError, OutboxError):
                self._forecast = compute()
            took = time.monotonic() - began
            wait = max(FORECAST_SECONDS, FORECAST_SHARE * took)
            self._forecast_due = began + wait
        if self._forecast is None:
            return FORECAST_SECONDS
        text = self._forecast.in_words(self._zone)
        if self._status is not None:
            self._status.update(Text(f"{self._transport.sent:,} sent; {text}"))
            return 1.0
        self._print(f"{self._transport.sent:,} sent; {text}")
        return LINE_SECONDS

    def print_stop(self) -> None:
        """Say that the message in hand is finished first."""
        self._print("finishing the message in hand; Ctrl-C ends at once")

    def print_end(self, queued: int, *, is_stopped: bool) -> None:
        """Print what this run did."""
        if self._wants_json:
            end = {
                "event": "end",
                "sent": self._transport.sent,
                "failed": self.failed,
                "uncertain": self.uncertain,
                "queued": queued,
                "stopped": is_stopped,
            }
            click.echo(json.dumps(end))
        elif not self._is_quiet or self.failed or self.uncertain:
            text = f"{number_of(self._transport.sent, 'message')} sent, {self.failed:,} failed,"
            text += f" {self.uncertain:,} uncertain; {queued:,} queued"
            click.echo(text)

    def _report(self, event: Event) -> None:
        if not isinstance(event, OutboxEvent):
            return
        if self._wants_json:
            with suppress(OSError):
                click.echo(json.dumps(_event_as_json(event)))
        of = f"message {event.message}"
        if isinstance(event, Failed):
            self.failed += 1
            to = ", ".join(event.recipients[:3])
            more = len(event.recipients) - 3
            more_text = f" and {more:,} more" if more > 0 else ""
            self.print_problem(f"{of} failed for {to}{more_text}: {event.reply}")
        elif isinstance(event, Uncertain):  # which the outbox has logged
            self.uncertain += not event.resent
        elif isinstance(event, Held):
            self._print(f"{of} is held for a moderator of {', '.join(event.lists)}")

    def print_problem(self, text: str) -> None:
        """Print a line on stderr, also if the run is quiet."""
        if self._status is not None:
            self._console.print(Text(escape(text)), soft_wrap=True)
            return
        # A log that cannot be written does not stop the mail.
        with suppress(OSError):
            click.echo(escape(text), err=True)

    def _print(self, text: str) -> None:
        if not self._is_quiet:
            self.print_problem(text)


def _event_as_json(event: OutboxEvent) -> dict[str, Any]:
    """Return an event for JSON. The keys are stable."""
    values: dict[str, Any] = {
        "event": type(event).__name__.lower(),
        "message": event.message,
        "key": event.key,
        "sender": event.sender,
        "recipients": list(event.recipients),
        "at": iso(event.at),
    }
    if isinstance(event, Delayed):
        values["expected"] = iso(event.expected)
    elif isinstance(event, Held):
        values["lists"] = list(event.lists)
    elif isinstance(event, Failed | Uncertain):
        values["reply"] = event.reply
    if isinstance(event, Uncertain):
        values["resent"] = event.resent
    return values


class _Handler(logging.Handler):
    """Prints what the library logs, each record in one line."""

    def __init__(self, reporter: _Reporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._reporter.print_problem(f"{record.levelname.lower()}: {record.getMessage()}")
        except Exception:
            self.handleError(record)


@contextmanager
def _log_on_stderr(reporter: _Reporter) -> Iterator[None]:
    """Print the warnings of the library."""
    logger = logging.getLogger("ratelimit_mail")
    handler = _Handler(reporter)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
