"""The system checks for Django: each mistake in the settings has an id, and no secret is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy

from ratelimit_mail import Limiter, MessageRateLimit

pytest.importorskip("django")
pytest.importorskip("rlm_testkit.django_project.ready")

from django.core import checks
from django.core.checks import CheckMessage
from django.test import override_settings
from rlm_testkit.django_project import BACKEND, HAS_MAILERS, mailer

from ratelimit_mail.adapters.django import EmailBackend
from ratelimit_mail.adapters.django.checks import check_mailers, check_mailers_for_deployment

SUPPORT = Path(__file__).parents[1] / "support"
GOOD: dict[str, Any] = {"POLICY": "leeds-office365", "STORE": "memory:"}


class Own(EmailBackend):
    """A subclass of a project."""


class NotABackend:
    """Something else."""


def ids(messages: Sequence[CheckMessage]) -> list[str]:
    return [str(each.id).removeprefix("ratelimit_mail.") for each in messages]


def messages_of(**values: Any) -> Sequence[CheckMessage]:
    with mailer({**GOOD, **values}):
        return check_mailers()


def test_good_settings_have_no_messages(tmp_path: Path) -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("1/day")))
    file = tmp_path / "policy.toml"
    file.write_text(limiter.policy.dump())
    for values in (
        GOOD,
        {"LIMITER": limiter},
        {"POLICY": limiter.policy, "TIMEOUT": 5},
        {"POLICY": file, "STORE": f"sqlite:///{tmp_path}/counts.db"},
        {"POLICY": str(file), "STORE": "redis://:secret@localhost/0", "PUSHBACK": None},
        {**GOOD, "ON_EXCESS": "outbox", "OUTBOX": tmp_path / "outbox.db"},
        {**GOOD, "BACKEND": "django.core.mail.backends.dummy.EmailBackend", "OPTIONS": {}},
    ):
        with mailer(values):
            assert check_mailers() == []


MISTAKES: dict[str, tuple[str, dict[str, Any], str]] = {
    "an unknown key": ("E002", {"STOER": "memory:"}, "'STOER' is not one of the keys"),
    "no policy": ("E003", {"POLICY": None}, "POLICY is missing"),
    "a policy that is none": ("E003", {"POLICY": 7}, "not int"),
    "a limiter that is none": ("E003", {"LIMITER": 7, "POLICY": None}, "a Limiter is needed"),
    "a store as limiter": (
        "E003",
        {"LIMITER": "redis://:hunter2@localhost", "POLICY": None},
        "a Limiter is needed",
    ),
    "a store as policy": ("E004", {"POLICY": "redis://:hunter2@localhost"}, "a URL is not"),
    "a limiter beside a policy": (
        "E003",
        {"LIMITER": Limiter(campus_policy(MessageRateLimit("1/day")))},
        "LIMITER stands for POLICY and STORE",
    ),
    "an unknown preset": ("E004", {"POLICY": "leeds-ofice365"}, "leeds-office365"),
    "a missing file": ("E004", {"POLICY": "/nowhere/policy.toml"}, "/nowhere/policy.toml"),
    "a wrong URL": ("E005", {"STORE": "redis://:hunter2@localhost:port"}, "STORE: "),
    "an unknown scheme": ("E005", {"STORE": "hunter2://x"}, "STORE: "),
    "a store that is none": ("E005", {"STORE": 7}, "STORE: "),
    "a folder that is missing": ("E005", {"STORE": "sqlite:////nowhere/counts.db"}, "/nowhere"),
    "an unknown excess": ("E006", {"ON_EXCESS": "drop"}, "'drop' is not one of"),
    "a text as timeout": ("E007", {"TIMEOUT": "5"}, "TIMEOUT"),
    "a negative timeout": ("E007", {"TIMEOUT": -1}, "TIMEOUT"),
    "NaN as pushback": ("E007", {"PUSHBACK": float("nan")}, "PUSHBACK"),
    "an endless pushback": ("E007", {"PUSHBACK": float("inf")}, "PUSHBACK"),
    "a pushback longer than a block": ("E007", {"PUSHBACK": 1e300}, "PUSHBACK"),
    "a timeout that is not a float": ("E007", {"TIMEOUT": 10**400}, "TIMEOUT"),
    "a timeout without a wait": ("E007", {"TIMEOUT": 5, "ON_EXCESS": "raise"}, "TIMEOUT"),
    "no outbox": ("E008", {"ON_EXCESS": "outbox"}, "OUTBOX is missing"),
    "an outbox that is none": ("E008", {"OUTBOX": 7}, "OUTBOX"),
    "an outbox without its folder": ("E008", {"OUTBOX": "/nowhere/outbox.db"}, "/nowhere"),
    "an outbox that is a folder": ("E008", {"OUTBOX": "/"}, "OUTBOX"),
    "a missing backend": ("E009", {"BACKEND": "nowhere.EmailBackend"}, "cannot be imported"),
    "a path that is none": ("E009", {"BACKEND": 7}, "BACKEND"),
    "another class": ("E009", {"BACKEND": f"{__name__}.NotABackend"}, "not an e-mail backend"),
    "the backend itself": ("E010", {"BACKEND": BACKEND}, "this backend itself"),
    "a subclass of it": ("E010", {"BACKEND": f"{__name__}.Own"}, "this backend itself"),
    "options that are none": ("E011", {"OPTIONS": 7}, "OPTIONS"),
    "a client that is none": ("E012", {"CLIENT": "ann"}, "CLIENT"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_an_error(name: str) -> None:
    number, values, text = MISTAKES[name]
    [message] = messages_of(**values)
    assert ids([message]) == [number]
    assert message.level == checks.ERROR
    assert text in message.msg
    assert message.msg.startswith("MAILERS['default']: " if HAS_MAILERS else "RATELIMIT_MAIL: ")
    assert "hunter2" not in f"{message.msg} {message.hint}"
    assert message.msg.isprintable()


def test_a_path_as_the_store_has_a_hint_at_the_url_of_a_file() -> None:
    [message] = messages_of(STORE="counts.db")
    assert message.msg.endswith("rediss+cluster://")
    assert "STORE: it does not begin as one of memory:" in message.msg
    assert message.hint == "The URL of a file is sqlite:/// and then its path."


def test_all_errors_of_a_policy_file_are_shown_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('name = "x"\n[[limits]]\nmost = 1\n[[limits]]\nleast = 2\n')
    [message] = messages_of(POLICY=file)
    assert ids([message]) == ["E004"]
    assert message.msg.count("limits") > 1


def test_several_mistakes_are_all_found() -> None:
    with mailer({"STORE": "x", "ON_EXCESS": "outbox", "BACKEND": BACKEND}):
        assert ids(check_mailers()) == ["E003", "E008", "E010", "E005"]


def test_a_setting_that_is_not_a_dict_is_an_error() -> None:
    with override_settings(RATELIMIT_MAIL=["POLICY"]):
        assert ids(check_mailers()) == ["E001"]


def test_a_setting_that_no_backend_reads_is_a_warning() -> None:
    other = "django.core.mail.backends.dummy.EmailBackend"
    where = (
        {"MAILERS": {"default": {"BACKEND": other}}} if HAS_MAILERS else {"EMAIL_BACKEND": other}
    )
    with override_settings(RATELIMIT_MAIL=GOOD, **where):
        [message] = check_mailers()
    assert ids([message]) == ["W001"]
    assert BACKEND in str(message.hint)
    with override_settings(**where):
        assert check_mailers() == []


@pytest.mark.parametrize("common", [{}, GOOD])
@pytest.mark.parametrize(
    "path", [f"{BACKEND}s", "ratelimit_mail.django.EmailBackend", BACKEND.replace("_", "-", 1)]
)
def test_a_misspelled_backend_is_a_warning_that_names_the_right_one(
    path: str, common: dict[str, Any]
) -> None:
    where = {"MAILERS": {"x": {"BACKEND": path}}} if HAS_MAILERS else {"EMAIL_BACKEND": path}
    with override_settings(RATELIMIT_MAIL=common, **where):
        [message] = check_mailers()
    assert ids([message]) == ["W001"]
    assert repr(path) in message.msg
    assert BACKEND in str(message.hint)


def test_the_checks_are_run_alone_by_their_tag() -> None:
    path = f"{BACKEND}s"
    where = {"MAILERS": {"x": {"BACKEND": path}}} if HAS_MAILERS else {"EMAIL_BACKEND": path}
    for tag in ("ratelimit_mail", "mail"):
        with override_settings(**where):
            found = checks.run_checks(tags=[tag])
        assert "ratelimit_mail.W001" in [each.id for each in found]


def test_a_backend_without_a_policy_is_an_error() -> None:
    with mailer({}):
        assert ids(check_mailers()) == ["E003"]


def test_a_subclass_of_the_backend_is_checked_too() -> None:
    path = f"{__name__}.Own"
    where = (
        {"MAILERS": {"default": {"BACKEND": path, "OPTIONS": {"POLICY": "x"}}}}
        if HAS_MAILERS
        else {"EMAIL_BACKEND": path, "RATELIMIT_MAIL": {"POLICY": "x"}}
    )
    with override_settings(**where):
        assert ids(check_mailers()) == ["E004"]


DEPLOYMENT: dict[str, tuple[str, dict[str, Any]]] = {
    "counts in memory": ("W002", {"STORE": "memory:"}),
    "a relative store": ("W003", {"STORE": "sqlite:///counts.db"}),
    "a relative outbox": ("W003", {"ON_EXCESS": "outbox", "OUTBOX": "o.db", "TIMEOUT": None}),
    "a wait without end": ("W004", {"TIMEOUT": None}),
    "a backend that sends nothing": (
        "W005",
        {"BACKEND": "django.core.mail.backends.console.EmailBackend"},
    ),
    "no timeout of the server": ("W006", {}),
}


@pytest.mark.parametrize("name", DEPLOYMENT)
def test_what_is_wrong_on_a_server_only_is_a_warning_of_deployment(name: str) -> None:
    number, values = DEPLOYMENT[name]
    values = {**GOOD, "STORE": "redis://localhost/0", "TIMEOUT": 5, **values}
    timeout = None if number == "W006" else 20
    with mailer(values, timeout=timeout):
        assert check_mailers() == []
        assert ids(check_mailers_for_deployment()) == [number]


def test_the_memory_store_of_a_limiter_is_the_projects_own_choice() -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("1/day")))
    with mailer({"LIMITER": limiter, "ON_EXCESS": "raise"}):
        assert check_mailers_for_deployment() == []


def manage(*arguments: str, mailer: dict[str, Any], **environment: str) -> Any:
    """Run a command of the project in a process of its own, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", *arguments],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "rlm_testkit.django_project.settings",
            "PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)]),
            "MAILER": json.dumps(mailer),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_manage_check_deploy_is_clean_for_a_good_project(tmp_path: Path) -> None:
    values = {"POLICY": "gmail", "STORE": f"sqlite:///{tmp_path}/c.db", "ON_EXCESS": "raise"}
    inner = {"host": "127.0.0.1", "port": 25, "timeout": 5}
    result = manage(
        *("check", "--deploy", "--fail-level", "WARNING"),
        mailer={"values": values, "inner": inner},
        SECURE="1",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "no issues" in result.stdout


def test_manage_check_deploy_fails_for_a_bad_one() -> None:
    values = {"POLICY": "gmail", "STORE": "redis://:hunter2@localhost:port", "TIMEOUT": "5"}
    result = manage("check", "--deploy", mailer={"values": values, "inner": {"host": "x"}})
    assert result.returncode == 1
    for number in ("E005", "E007", "W006"):
        assert f"(ratelimit_mail.{number})" in result.stderr
    assert "hunter2" not in result.stderr
