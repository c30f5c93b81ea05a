"""LimitedSES: with botocore's stubber, and against an HTTP server that answers as SES does."""

from __future__ import annotations

import contextlib
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from rlm_testkit.load import fullest_window
from rlm_testkit.simulated_time import SimulatedTime

from ratelimit_mail import RateLimitExceeded
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock

pytest.importorskip("boto3")

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    ParamValidationError,
    ReadTimeoutError,
)
from botocore.stub import Stubber

from ratelimit_mail.adapters.boto3 import LimitedSES, SendingLimitExceeded, ses_policy

ANN, BOB, EVE = "ann@uwo.ca", "bob@example.com", "eve@example.net"
CONTENT = {
    "Simple": {"Subject": {"Data": "Hello"}, "Body": {"Text": {"Data": "Hello"}}},
}
SENT = {"MessageId": "4711"}


def client_for(url: str | None = None, **config: Any) -> Any:
    return boto3.client(
        "sesv2",
        region_name="eu-west-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        endpoint_url=url,
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


def account(rate: float = 1.0, quota: float = 200.0) -> dict[str, Any]:
    return {"SendQuota": {"MaxSendRate": rate, "Max24HourSend": quota, "SentLast24Hours": 0.0}}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def client() -> Any:
    return client_for()


@pytest.fixture
def ses_replies(client: Any) -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def limited(client: Any, clock: ManualClock, **options: Any) -> LimitedSES:
    return LimitedSES(client, MemoryBackend(clock), sleep=clock.advance, **options)


def arguments(*recipients: str) -> dict[str, Any]:
    return {
        "FromEmailAddress": f"Ann <{ANN}>",
        "Destination": {"ToAddresses": list(recipients or [BOB])},
        "Content": CONTENT,
    }


def used(ses: LimitedSES) -> list[int]:
    return [each.used for each in ses.limiter.usage(scope="global")]


# The limits.


@pytest.mark.parametrize(
    ("rate", "quota", "limits"),
    [
        (1.0, 200.0, ["1 recipient per second", "200 recipients per day"]),
        (14.9, 50000.0, ["14 recipients per second", "50000 recipients per day"]),
        (0.3, -1.0, ["1 recipient per 4 seconds"]),
        (0.0, 0.0, []),
    ],
)
def test_the_limits_are_those_of_the_account(rate: float, quota: float, limits: list[str]) -> None:
    policy = ses_policy(account(rate, quota))
    shown = [str(each) for each in policy.limits[1:]]
    assert len(shown) == len(limits)
    assert all(part in text for text, part in zip(shown, limits, strict=True)), shown


def test_a_message_counts_its_recipients_of_rate_and_quota(
    client: Any, clock: ManualClock, ses_replies: Stubber
) -> None:
    ses = limited(client, clock)
    message = arguments(BOB, f"Eve <{EVE}>")
    message["Destination"]["BccAddresses"] = ["zoe@example.org", BOB]
    ses_replies.add_response("get_account", account(rate=14))
    ses_replies.add_response("send_email", SENT, message)
    assert ses.send_email(**message)["MessageId"] == "4711"
    assert used(ses) == [3, 3]


def test_the_rate_is_waited_for(client: Any, clock: ManualClock, ses_replies: Stubber) -> None:
    ses = limited(client, clock)
    ses_replies.add_response("get_account", account(rate=1))
    start = clock()
    for recipients in ([BOB], [BOB], [f"r{i}@example.com" for i in range(5)], [BOB]):
        ses_replies.add_response("send_email", SENT)
        ses.send_email(**arguments(*recipients))
    assert clock() - start == 7_000
    with pytest.raises(SendingLimitExceeded, match="at most 50"):
        ses.send_email(**arguments(*(f"r{i}@example.com" for i in range(51))))


def test_the_quota_raises_what_users_of_boto3_catch(
    client: Any, clock: ManualClock, ses_replies: Stubber
) -> None:
    ses = limited(client, clock, on_excess="raise")
    ses_replies.add_response("get_account", account(rate=100, quota=1))
    ses_replies.add_response("send_email", SENT)
    ses.send_email(**arguments())
    with pytest.raises(ClientError) as caught:
        ses.send_email(**arguments())
    error = caught.value
    assert isinstance(error, SendingLimitExceeded)
    assert isinstance(error, RateLimitExceeded)
    assert error.response["Error"]["Code"] == "TooManyRequestsException"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert error.operation_name == "SendEmail"
    assert error.decision.retry_after == 86400
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.decision, copy.response) == (error.decision, error.response)
    with pytest.raises(ClientError) as caught:
        ses.send_email(**arguments(*(f"r{i}@example.com" for i in range(51))))
    assert caught.value.response["Error"]["Code"] == "BadRequestException"
    assert used(ses) == [1, 1]


