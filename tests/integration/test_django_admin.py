"""The pages of Django's admin site: who may see and change what, and hostile texts in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, limiter_with_clock

from ratelimit_mail import Envelope, Limiter, MessageRateLimit
from ratelimit_mail.outbox import CallableTransport, Outbox
from ratelimit_mail.testing import ManualClock

pytest.importorskip("django")
pytest.importorskip("rlm_testkit.django_project.ready")

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connections
from django.test import Client, override_settings
from rlm_testkit.django_project import BACKEND, HAS_MAILERS, mailer

ANN = "ann@example.org"
USAGE, OUTBOX = "/admin/ratelimit_mail/usage/", "/admin/ratelimit_mail/outbox/"
HOSTILE = "<script>alert(1)</script>"
TEXT = f"Subject: {HOSTILE}\r\nFrom: {ANN}\r\n\r\n{HOSTILE}\r\n".encode()


@pytest.fixture(scope="module", autouse=True)
def databases() -> Iterator[None]:
    for alias in ("default", "archive"):
        call_command("migrate", database=alias, verbosity=0)
    yield
    for each in connections.all():
        each.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[Limiter, Outbox, ManualClock]]:
    """An outbox with a message that waits, one that failed and one that was cancelled."""
    policy = campus_policy(MessageRateLimit("2/minute"), MessageRateLimit("9/day", scope="global"))
    limiter, clock = limiter_with_clock(policy)
    limiter.try_acquire(Envelope(ANN, ["bob@example.com"]))
    with (
        mailer({"LIMITER": limiter, "ON_EXCESS": "outbox", "OUTBOX": tmp_path / "outbox.db"}),
        Outbox(tmp_path / "outbox.db", limiter) as outbox,
    ):
        yield limiter, outbox, clock
        from ratelimit_mail.adapters.django import get_outbox

        get_outbox().close()


def put(outbox: Outbox, sender: str = ANN, *recipients: str) -> int:
    envelope = Envelope(sender, [*recipients] or ["bob@example.com"])
    return outbox.put(TEXT, envelope=envelope).id


def user(*permissions: str, is_staff: bool = True, is_superuser: bool = False) -> Client:
    name = f"user{User.objects.count()}"
    account = User.objects.create_user(
        name, password="x", is_staff=is_staff, is_superuser=is_superuser
    )
    for each in permissions:
        permission = Permission.objects.get(content_type__app_label="ratelimit_mail", codename=each)
        account.user_permissions.add(permission)
    client = Client()
    client.force_login(account)
    return client


def page(client: Client, address: str, **values: str) -> str:
    response = client.get(address, values)
    assert response.status_code == 200
    text: str = response.content.decode()
    assert HOSTILE not in text
    return text


Scene = tuple[Limiter, Outbox, ManualClock]


def test_migrate_creates_the_permissions_in_each_database_once() -> None:
    call_command("migrate", database="archive", verbosity=0)
    for alias in ("default", "archive"):
        permissions = Permission.objects.using(alias).filter(
            content_type__app_label="ratelimit_mail"
        )
        assert sorted(each.codename for each in permissions) == [
            "change_outbox",
            "view_outbox",
            "view_usage",
        ]


class OnlyDefault:
    """Has the tables of auth in one database only."""

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool:
        return db == "default" or app_label not in ("auth", "contenttypes")


def test_a_database_without_permissions_is_left_alone() -> None:
    from django.apps import apps

    from ratelimit_mail.adapters.django.permissions import create_permissions

    Permission.objects.using("archive").filter(codename="view_outbox").delete()
    with override_settings(DATABASE_ROUTERS=[OnlyDefault()]):
        create_permissions(using="archive", apps=apps)
    assert not Permission.objects.using("archive").filter(codename="view_outbox").exists()
    create_permissions(using="archive", apps=apps)
    assert Permission.objects.using("archive").filter(codename="view_outbox").exists()


def test_the_admin_checks_itself() -> None:
    call_command("check")
    assert admin.site.is_registered is not None


def test_the_index_lists_the_pages_that_a_user_may_see(scene: Scene) -> None:
    for client, usage, outbox in (
        (user(is_superuser=True), True, True),
        (user("view_usage"), True, False),
        (user("view_outbox"), False, True),
        (user(), False, False),
    ):
        text = page(client, "/admin/")
        assert (USAGE in text, OUTBOX in text) == (usage, outbox)
    assert "Mail limits" in page(user("view_usage"), "/admin/ratelimit_mail/")


@pytest.mark.parametrize("address", [USAGE, OUTBOX, f"{OUTBOX}1/"])
def test_a_user_without_the_permission_sees_nothing(address: str, scene: Scene) -> None:
    put(scene[1])
    assert user("change_outbox").get(address).status_code == 403
    assert user("view_usage", "view_outbox", is_staff=False).get(address).status_code == 302
    assert Client().get(address).status_code == 302
    assert user(is_superuser=True).get(address).status_code == 200
    assert user(is_superuser=True).post(address).status_code == 405


def test_the_usage_page_shows_each_limit_of_the_senders_that_the_settings_name(
    scene: Scene,
) -> None:
    scene[0].block("eve@example.net", reason=HOSTILE)
    text = page(user("view_usage"), USAGE)
    assert "2 messages per minute per sender" in text
    assert ANN in text
    assert "root@example.org" in text
    assert "all senders together" in text
    assert "&lt;script&gt;" in text


def test_the_usage_page_shows_the_sender_that_is_asked_for(scene: Scene) -> None:
    scene[0].try_acquire(Envelope("kim@uwo.ca", ["bob@example.com"]))
    text = page(user("view_usage"), USAGE, sender="kim@uwo.ca")
    assert "kim@uwo.ca" in text
    assert "root@example.org" not in text
    assert '<td class="num">1</td>' in text


@pytest.mark.parametrize("sender", [HOSTILE, "\x00", "x" * 5000, "@", "ann@example.org\r\n"])
def test_a_hostile_sender_is_an_error_on_the_page(sender: str, scene: Scene) -> None:
    for address in (USAGE, OUTBOX):
        page(user(is_superuser=True), address, sender=sender)


def test_the_outbox_page_lists_filters_and_pages(scene: Scene) -> None:
    _, outbox, _ = scene
    numbers = [put(outbox) for _ in range(60)]
    put(outbox, "kim@uwo.ca", "bob@example.com", "eve@example.net")
    outbox.cancel(numbers[0])
    client = user("view_outbox")
    text = page(client, OUTBOX)
    assert text.count('<th scope="row">') == 50
    assert "after=50" in text
    assert "No program is sending" in text
    assert "queued</a> (60)" in text
    assert page(client, OUTBOX, after="50").count('<th scope="row">') == 11
    assert page(client, OUTBOX, state="cancelled").count('<th scope="row">') == 1
    text = page(client, OUTBOX, sender="KIM@uwo.ca")
    assert text.count('<th scope="row">') == 1
    assert "and 1 more" in text
    assert "nosuch" in page(client, OUTBOX, state="nosuch")
    assert page(client, OUTBOX, after="x" * 99).count('<th scope="row">') == 50


def test_a_message_is_shown_with_its_text_and_recipients(scene: Scene) -> None:
    _, outbox, clock = scene
    hostile = '"<b>"@example.com'
    number = put(outbox, '"<i>x</i>"@example.org', hostile, "bob@example.com")
    text = page(user("view_outbox"), f"{OUTBOX}{number}/")
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;script&gt;" in text
    assert "bob@example.com" in text
    assert 'value="retry"' not in text
    client = user("view_outbox", "change_outbox")
    assert 'value="retry"' in page(client, f"{OUTBOX}{number}/")
    assert client.get(f"{OUTBOX}99/").status_code == 404
    assert client.get(f"{OUTBOX}{10**30}/").status_code == 404
    outbox.cancel(number)
    clock.advance(8 * 86400)
    Outbox(outbox._store.path, scene[0], keep=1).purge()
    assert page(client, f"{OUTBOX}{number}/")


def test_a_long_text_is_cut(scene: Scene) -> None:
    _, outbox, _ = scene
    envelope = Envelope(ANN, ["bob@example.com"])
    number = outbox.put(TEXT + b"x" * 200_000, envelope=envelope).id
    text = page(user("view_outbox"), f"{OUTBOX}{number}/")
    assert len(text) < 100_000
    assert "show 1 --eml" in text


def test_messages_are_retried_and_cancelled_and_it_is_logged(scene: Scene) -> None:
    _, outbox, _ = scene
    first, second, _ = (put(outbox) for _ in range(3))
    client = user("view_outbox", "change_outbox")
    answer = client.post(
        f"{OUTBOX}change/", {"action": "cancel", "id": [first, second], "state": "queued"}
    )
    assert answer.headers["Location"] == f"{OUTBOX}?state=queued"
    assert "2 messages are cancelled." in page(client, OUTBOX)
    assert [str(each.state) for each in outbox.list()] == ["cancelled", "cancelled", "queued"]
    client.post(f"{OUTBOX}change/", {"action": "retry", "id": first})
    assert f"Message {first} is queued again." in page(client, OUTBOX)
    assert str(outbox.show(first).state) == "queued"
    assert [each.change_message for each in LogEntry.objects.order_by("-id")[:1]] == [
        "retry: now queued"
    ]
    assert "outbox message" in page(client, "/admin/")


def test_what_cannot_be_changed_is_said(scene: Scene) -> None:
    limiter, outbox, _ = scene
    number = put(outbox)
    Outbox(outbox._store.path, limiter, CallableTransport(lambda _: None)).run(until_empty=True)
    client = user("view_outbox", "change_outbox")
    for values, text in (
        ({"action": "cancel", "id": number}, "is sent"),
        ({"action": "cancel", "id": 99}, "Message 99 is not there any more."),
        ({"action": "cancel", "id": "x" * 99}, "Message 0 is not there"),
        ({"action": "cancel"}, "No message was chosen."),
        ({"action": HOSTILE, "id": number}, "Choose what to do"),
    ):
        client.post(f"{OUTBOX}change/", values)
        assert text in page(client, OUTBOX)


def test_a_change_needs_the_permission_a_post_and_a_token(scene: Scene) -> None:
    _, outbox, _ = scene
    number = put(outbox)
    address = f"{OUTBOX}change/"
    values: dict[str, str | int] = {"action": "cancel", "id": number}
    assert user("view_outbox").post(address, values).status_code == 403
    client = user("view_outbox", "change_outbox")
    assert client.get(address, values).status_code == 405
    account = User.objects.latest("id")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(account)
    assert strict.post(address, values).status_code == 403
    assert str(outbox.show(number).state) == "queued"


def test_the_pages_say_what_is_wrong_with_the_settings(tmp_path: Path) -> None:
    client = user(is_superuser=True)
    with mailer({"POLICY": "nosuch"}):
        for address in (USAGE, OUTBOX):
            assert "there is no preset" in page(client, address)
    with mailer({"POLICY": "gmail"}):
        assert "OUTBOX is missing" in page(client, OUTBOX)
    (tmp_path / "outbox.db").write_text("not a database, but a text that is long enough" * 30)
    with mailer({"POLICY": "gmail", "OUTBOX": tmp_path / "outbox.db"}):
        assert "errornote" in page(client, OUTBOX)
    assert "no mailer has this library" in page(client, USAGE)


@pytest.mark.skipif(not HAS_MAILERS, reason="before Django 6.1")
def test_a_page_shows_the_mailer_that_is_chosen(tmp_path: Path) -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("7/day")))
    mailers = {
        "default": {"BACKEND": BACKEND, "OPTIONS": {"POLICY": "gmail"}},
        "news": {"BACKEND": BACKEND, "OPTIONS": {"LIMITER": limiter}},
    }
    client = user("view_usage")
    with override_settings(MAILERS=mailers):
        text = page(client, USAGE, using="news")
        assert "7 messages per day per sender" in text
        assert "<option selected>news</option>" in text
        assert "7 messages" not in page(client, USAGE)
        assert "no mailer" in page(client, USAGE, using=HOSTILE)
