"""The addresses of the project."""

from __future__ import annotations

import os

from django.contrib import admin
from django.core.mail import send_mail
from django.http import HttpRequest, HttpResponse
from django.urls import path

from ratelimit_mail import RateLimitExceeded
from ratelimit_mail.adapters.django import get_limiter


def send(request: HttpRequest) -> HttpResponse:
    """Send one message, and answer the process and whether it was sent."""
    subject = request.GET.get("subject", "")
    try:
        send_mail(subject, "Hello", None, ["bob@example.com"])
    except RateLimitExceeded:
        return HttpResponse(f"{os.getpid()} {id(get_limiter())} no")
    return HttpResponse(f"{os.getpid()} {id(get_limiter())} yes")


urlpatterns = [path("admin/", admin.site.urls), path("send", send)]
