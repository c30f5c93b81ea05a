"""A limited Celery task: how often it is executed, in which order, and what is never sent twice."""

from __future__ import annotations

import pickle
import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from random import Random
from typing import Any, ParamSpec, TypeVar

import pytest
from rlm_testkit.builders import campus_policy

from ratelimit_mail import (
    AsyncLimiter,
    Envelope,
    Limiter,
    MessageRateLimit,
    RateLimitExceeded,
    RecipientLimit,
)
from ratelimit_mail.exceptions import BackendUnavailable

pytest.importorskip("celery")

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from rlm_testkit.celery_scene import CeleryScene, WorkerDied

from ratelimit_mail.adapters.celery import SendingUncertain, limited_task
from ratelimit_mail.adapters.celery.places import HEADER

ANN, KIM = "ann@uwo.ca", "kim@uwo.ca"
TEN_IN_TWO_SECONDS = campus_policy(MessageRateLimit("10/2 seconds"))

P = ParamSpec("P")
R = TypeVar("R")

NewScene = Callable[..., CeleryScene]


def envelope(sender: str, *_: object) -> Envelope:
    return Envelope(sender, ["bob@example.com"])


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> CeleryScene:
    return CeleryScene(monkeypatch, TEN_IN_TWO_SECONDS)


@pytest.fixture
def new_scene(monkeypatch: pytest.MonkeyPatch) -> NewScene:
    def new(*limits: Any, **options: Any) -> CeleryScene:
        return CeleryScene(monkeypatch, campus_policy(*limits), **options)

    return new


