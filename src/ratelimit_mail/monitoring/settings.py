"""MonitoringSettings: the tables `[alerts]` and `[metrics]`, which configure alerts and metrics.

They stand in the policy file, or in a file of their own where the policy is a preset. Every program
that counts by the policy reads them there, so that they are configured once.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

import attrs

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Backend
from ratelimit_mail.decision import Decision
from ratelimit_mail.events import Dispatcher, Listener, Recorder
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.monitoring.alerts import DEFAULT_KINDS, Alerts
from ratelimit_mail.monitoring.mail import MailAlerts
from ratelimit_mail.monitoring.system_log import SystemLogAlerts
from ratelimit_mail.monitoring.webhook import WebhookAlerts

if TYPE_CHECKING:
    from ratelimit_mail.monitoring.opentelemetry import OpenTelemetryMetrics
    from ratelimit_mail.monitoring.prometheus import PrometheusMetrics

    Metrics = PrometheusMetrics | OpenTelemetryMetrics

__all__ = ["AlertSettings", "MetricSettings", "Monitoring", "MonitoringSettings", "host_and_port"]

T = TypeVar("T")

LONGEST_SECRET: Final = 10_000

PORTS: Final = {"smtp": 25, "smtps": 465}


@attrs.frozen(kw_only=True)
class AlertSettings:
    """The table `[alerts]`: which events are reported, by at least one of mail, webhook and syslog.

    mail_to, mail_from: the addresses of the mail; smtp: its relay, `smtp://host:25` or
        `smtps://host`, with a user before an @ if it needs a login.
    tls: `"starttls"`, `"implicit"` or `"none"`, as for MailAlerts.
    password_file, password_env: where the password of the login is.
    mails_per_hour: the most digests in an hour.
    webhook: a URL, or webhook_file: a file with it, if it holds a secret.
    webhook_token_file: a file with a secret for `Authorization: Bearer`.
    syslog: true for the log of this host, the path of a socket, or `"host:514"`.
    kinds: the kinds of events. shadow: whether limits that only report raise alerts.
    key_file: a file with at least 16 secret bytes; addresses are then replaced by digits.
    """

    mail_to: Sequence[str] = ()
    mail_from: str | None = None
    smtp: str | None = None
    tls: str | None = None
    password_file: str | None = None
    password_env: str | None = None
    mails_per_hour: float = 4
    webhook: str | None = attrs.field(default=None, repr=False)
    webhook_file: str | None = None
    webhook_token_file: str | None = None
    syslog: bool | str = False
    kinds: Sequence[str] = DEFAULT_KINDS
    shadow: bool = True
    key_file: str | None = None


@attrs.frozen(kw_only=True)
class MetricSettings:
    """The table `[metrics]`.

    prometheus: the address that answers scrapes, such as `"127.0.0.1:9117"`.
    opentelemetry: whether the global meter provider gets the metrics.
    """

    prometheus: str | None = None
    opentelemetry: bool = False


@attrs.frozen(kw_only=True)
class MonitoringSettings:
    """What the tables `[alerts]` and `[metrics]` of a file say; None for one that is missing.

    folder: what the names of other files are relative to.
    must_listen: whether it is an error if another program answers at the address for scrapes;
        otherwise that is logged, because several programs on one host read the same file.
    """

    alerts: AlertSettings | None = None
    metrics: MetricSettings | None = None
    folder: Path = Path()
    must_listen: bool = False

    @classmethod
    def find(
        cls,
        policy: str | os.PathLike[str] | None,
        file: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Return the settings for a program that counts by a policy.

        policy: the name of a preset or of a policy file.
        file: a file with the tables; by default the one that the environment variable
            RATELIMIT_MAIL_ALERTS names, or else the policy file. A preset without one has none.

        Raises as `load` does.
        """
        from ratelimit_mail.presets import PRESETS

        file = file or os.environ.get("RATELIMIT_MAIL_ALERTS")
        if file is None and policy is not None and policy not in PRESETS:
            file = policy
        return cls() if file is None else cls.load(file)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the settings in a file, which may be a policy file.

        path: of the file.

        Raises PolicyFileError that names file, table and key of what is wrong.
        """
        name = os.fspath(path)
        try:
            with open(path, "rb") as file:
                text = file.read(16 << 20).decode("utf-8-sig")
        except OSError as error:
            raise PolicyFileError([f"{show(name)}: cannot be read: {error.strerror}"]) from None
        except UnicodeDecodeError:
            raise PolicyFileError([f"{show(name)}: not UTF-8"]) from None
        try:
            return cls.loads(text, folder=Path(path).parent)
        except PolicyFileError as error:
            raise PolicyFileError([f"{name}: {each}" for each in error.problems]) from None

    @classmethod
    def loads(cls, text: str, *, folder: Path = Path()) -> Self:
        """Return the settings in the text of a file. Raises as `load` does.

        folder: where files are that the settings name.
        """
        import tomllib

        try:
            table = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise PolicyFileError([f"not TOML: {str(error)[:200]}"]) from None
        try:
            settings = cls(
                alerts=_structured(AlertSettings, table, "alerts"),
                metrics=_structured(MetricSettings, table, "metrics"),
                folder=folder,
            )
            settings.check()
        except ValueError as error:
            raise PolicyFileError([str(error)]) from None
        return settings

    def check(self) -> None:
        """Raise ValueError for what cannot work. Opens no file and no connection."""
        if self.alerts is not None:
            try:
                self._channels("check", None, checks_only=True)
                for kind in self.alerts.kinds:
                    Alerts([print], kinds=[kind])
            except (ValueError, TypeError) as error:
                raise ValueError(f"alerts.{error}") from None
        if self.metrics is not None and self.metrics.prometheus is not None:
            try:
                host_and_port(self.metrics.prometheus)
            except ValueError as error:
                raise ValueError(f"metrics.prometheus: {error}") from None

    def start(
        self,
        name: str,
        store: Backend | None = None,
        *,
        listens: bool = True,
        registry: Any = None,
        before: Monitoring | None = None,
    ) -> Monitoring:
        """Start what the settings ask for, for one program.

        name: the name of the policy. store: the backend that the processes share; with it, one of
            them reports each event. It is sync, also for an AsyncLimiter.
        listens: whether this process answers scrapes; of several on one host, only one can.
        registry: of prometheus_client, by default the global one.
        before: what the program has run so far by older settings. Its metrics go on, and so does
            its answer to scrapes, if the address is the same. Close it with `before.close()` when
            its limiter is no longer used: the alerts that wait then go to the new one. If this
            raises, `before` is as it was.

        Raises OSError for an address or a file that cannot be used, and ModuleNotFoundError for an
        extra that is not installed.
        """
        alerts = None if self.alerts is None else self._alerts(self.alerts, name, store)
        prometheus: PrometheusMetrics | None = None
        opentelemetry: OpenTelemetryMetrics | None = None
        scrapes: Scrapes | None = None
        try:
            if self.metrics is not None and self.metrics.opentelemetry:
                opentelemetry = None if before is None else before.opentelemetry
                if opentelemetry is None:
                    with _extra("opentelemetry"):
                        from ratelimit_mail.monitoring.opentelemetry import OpenTelemetryMetrics
                    opentelemetry = OpenTelemetryMetrics()
            if self.metrics is not None and self.metrics.prometheus is not None:
                with _extra("prometheus"):
                    from ratelimit_mail.monitoring.prometheus import PrometheusMetrics
                prometheus = PrometheusMetrics.shared(registry)
                if listens:
                    scrapes = self._serve(prometheus, self.metrics.prometheus, before)
        except BaseException:
            if alerts is not None:
                alerts.discard()
            raise
        monitoring = Monitoring(alerts, prometheus, opentelemetry, scrapes)
        if before is not None:
            before.successor = monitoring
        if alerts is not None and store is not None:
            alerts.start()
        return monitoring

    def _alerts(self, settings: AlertSettings, name: str, store: Backend | None) -> Alerts:
        return Alerts(
            self._channels(name, store),
            store=store,
            name=name,
            kinds=settings.kinds,
            shadow=settings.shadow,
        )

    def _serve(
        self, metrics: PrometheusMetrics, address: str, before: Monitoring | None
    ) -> Scrapes | None:
        """Answer scrapes, as `before` does already or at another address."""
        place = host_and_port(address)
        old = None if before is None else before.scrapes
        if old is not None and old.place == place:
            return old
        # A port cannot be opened twice, on all addresses and on one.
        in_the_way = old if old is not None and old.place[1] == place[1] else None
        if in_the_way is not None:
            in_the_way.stop()
        try:
            return Scrapes(metrics, place)
        except OSError as error:
            if in_the_way is not None:
                in_the_way.start()
            if self.must_listen or error.errno != errno.EADDRINUSE:
                raise
            log_warning(
                "another program answers Prometheus at %s; give this one an address of its own",
                address,
            )
            return None

    def _channels(
        self, name: str, store: Backend | None, *, checks_only: bool = False
    ) -> list[Listener]:
        settings = self.alerts
        if settings is None:
            return []
        key = None
        if settings.key_file is not None and not checks_only:
            key = self._secret(settings.key_file).encode()
        channels: list[Listener] = []
        if settings.mail_to or settings.smtp is not None or settings.mail_from is not None:
            channels.append(self._mail(settings, name, store, key))
        if settings.webhook is not None and settings.webhook_file is not None:
            raise ValueError("webhook_file: there is a webhook too; give one of the two")
        url = settings.webhook
        if settings.webhook_file is not None:
            is_file = not checks_only
            url = self._secret(settings.webhook_file) if is_file else "https://localhost/"
        if url is not None:
            token = None
            if settings.webhook_token_file is not None:
                token = partial(self._secret, settings.webhook_token_file)
            try:
                channels.append(WebhookAlerts(url, token=token, key=key))
            except ValueError as error:
                raise ValueError(str(error).replace("url:", "webhook:", 1)) from None
        if settings.syslog is not False:
            address = _syslog_address(settings.syslog)
            channels.append(print if checks_only else SystemLogAlerts(address, key=key))
        if not channels:
            raise ValueError("mail_to: no channel: set mail_to, webhook or syslog")
        return channels

    def _mail(
        self, settings: AlertSettings, name: str, store: Backend | None, key: bytes | None
    ) -> MailAlerts:
        if not settings.mail_to or settings.smtp is None or settings.mail_from is None:
            raise ValueError("mail_to: a mail needs mail_to, mail_from and smtp")
        try:
            pieces = urlsplit(settings.smtp)
            port, host = pieces.port, pieces.hostname
        except ValueError:
            port, host, pieces = None, None, urlsplit("")
        if pieces.scheme not in PORTS or not host or pieces.password is not None or pieces.path:
            raise ValueError(
                "smtp: it is not smtp://host:25 or smtps://user@host:465; a password stands in"
                " password_file or password_env"
            )
        username = None if pieces.username is None else unquote(pieces.username)
        password: Callable[[], str] | None = None
        if settings.password_file is not None and settings.password_env is not None:
            raise ValueError("password_env: there is a password_file too; give one of the two")
        if settings.password_file is not None:
            password = partial(self._secret, settings.password_file)
        elif settings.password_env is not None:
            password = partial(_from_environment, settings.password_env)
        tls = settings.tls
        if pieces.scheme == "smtps":
            if tls not in (None, "implicit"):
                raise ValueError("tls: smtps:// is implicit TLS; leave it out")
            tls = "implicit"
        return MailAlerts(
            host,
            port or PORTS[pieces.scheme],
            sender=settings.mail_from,
            recipients=settings.mail_to,
            mails_per_hour=settings.mails_per_hour,
            tls=tls,  # type: ignore[arg-type] # it is checked there
            username=username,
            password=password,
            store=store,
            name=name,
            key=key,
        )

    def _secret(self, file: str) -> str:
        with open(self.folder / file, encoding="utf-8") as opened:
            return opened.read(LONGEST_SECRET).strip()


class Scrapes:
    """Answers the scrapes of Prometheus at one address. Raises OSError if that is not possible.

    place: the host and the port.
    """

    def __init__(self, metrics: PrometheusMetrics, place: tuple[str, int]) -> None:
        self.place = place
        self._metrics = metrics
        self._stop: Callable[[], None] | None = None
        self.start()

    def start(self) -> None:
        """Answer scrapes."""
        if self._stop is None:
            self._stop = self._metrics.serve(*self.place)

    def stop(self) -> None:
        """End that."""
        if self._stop is not None:
            self._stop()
            self._stop = None


class Monitoring:
    """The alerts and metrics of one program, started by `MonitoringSettings.start`.

    prometheus, opentelemetry: the metrics of each kind; None without them.
    scrapes: what answers Prometheus; None without an address for it.
    on_event: what a Limiter, AsyncLimiter or Outbox gets as `on_event`; None if nothing listens.
    metrics: what it gets as `metrics`; None without metrics.
    """

    def __init__(
        self,
        alerts: Alerts | None,
        prometheus: PrometheusMetrics | None,
        opentelemetry: OpenTelemetryMetrics | None,
        scrapes: Scrapes | None,
    ) -> None:
        self.alerts = alerts
        self.opentelemetry = opentelemetry
        self.scrapes = scrapes
        self.successor: Monitoring | None = None
        """What the program runs in place of this, after its settings have changed."""
        recorders = [each for each in (prometheus, opentelemetry) if each is not None]
        self._recorders: Sequence[Metrics] = recorders
        listeners: list[Listener] = [*([] if alerts is None else [alerts]), *recorders]
        self.on_event = Dispatcher(listeners) if listeners else None
        self.metrics: Recorder | None = None
        if recorders:
            self.metrics = recorders[0] if len(recorders) == 1 else _AllRecorders(recorders)

    def watch_held(self, policy: str, count: Callable[[], float]) -> None:
        """Let the metrics call `count` for the number of messages that are held.

        policy: its name, which is a label.
        """
        for recorder in self._recorders:
            recorder.watch_held(policy, count)

    def watch_queue(self, policy: str, counts: Callable[[], Mapping[Any, int]]) -> None:
        """Let the metrics call `counts` for the number of messages of an outbox by state.

        policy: its name, which is a label.
        """
        for recorder in self._recorders:
            recorder.watch_queue(policy, counts)

    def close(self, timeout: float = 5.0) -> None:
        """Deliver the events that wait, and stop answering scrapes.

        timeout: the most seconds that this may take.

        What `start(before=)` has started in place of this takes over the scrapes of the same
        address and the alerts that wait for a digest.
        """
        if self.on_event is not None:
            self.on_event.flush(timeout)
        successor = self.successor
        if self.alerts is not None:
            self.alerts.close(timeout, successor=None if successor is None else successor.alerts)
        if self.scrapes is not None and (
            successor is None or successor.scrapes is not self.scrapes
        ):
            self.scrapes.stop()


class _AllRecorders:
    """Calls several recorders."""

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        self._recorders = recorders

    def decided(self, policy: str, decision: Decision) -> None:
        """See `events.Recorder`."""
        for each in self._recorders:
            each.decided(policy, decision)

    def decided_in_shadow(self, policy: str, decision: Decision) -> None:
        """See `events.Recorder`."""
        for each in self._recorders:
            each.decided_in_shadow(policy, decision)

    def waited(self, policy: str, seconds: float) -> None:
        """See `events.Recorder`."""
        for each in self._recorders:
            each.waited(policy, seconds)

    def called(self, operation: str, seconds: float, *, failed: bool) -> None:
        """See `events.Recorder`."""
        for each in self._recorders:
            each.called(operation, seconds, failed=failed)


def host_and_port(text: str) -> tuple[str, int]:
    """Return the host and the port of a text such as `127.0.0.1:9117` or `[::1]:9117`."""
    host, colon, port = text.rpartition(":")
    is_number = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if not colon or not host or not is_number:
        raise ValueError(f"{show(text)} is not a host and a port, such as 127.0.0.1:9117")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _syslog_address(value: bool | str) -> str | tuple[str, int] | None:
    if value is True:
        return None
    text = str(value)
    if text.startswith("/"):
        return text
    try:
        return host_and_port(text)
    except ValueError as error:
        raise ValueError(f"syslog: {error}, nor true, nor the path of a socket") from None


def _from_environment(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise OSError(f"the environment variable {show(name)} is missing") from None


_TYPES: Final[Mapping[str, tuple[type[Any] | tuple[type[Any], ...], str]]] = {
    "mail_to": (list, "a list of addresses"),
    "mails_per_hour": ((int, float), "a number"),
    "syslog": ((bool, str), "true, a path, or a host and a port"),
    "kinds": (list, "a list of kinds of events"),
    "shadow": (bool, "true or false"),
    "opentelemetry": (bool, "true or false"),
}


def _structured(kind: type[T], document: Mapping[str, Any], name: str) -> T | None:
    """Return the settings in the table `name`; None if there is none."""
    table = document.get(name)
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ValueError(f"{name}: a table is needed, not {type(table).__name__}")
    known = [field.name for field in attrs.fields(kind)]  # type: ignore[arg-type]
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key[:100].lower(), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"{name}.{show(key)[1:-1]}: there is no such key; {hint}")
        needed, words = _TYPES.get(key, (str, "a string"))
        if not isinstance(value, needed) or (needed == (int, float) and isinstance(value, bool)):
            # Not the value: that of webhook or smtp may hold a secret.
            raise ValueError(f"{name}.{key}: {words} is needed, not {type(value).__name__}")
        if isinstance(value, list) and not all(isinstance(each, str) for each in value):
            raise ValueError(f"{name}.{key}: {words} is needed, not {show(value)}")
    return kind(**table)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Turn a missing library into an error that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("prometheus_client", "opentelemetry"):
            raise
        raise ModuleNotFoundError(
            f"these metrics need {missing}: pip install 'ratelimit-mail[{name}]'", name=missing
        ) from None
