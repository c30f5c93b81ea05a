"""Settings of the project."""

from __future__ import annotations

import json
import os
from typing import Any

from rlm_testkit.django_project import HAS_MAILERS, mail_settings

SECRET_KEY = "of the tests only, and longer than fifty characters, as check --deploy wants it"
ALLOWED_HOSTS = ["testserver", "127.0.0.1"]
DEBUG = False
USE_TZ = True
TIME_ZONE = "UTC"
LOGGING_CONFIG = None
ROOT_URLCONF = "rlm_testkit.django_project.urls"
STATIC_URL = "/static/"
DEFAULT_FROM_EMAIL = "Ann <ann@example.org>"
SERVER_EMAIL = "root@example.org"

_FOLDER = os.environ.get("DATABASES_FOLDER")


def _database(name: str) -> dict[str, Any]:
    file = f"{_FOLDER}/{name}.sqlite3" if _FOLDER else f"file:{name}?mode=memory&cache=shared"
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": file, "OPTIONS": {"timeout": 30}}


DATABASES = {"default": _database("default"), "archive": _database("archive")}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "ratelimit_mail.adapters.django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

if "MAILER" in os.environ:
    _mailer = json.loads(os.environ["MAILER"])
    globals().update(mail_settings(_mailer["values"], **_mailer["inner"]))
elif HAS_MAILERS:
    MAILERS: dict[str, Any] = {}

if "SECURE" in os.environ:
    SECURE_HSTS_SECONDS = 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
    SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