def task_of(scene: CeleryScene, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return what makes a task of a function whose first argument is the sender."""
    values = {"name": "send", "envelope": envelope, **options}
    return limited_task(scene.limiter, app=scene.app, shared=False, **values)


def put(send: Any, number: int) -> None:
    """Publish so many messages of one sender."""
    for each in range(number):
        send.delay(ANN, each)


def sending_task(scene: CeleryScene, sent: list[Any], **options: Any) -> Any:
    @task_of(scene, **options)
    def send(sender: str, number: int) -> str:
        scene.step()
        sent.append((sender, number, scene.clock()))
        scene.step()
        return f"sent {number}"

    return send


def used(scene: CeleryScene, sender: str = ANN) -> int:
    number: int = scene.limiter.usage(sender)[0].used
    return number


def most_in_two_seconds(sent: list[Any], sender: str) -> int:
    moments: list[int] = [moment for each, _, moment in sent if each == sender]
    return max(sum(start <= each < start + 2000 for each in moments) for start in moments)


def test_sixty_messages_take_at_most_two_executions_each_and_go_in_order(
    scene: CeleryScene,
) -> None:
    sent: list[Any] = []
    send = sending_task(scene, sent)
    put(send, 60)
    scene.run()
    assert [number for _, number, _ in sent] == list(range(60))
    assert sum(scene.executions.values()) <= 120
    assert max(scene.executions.values()) == 2
    assert most_in_two_seconds(sent, ANN) == 10
    assert sent[-1][2] - sent[0][2] < 10_100
    assert scene.queue == []


def test_a_worker_whose_limiter_counts_in_memory_logs_one_warning(
    scene: CeleryScene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.limiter = Limiter(TEN_IN_TWO_SECONDS, scene.backend, sleep=scene.clock.advance)
    send = sending_task(scene, [])
    put(send, 3)
    assert caplog.text == ""  # a process that publishes counts nothing
    scene.run()
    assert caplog.text.count("the limiter counts in the memory of each worker process") == 1


def test_workers_that_take_the_messages_in_any_order_send_them_in_theirs(
    scene: CeleryScene,
) -> None:
    random, sent = Random(1), list[Any]()
    send = sending_task(scene, sent)
    for number in range(30):
        send.delay(random.choice([ANN, KIM]), number)
    while scene.queue:
        due = [each for each in scene.queue if each.due <= scene.clock()]
        message = random.choice(due or [min(scene.queue)])
        scene.queue.remove(message)
        scene.execute(message)
    for sender in (ANN, KIM):
        numbers = [number for each, number, _ in sent if each == sender]
        assert numbers == sorted(numbers)
    assert sorted(number for _, number, _ in sent) == list(range(30))
    assert max(scene.executions.values()) <= 2


def test_without_an_order_a_place_is_booked_at_the_first_execution(new_scene: NewScene) -> None:
    scene = new_scene(MessageRateLimit("1/minute"))
    sent: list[Any] = []
    send = sending_task(scene, sent, keep_order=False)
    put(send, 3)
    scene.run(3)
    assert [number for _, number, _ in sent] == [0]
    assert sorted(each.due - scene.clock() for each in scene.queue) == [60_000, 120_000]
    scene.run()
    assert [number for _, number, _ in sent] == [0, 1, 2]


@pytest.mark.parametrize("seed", range(25))
def test_nothing_is_sent_twice_and_nothing_lost_when_workers_die(
    scene: CeleryScene, seed: int
) -> None:
    random, sent = Random(seed), list[Any]()
    send = sending_task(scene, sent)
    for number in range(15):
        send.delay(random.choice([ANN, KIM]), number)
    while scene.queue:
        scene.die_in = random.choice([0, random.randint(1, 25)])
        scene.queue.sort()
        scene.execute(scene.queue.pop(0))
        scene.die_in = 0
    numbers = [number for _, number, _ in sent]
    assert len(numbers) == len(set(numbers))
    uncertain = [each for each in scene.outcomes.values() if isinstance(each, SendingUncertain)]
    assert len(numbers) + len(uncertain) >= 15
    for sender in (ANN, KIM):
        own = [number for each, number, _ in sent if each == sender]
        assert own == sorted(own)
        if own:
            assert most_in_two_seconds(sent, sender) <= 10


@pytest.mark.parametrize("seed", range(12))
def test_everything_is_sent_when_uncertain_messages_are_sent_again(
    scene: CeleryScene, seed: int
) -> None:
    random, sent = Random(seed), list[Any]()
    send = sending_task(scene, sent, on_uncertain="resend")
    put(send, 15)
    while scene.queue:
        scene.die_in = random.choice([0, random.randint(1, 25)])
        scene.queue.sort()
        scene.execute(scene.queue.pop(0))
        scene.die_in = 0
    numbers = [number for _, number, _ in sent]
    assert list(dict.fromkeys(numbers)) == list(range(15))


def test_a_message_that_is_delivered_twice_is_sent_once(new_scene: NewScene) -> None:
    scene = new_scene(MessageRateLimit("1/minute"))
    sent: list[Any] = []
    send = sending_task(scene, sent)
    send.delay(ANN, 0)
    [first] = scene.queue
    scene.run()
    assert isinstance(scene.execute(first), Ignore)
    send.delay(ANN, 1)
    scene.run(1)
    [waiting] = scene.queue
    scene.queue.append(waiting)  # its visibility timeout is over
    scene.run()
    assert [number for _, number, _ in sent] == [0, 1]
    assert used(scene) == 1


def test_an_execution_that_dies_while_it_sends_is_reported(scene: CeleryScene) -> None:
    calls: list[int] = []

    @task_of(scene)
    def send(sender: str, number: int) -> None:
        calls.append(number)
        if number == 0:
            raise WorkerDied

    send.delay(ANN, 0)
    send.delay(ANN, 1)
    start = scene.clock()
    scene.run()
    uncertain = scene.outcomes.values()
    [error] = [each for each in uncertain if isinstance(each, SendingUncertain)]
    assert calls == [0, 1]
    assert "not known whether its message was sent" in str(error)
    assert error.task_id in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert scene.clock() - start >= 600_000  # it could have been running that long


def test_a_lost_message_is_waited_for_until_the_order_timeout(scene: CeleryScene) -> None:
    sent: list[Any] = []
    send = sending_task(scene, sent, order_timeout=20)
    put(send, 4)
    del scene.queue[1]  # revoked
    start = scene.clock()
    scene.run()
    assert [number for _, number, _ in sent] == [0, 2, 3]
    assert 19_900 <= scene.clock() - start <= 60_000
    assert scene.watches <= 3


def test_a_message_that_the_broker_loses_on_its_way_is_published_again(
    new_scene: NewScene,
) -> None:
    scene = new_scene(MessageRateLimit("1/minute"))
    sent: list[Any] = []
    send = sending_task(scene, sent)
    put(send, 3)
    first, *others = scene.queue
    scene.queue.clear()
    for message in (*others, first):  # both of the others are parked then
        scene.execute(message)
    [watch] = [each for each in scene.queue if each.headers[HEADER].get("watch")]
    [lost] = [each for each in scene.queue if each is not watch]
    assert list(lost.args) == [ANN, 1]
    scene.queue.remove(lost)
    scene.run()
    assert [number for _, number, _ in sent] == [0, 1, 2]
    assert sent[1][2] - sent[0][2] <= 180_000


@pytest.mark.parametrize("lost", [1, 7, 12, 19])
def test_a_queue_goes_on_whichever_message_is_lost_on_its_way(
    new_scene: NewScene, lost: int
) -> None:
    scene = new_scene(MessageRateLimit("1/5 seconds"))
    sent: list[Any] = []
    send = sending_task(scene, sent, order_timeout=20)
    put(send, 20)
    for message in [*scene.queue[1:], scene.queue[0]]:  # all but the first are parked then
        scene.queue.remove(message)
        scene.execute(message)
    while len(sent) < lost:
        scene.run(1)
    [next_one] = [
        each
        for each in scene.queue
        if list(each.args) == [ANN, lost] and not (each.headers[HEADER].get("watch"))
    ]
    scene.queue.remove(next_one)
    scene.run()
    assert [number for _, number, _ in sent] == list(range(20))
    assert scene.watches <= 12


def test_a_text_of_another_serializer_is_not_read(
    scene: CeleryScene, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Any] = []
    send = sending_task(scene, sent)
    put(send, 2)
    scene.execute(scene.queue.pop(1))
    [texts] = scene.backend._registers.values()
    texts["text"] = f"application/x-python-serialize\nutf-8\n{pickle.dumps({}, 0).decode()}"
    scene.run()
    assert [number for _, number, _ in sent] == [0]
    assert "a message that waits cannot be read: ContentDisallowed" in caplog.text
    send.delay(ANN, 2)
    scene.run()
    assert [number for _, number, _ in sent] == [0, 2]


def test_a_message_that_waits_for_its_time_is_not_taken_for_lost(new_scene: NewScene) -> None:
    scene = new_scene(MessageRateLimit("1/hour"))
    sent: list[Any] = []
    send = sending_task(scene, sent, order_timeout=20)
    put(send, 4)
    scene.run()
    assert [number for _, number, _ in sent] == [0, 1, 2, 3]


def test_a_message_may_wait_for_longer_than_anything_is_remembered(new_scene: NewScene) -> None:
    scene = new_scene(MessageRateLimit("2/day"))
    scene.app.conf.broker_transport_options = {"visibility_timeout": 1_000_000}
    sent: list[Any] = []
    send = sending_task(scene, sent, remember=3600, order_timeout=600)
    put(send, 6)
    scene.run()
    assert [number for _, number, _ in sent] == [0, 1, 2, 3, 4, 5]
    assert sent[-1][2] - sent[0][2] < 172_801_000
    assert max(scene.executions.values()) == 2


def test_a_lost_message_is_published_again_after_a_long_wait(new_scene: NewScene) -> None:
    scene = new_scene(MessageRateLimit("1/day"))
    scene.app.conf.broker_transport_options = {"visibility_timeout": 1_000_000}
    sent: list[Any] = []
    send = sending_task(scene, sent, remember=3600, order_timeout=600)
    put(send, 3)
    for message in [*scene.queue[1:], scene.queue[0]]:  # all but the first are parked then
        scene.queue.remove(message)
        scene.execute(message)
    [waiting] = [each for each in scene.queue if not each.headers[HEADER].get("watch")]
    scene.queue.remove(waiting)
    scene.run()
    assert [number for _, number, _ in sent] == [0, 1, 2]


def test_no_broker_holds_a_message_for_longer_than_its_visibility_timeout(
    new_scene: NewScene,
) -> None:
    scene = new_scene(MessageRateLimit("1/hour"))
    scene.app.conf.broker_transport_options = {"visibility_timeout": 1000}
    sent: list[Any] = []
    send = sending_task(scene, sent)
    put(send, 2)
    longest = 0
    while scene.queue:
        longest = max(longest, max(each.due for each in scene.queue) - scene.clock())
        scene.run(1)
    assert longest == 750_000
    assert [moment - sent[0][2] for *_, moment in sent] == [0, 3_600_000]


def test_a_message_that_can_never_go_raises_and_is_not_retried(new_scene: NewScene) -> None:
    scene = new_scene(RecipientLimit(1), MessageRateLimit("10/minute"))

    @task_of(
        scene,
        envelope=lambda n: Envelope(ANN, [f"r{i}@example.com" for i in range(n)]),
        autoretry_for=(Exception,),
    )
    def send(recipients: int) -> int:
        return recipients

    for number in (2, 1):
        send.delay(number)
    scene.run()
    refused, sent = scene.outcomes.values()
    assert isinstance(refused, RateLimitExceeded)
    assert refused.decision.retry_after is None
    assert sent == 1  # it does not wait for the one that failed


def test_max_delay_bounds_the_wait(new_scene: NewScene) -> None:
    scene = new_scene(MessageRateLimit("1/minute"))
    send = sending_task(scene, [], max_delay=30)
    put(send, 2)
    scene.run()
    sent, refused = scene.outcomes.values()
    assert sent == "sent 0"
    assert isinstance(refused, RateLimitExceeded)
    assert refused.decision.retry_after == 60.0


def test_waiting_counts_as_none_of_the_retries_of_the_caller(new_scene: NewScene) -> None:
    scene = new_scene(MessageRateLimit("1/minute"))
    attempts: list[int] = []

    @task_of(
        scene,
        autoretry_for=(smtplib.SMTPServerDisconnected,),
        retry_backoff=False,
        default_retry_delay=5,
        max_retries=2,
    )
    def send(sender: str, number: int) -> None:
        attempts.append(scene.clock())
        raise smtplib.SMTPServerDisconnected

    send.delay(ANN, 0)
    scene.run()
    # Each attempt may have sent the message, so each has its own charge, and waits for it.
    assert [each - attempts[0] for each in attempts] == [0, 60_000, 120_000]
    [outcome] = scene.outcomes.values()
    assert isinstance(outcome, smtplib.SMTPServerDisconnected)


@pytest.mark.parametrize("is_bound", [False, True])
def test_an_error_that_proves_that_nothing_was_sent_refunds(
    new_scene: NewScene, is_bound: bool
) -> None:
    scene = new_scene(MessageRateLimit("1/minute"))
    attempts: list[int] = []
    refusal = smtplib.SMTPDataError(450, b"4.2.0 try later")

    def send(task: Any, sender: str) -> None:
        attempts.append(scene.clock())
        if len(attempts) < 3:
            raise task.retry(exc=refusal, countdown=5) if is_bound else refusal

    retries: dict[str, Any] = {} if is_bound else {"autoretry_for": (smtplib.SMTPDataError,)}
    decorate: Any = task_of(
        scene,
        bind=True,
        default_retry_delay=5,
        **retries,
    )
    decorate(send).delay(ANN)
    scene.run()
    assert [each - attempts[0] for each in attempts] == [0, 5000, 10_000]
    assert used(scene) == 1


def test_refused_recipients_are_not_charged(scene: CeleryScene) -> None:
    @task_of(scene)
    def send(sender: str) -> dict[str, tuple[int, bytes]]:
        return {"bob@example.com": (550, b"5.1.1 unknown")}

    send.delay(ANN)
    scene.run()
    assert used(scene) == 0


def test_a_provider_that_says_too_fast_blocks_the_sender(scene: CeleryScene) -> None:
    attempts: list[int] = []

    @task_of(
        scene,
        autoretry_for=(smtplib.SMTPDataError,),
        default_retry_delay=5,
    )
    def send(sender: str, number: int) -> None:
        attempts.append(scene.clock())
        if len(attempts) == 1:
            raise smtplib.SMTPDataError(432, b"4.3.2 Concurrent connections limit exceeded")

    put(send, 3)
    scene.run()
    assert len(attempts) == 4
    assert all(60_000 <= each - attempts[0] < 61_000 for each in attempts[1:])


def test_a_task_waits_while_the_backend_is_away(
    scene: CeleryScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    send = sending_task(scene, sent)

    def away(*_: object) -> None:
        raise BackendUnavailable("away")

    send.delay(ANN, 0)
    with monkeypatch.context() as outage:
        outage.setattr(scene.backend, "apply_many", away)
        scene.run(3)
    assert sent == []
    scene.run()
    assert len(sent) == 1


def test_a_message_that_cannot_be_published_again_goes_back_to_its_queue(
    new_scene: NewScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = new_scene(MessageRateLimit("1/minute"))
    sent: list[Any] = []
    send = sending_task(scene, sent, keep_order=False)
    put(send, 2)
    scene.run(1)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the broker is away")

    with monkeypatch.context() as outage:
        outage.setattr(scene.app, "send_task", refuse)
        scene.queue.sort()
        assert isinstance(scene.execute(scene.queue.pop(0)), Reject)
    scene.run()
    assert len(sent) == 2


def test_a_task_that_rejects_its_message_is_called_again(scene: CeleryScene) -> None:
    calls: list[int] = []

    @task_of(scene)
    def send(sender: str) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise Reject("not here", requeue=True)

    send.delay(ANN)
    scene.run()
    assert len(calls) == 2


def test_a_message_may_be_an_argument(scene: CeleryScene) -> None:
    message = EmailMessage()
    message["From"], message["To"] = ANN, "bob@example.com"

    @task_of(scene, envelope=None)
    def send(message: EmailMessage) -> str:
        return str(message["To"])

    send.delay(message)
    scene.run()
    assert list(scene.outcomes.values()) == ["bob@example.com"]
    assert used(scene) == 1


def test_arguments_without_a_message_fail_with_a_hint(scene: CeleryScene) -> None:
    @task_of(scene, envelope=None)
    def send(number: int) -> int:
        return number

    send.delay(1)
    scene.run()
    [error] = scene.outcomes.values()
    assert isinstance(error, TypeError)
    assert "limited_task(envelope=...) takes a callable" in str(error)


def test_a_direct_call_and_an_eager_task_wait(new_scene: NewScene) -> None:
    scene = new_scene(MessageRateLimit("1/minute"))
    sent: list[Any] = []
    send = sending_task(scene, sent)
    send(ANN, 0)
    assert send.apply((ANN, 1)).get(disable_sync_subtasks=False) == "sent 1"
    assert [moment - sent[0][2] for *_, moment in sent] == [0, 60_000]


def test_options_of_celery_are_passed_on(scene: CeleryScene) -> None:
    @task_of(
        scene,
        name="mail",
        rate_limit="5/s",
        time_limit=30,
        dont_autoretry_for=(KeyError,),
    )
    def send(sender: str) -> None:
        """Send."""

    task: Any = send
    assert (task.name, task.rate_limit, task.time_limit) == ("mail", "5/s", 30)
    assert (task.acks_late, task.reject_on_worker_lost) == (True, True)
    assert task.dont_autoretry_for == (KeyError, RateLimitExceeded, SendingUncertain)
    assert task.__doc__ == "Send."
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        send.delay()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_uncertain": "ask"}, "on_uncertain"),
        ({"order_timeout": 0}, "order_timeout: 0 is not a number of seconds above 0"),
        ({"sending_timeout": None}, "sending_timeout: None is not a number of seconds above 0"),
        ({"remember": -1}, "remember"),
        ({"remember": 60}, "remember: 60 seconds are not more than order_timeout, 60.0 seconds"),
        ({"pushback": 0}, "pushback"),
        ({"envelope": 5}, "envelope: a callable is needed, not 5"),
        ({"keep_order": "yes"}, "keep_order"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        limited_task(Limiter(TEN_IN_TWO_SECONDS), **options)


def test_what_envelope_returned_is_named_if_it_is_not_a_message(scene: CeleryScene) -> None:
    @task_of(scene, envelope=lambda: None)
    def send() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match=r"send: envelope= returned None; .* Envelope is needed"):
        send()


def test_an_async_limiter_is_refused() -> None:
    with pytest.raises(TypeError, match="limiter: a Limiter is needed"):
        limited_task(AsyncLimiter(TEN_IN_TWO_SECONDS))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "header",
    [None, 5, {}, {"queue": 5, "number": 1}, {"queue": "q", "number": "1"}, {"queue": "q"}],
)
def test_a_header_that_names_no_place_is_ignored(scene: CeleryScene, header: object) -> None:
    sent: list[Any] = []
    send = sending_task(scene, sent)
    send.apply_async((ANN, 0), headers={HEADER: header})
    scene.run()
    assert len(sent) == 1


def test_a_message_for_a_later_time_is_not_waited_for(scene: CeleryScene) -> None:
    sent: list[Any] = []
    send = sending_task(scene, sent)
    send.apply_async((ANN, 0), countdown=3600)
    send.delay(ANN, 1)
    scene.run(1)
    assert [number for _, number, _ in sent] == [1]


def test_a_sender_without_messages_for_half_of_remember_begins_a_queue(
    scene: CeleryScene,
) -> None:
    send = sending_task(scene, [], remember=100)
    send.delay(ANN, 0)
    scene.clock.advance(49)
    send.delay(ANN, 1)
    scene.clock.advance(50)
    send.delay(ANN, 2)
    places = [each.headers[HEADER] for each in scene.queue]
    assert [each["number"] for each in places] == [0, 1, 0]
    assert ANN not in str(places)


def test_what_was_parked_and_marked_is_removed(scene: CeleryScene) -> None:
    send = sending_task(scene, [])
    put(send, 30)
    assert isinstance(scene.execute(scene.queue.pop(1)), Retry)
    scene.run()
    assert scene.backend._registers == {}