def test_changed_limits_are_used_and_what_was_sent_still_counts(
    client: Any, clock: ManualClock, ses_replies: Stubber
) -> None:
    ses = limited(client, clock, on_excess="raise")
    for quota in (1, 3):
        ses_replies.add_response("get_account", account(rate=100, quota=quota))
        ses.refresh()
        ses_replies.add_response("send_email", SENT)
        ses.send_email(**arguments())
        with pytest.raises(SendingLimitExceeded):
            ses.send_email(**arguments(BOB, EVE, ANN))
    limiter = ses.limiter
    ses_replies.add_response("get_account", account(rate=100, quota=3))
    ses.refresh()
    assert ses.limiter is limiter
    assert used(ses) == [2, 2]


def test_the_limits_are_asked_for_again_after_a_while(
    client: Any, clock: ManualClock, ses_replies: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("ratelimit_mail.adapters.boto3.monotonic", lambda: now[0])
    ses = limited(client, clock, refresh=600)
    quotas = []
    ses_replies.add_response("get_account", account(quota=1))
    for seconds, quota in ((0, None), (599, None), (1, 2), (600, 3)):
        now[0] += seconds
        if quota is not None:
            ses_replies.add_response("get_account", account(quota=quota))
        quotas.append(ses.limiter.policy.limits[-1].limit)
    assert quotas == [1, 1, 2, 3]


def test_an_account_that_cannot_be_read_leaves_the_limits_in_force(
    client: Any, clock: ManualClock, ses_replies: Stubber, caplog: pytest.LogCaptureFixture
) -> None:
    ses = limited(client, clock)
    ses_replies.add_client_error("get_account", "AccessDeniedException")
    with pytest.raises(ClientError):
        ses.send_email(**arguments())
    ses_replies.add_response("get_account", account())
    limiter = ses.limiter
    ses_replies.add_client_error("get_account", "TooManyRequestsException")
    ses.refresh()
    assert ses.limiter is limiter
    assert "could not be read" in caplog.text


# Raw messages.


def raw_message(**headers: str) -> bytes:
    message = EmailMessage()
    for name, value in {"From": f"Ann <{ANN}>", "To": BOB, **headers}.items():
        message[name] = value
    message.set_content("Hello")
    return bytes(message)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_raw_message_counts_for_its_headers(
    kind: Callable[[bytes], Any], client: Any, clock: ManualClock, ses_replies: Stubber
) -> None:
    ses = limited(client, clock)
    data = kind(raw_message(Cc=f"Eve <{EVE}>, {BOB}", Bcc="zoe@example.org"))
    ses_replies.add_response("get_account", account(rate=14))
    ses_replies.add_response("send_email", SENT, {"Content": {"Raw": {"Data": data}}})
    ses.send_email(Content={"Raw": {"Data": data}})
    assert used(ses)[1] == 3


def test_send_raw_email_takes_the_arguments_of_the_first_api(
    client: Any, clock: ManualClock, ses_replies: Stubber
) -> None:
    ses = limited(client, clock)
    ses_replies.add_response("get_account", account(rate=14))
    ses_replies.add_response(
        "send_email",
        SENT,
        {
            "FromEmailAddress": ANN,
            "Destination": {"ToAddresses": [BOB, EVE]},
            "Content": {"Raw": {"Data": raw_message()}},
            "EmailTags": [{"Name": "kind", "Value": "news"}],
            "ConfigurationSetName": "main",
        },
    )
    ses.send_raw_email(
        Source=ANN,
        Destinations=[BOB, EVE],
        RawMessage={"Data": raw_message()},
        Tags=[{"Name": "kind", "Value": "news"}],
        ConfigurationSetName="main",
    )
    ses_replies.add_response("send_email", SENT, {"Content": {"Raw": {"Data": raw_message()}}})
    ses.send_raw_email(RawMessage={"Data": raw_message()})
    assert used(ses)[1] == 3


# What was sent.


@pytest.mark.parametrize(
    ("code", "status", "charged"),
    [
        ("MessageRejected", 400, 0),
        ("AccountSuspendedException", 400, 0),
        ("TooManyRequestsException", 429, 0),
        ("InternalFailure", 500, 2),
        ("ServiceUnavailable", 503, 2),
    ],
)
def test_a_message_that_ses_refused_is_refunded(
    code: str, status: int, charged: int, client: Any, clock: ManualClock, ses_replies: Stubber
) -> None:
    ses = limited(client, clock)
    ses_replies.add_response("get_account", account(rate=14))
    ses_replies.add_client_error("send_email", code, http_status_code=status)
    with pytest.raises(ClientError) as caught:
        ses.send_email(**arguments(BOB, EVE))
    assert caught.value.response["Error"]["Code"] == code
    assert not isinstance(caught.value, RateLimitExceeded)
    assert used(ses)[1] == charged


def test_wrong_parameters_are_the_clients_errors_and_charge_nothing(
    client: Any, clock: ManualClock
) -> None:
    ses = limited(client, clock)
    with Stubber(client) as stubber:
        stubber.add_response("get_account", account())
        ses.refresh()
    with pytest.raises(ParamValidationError):
        ses.send_email(**arguments(), Subject="Hello")
    with pytest.raises(ParamValidationError):  # no recipients, and no Content
        ses.send_email(Destination={"ToAddresses": "bob@example.com"})
    assert used(ses) == [0, 0]


@pytest.mark.parametrize(
    ("code", "message", "seconds"),
    [
        ("TooManyRequestsException", "Maximum sending rate exceeded.", 1),
        ("Throttling", "Daily message quota exceeded.", 900),
        ("LimitExceededException", "Daily message quota exceeded.", 900),
    ],
)
def test_throttling_stops_the_whole_account_for_a_while(
    code: str, message: str, seconds: int, client: Any, clock: ManualClock, ses_replies: Stubber
) -> None:
    ses = limited(client, clock)
    ses_replies.add_response("get_account", account())
    ses_replies.add_client_error("send_email", code, message, 429)
    with pytest.raises(ClientError):
        ses.send_email(**arguments())
    (block,) = ses.limiter.blocks()
    assert block.until is not None
    assert (block.until - block.since).total_seconds() == seconds
    assert block.reason == f"SES: {message}"
    with pytest.raises(SendingLimitExceeded) as caught:
        ses.send_email(**arguments() | {"FromEmailAddress": "kim@uwo.ca"})
    assert caught.value.decision.retry_after == seconds
    clock.advance(seconds)
    ses_replies.add_response("send_email", SENT)
    ses.send_email(**arguments())


def test_throttling_leaves_an_administrators_block_in_force(
    client: Any, clock: ManualClock, ses_replies: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    ses = limited(client, clock)
    ses_replies.add_response("get_account", account())
    ses_replies.add_client_error("send_email", "TooManyRequestsException", "slower", 429)
    send_email = client.send_email

    def block_and_send(**kwargs: Any) -> Any:
        ses.limiter.block(scope="global", reason="stolen keys")
        return send_email(**kwargs)

    monkeypatch.setattr(client, "send_email", block_and_send)
    with pytest.raises(ClientError):
        ses.send_email(**arguments())
    assert [each.reason for each in ses.limiter.blocks()] == ["stolen keys"]


def test_pushback_none_blocks_nobody_and_an_outage_hides_nothing(
    client: Any, clock: ManualClock, ses_replies: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pushback in (None, 1.0):
        ses = limited(client, clock, pushback=pushback)
        ses_replies.add_response("get_account", account())
        ses_replies.add_client_error("send_email", "TooManyRequestsException", "slower", 429)
        limiter = ses.limiter

        def unavailable() -> None:
            raise BackendUnavailable("no connection")

        if pushback:
            monkeypatch.setattr(limiter, "blocks", unavailable)
        with pytest.raises(ClientError, match="slower"):
            ses.send_email(**arguments())
        monkeypatch.undo()
        assert limiter.blocks() == ()


# Against a server.


class SESServer(ThreadingHTTPServer):
    """Answers as SES does.

    answer: is called for each message with its recipients; returns a status and a body.
    """

    daemon_threads = True
    request_queue_size = 200

    def __init__(self, answer: Callable[[list[str]], tuple[int, dict[str, Any]]]) -> None:
        super().__init__(("127.0.0.1", 0), SESRequest)
        self.answer = answer
        self.account = account(rate=14)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=[0.02])
        self._thread.start()

    def __exit__(self, *args: Any) -> None:
        self.shutdown()
        self._thread.join()
        super().__exit__(*args)


class SESRequest(BaseHTTPRequestHandler):
    server: SESServer

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._reply(200, self.server.account)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._reply(*self.server.answer(body["Destination"]["ToAddresses"]))

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has given up
            self.wfile.write(text)


def test_a_hundred_concurrent_sendings_stay_within_the_rate_at_the_server() -> None:
    simulated = SimulatedTime(100)
    arrivals: list[int] = []
    numbers = iter(range(10**6))

    def answer(recipients: list[str]) -> tuple[int, dict[str, Any]]:
        simulated.sleep(0.75 if next(numbers) // 10 % 2 == 0 else 0)  # ten slow ones, ten quick
        arrivals.extend([simulated()] * len(recipients))
        simulated.sleep(0.1)
        return 200, SENT

    with SESServer(answer) as server:
        server.account = account(rate=20, quota=50_000)
        client = client_for(server.url, max_pool_connections=100, read_timeout=None)
        ses = LimitedSES(client, MemoryBackend(simulated), sleep=simulated.sleep)

        def send() -> None:
            try:
                ses.send_email(**arguments(BOB, EVE))
            finally:
                simulated.finish()

        with ThreadPoolExecutor(100) as threads:
            for each in [threads.submit(send) for _ in range(100)]:
                each.result()
        assert len(arrivals) == used(ses)[1] == 200
        client.close()
    assert fullest_window(1000, arrivals) <= 20


def test_what_ends_without_an_answer_is_charged_if_it_may_have_been_sent(
    clock: ManualClock,
) -> None:
    done = threading.Event()

    def answer(recipients: list[str]) -> tuple[int, dict[str, Any]]:
        done.wait(20)
        return 200, SENT

    with SESServer(answer) as server:
        patient, client = client_for(server.url), client_for(server.url, read_timeout=0.1)
        both = SimpleNamespace(get_account=patient.get_account, send_email=client.send_email)
        ses = limited(both, clock)
        with pytest.raises(ReadTimeoutError):
            ses.send_email(**arguments(BOB, EVE))
        assert used(ses)[1] == 2
        done.set()
        client.close()
        patient.close()
    with pytest.raises(EndpointConnectionError):
        ses.send_email(**arguments(BOB, EVE))
    assert used(ses)[1] == 2


# A client as before.


def test_the_other_methods_are_the_clients_but_for_those_that_send(
    client: Any, clock: ManualClock
) -> None:
    ses = limited(client, clock)
    assert ses.meta is client.meta
    assert ses.exceptions is client.exceptions
    with pytest.raises(AttributeError, match="send_bulk_email: only send_email"):
        _ = ses.send_bulk_email
    assert not hasattr(ses, "_unknown")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"client": None}, TypeError, "client: boto3.client"),
        ({"refresh": 0}, ValueError, "refresh: 0"),
        ({"on_excess": "drop"}, ValueError, "on_excess: 'drop'"),
        ({"pushback": -1}, ValueError, "pushback: -1"),
    ],
)
def test_wrong_arguments_are_errors(
    options: Any, error: type[Exception], words: str, client: Any
) -> None:
    with pytest.raises(error, match=words):
        LimitedSES(**{"client": client, **options})
