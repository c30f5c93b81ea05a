"""Two pages of the admin site: how much of the limits a sender has used, and the outbox.

Neither has a table: what the pages show is in the store and in the outbox. The admin site lists
them like models, so each has a stand-in for a model, with a name and nothing else.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.views.decorators.http import require_GET, require_POST

from ratelimit_mail._util.text import duration, escape
from ratelimit_mail.adapters.django.configuration import project_mailers
from ratelimit_mail.adapters.django.permissions import LABEL
from ratelimit_mail.adapters.django.registry import limiter_of, options_of, outbox_of
from ratelimit_mail.exceptions import BackendError, OutboxError
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.outbox import Outbox, OutboxMessage, State
from ratelimit_mail.usage import Usage

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

__all__ = ["OutboxAdmin", "UsageAdmin", "register"]

PAGE: Final = 50
"""How many messages a page of the outbox shows."""

LONGEST_TEXT: Final = 50_000
"""How many bytes of the text of a message are shown."""

MOST_SHOWN: Final = 200
"""How many recipients of a message, and how many blocks, are shown."""

MOST_NUMBER: Final = 2**63 - 1

WRONG: Final = (ImproperlyConfigured, BackendError, OutboxError, ValueError, TypeError)


def _stand_in(name: str, shown: str) -> type:
    """Return what the admin site takes for the model of a page."""
    meta = types.SimpleNamespace(
        app_label=LABEL,
        model_name=name.lower(),
        object_name=name,
        verbose_name=shown,
        verbose_name_plural=shown,
        label=f"{LABEL}.{name}",
        label_lower=f"{LABEL}.{name.lower()}",
        abstract=False,
        swapped=False,
        is_composite_pk=False,
        concrete_model=None,
        app_config=apps.get_app_config(LABEL),
    )
    return type(name, (), {"_meta": meta})


USAGE: Final = _stand_in("Usage", "usage of the limits")
OUTBOX: Final = _stand_in("Outbox", "outbox")


class _PageAdmin(ModelAdmin):
    """A page of the admin site instead of the lists and forms of a model."""

    view_permission = ""

    def __str__(self) -> str:
        return f"{LABEL}.{type(self).__name__}"

    def check(self, **_: Any) -> list[Any]:
        """Return nothing: there is no model to check."""
        return []

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may see the page."""
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return whether the user may see the page."""
        return _has(request, self.view_permission)

    def has_add_permission(self, *_: Any, **__: Any) -> bool:
        """Return False: nothing is added here."""
        return False

    def has_change_permission(self, *_: Any, **__: Any) -> bool:
        """Return False: nothing is edited here."""
        return False

    def has_delete_permission(self, *_: Any, **__: Any) -> bool:
        """Return False: nothing is deleted here."""
        return False

    def page(self, request: HttpRequest, name: str, title: str, **values: Any) -> HttpResponse:
        """Return a page in the form of the admin site."""
        using = request.GET.get("using") or request.POST.get("using") or None
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.model._meta,
            "mailers": [each.alias for each in project_mailers()],
            "using": using or "",
            **values,
        }
        return TemplateResponse(request, f"admin/ratelimit_mail/{name}.html", context)


class UsageAdmin(_PageAdmin):
    """How much of each limit a sender has used, and who is blocked."""

    view_permission = "view_usage"

    def get_urls(self) -> list[Any]:
        """Return the address of the page."""
        view = self.admin_site.admin_view(require_GET(self.usage_view))
        return [path("", view, name=f"{LABEL}_usage_changelist")]

    def usage_view(self, request: HttpRequest) -> HttpResponse:
        """Show the usage of a sender; without one, of those that the settings name."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        sender = request.GET.get("sender", "").strip()
        values: dict[str, Any] = {"sender": sender, "subjects": [], "blocks": []}
        try:
            options = options_of(request.GET.get("using") or None)
            limiter = limiter_of(options)
            values["policy"] = limiter.policy.name
            senders = [sender] if sender else _known_senders()
            values["subjects"] = _usages(limiter, senders, is_asked=bool(sender))
            blocks = limiter.blocks()
            values["blocks"] = [
                {"text": str(each), "since": _moment(each.since), "until": _moment(each.until)}
                for each in blocks[:MOST_SHOWN]
            ]
            values["more_blocks"] = max(0, len(blocks) - MOST_SHOWN)
        except WRONG as error:
            values["error"] = escape(str(error))
        return self.page(request, "usage", "Usage of the limits", **values)


def _known_senders() -> list[str]:
    from email.utils import parseaddr

    addresses = [settings.DEFAULT_FROM_EMAIL, settings.SERVER_EMAIL]
    return [*dict.fromkeys(parseaddr(str(each))[1] or str(each) for each in addresses)]


def _usages(
    limiter: Limiter, senders: Sequence[str], *, is_asked: bool
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the rows of each subject: what all have sent together, and each sender."""
    subjects = []
    scopes = {each.scope for each in limiter.policy.all_limits if isinstance(each, RateLimit)}
    if ("global",) in scopes and (usages := limiter.usage(scope="global")):
        subjects.append(("all senders together", [*map(_row, usages)]))
    for sender in senders:
        rows = []
        for scope in ("sender", "submitter"):
            if (scope,) in scopes:
                try:
                    rows += [_row(each) for each in limiter.usage(sender, scope=scope)]
                except ValueError:
                    if is_asked:
                        raise
        subjects.append((sender, rows))
    return subjects


def _row(usage: Usage) -> dict[str, Any]:
    most = usage.used + max(usage.remaining, 0)
    return {
        "limit": str(usage.limit),
        "used": f"{usage.used:,}",
        "remaining": f"{usage.remaining:,}",
        "percent": min(100, round(100 * usage.used / most)) if most else 100,
        "resets": duration(usage.resets_in),
        "block": None if usage.block is None else str(usage.block),
    }


class OutboxAdmin(_PageAdmin):
    """The messages of an outbox; with the permission, they are retried and cancelled."""

    view_permission = "view_outbox"

    def get_urls(self) -> list[Any]:
        """Return the addresses of the list, of a message and of the changes."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(require_GET(self.list_view)), name=f"{LABEL}_outbox_changelist"),
            path(
                "change/", wrap(require_POST(self.state_view)), name=f"{LABEL}_outbox_change_state"
            ),
            path(
                "<int:number>/",
                wrap(require_GET(self.message_view)),
                name=f"{LABEL}_outbox_message",
            ),
        ]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        """Show the messages in a state, or of a sender, page by page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        state, sender = request.GET.get("state", ""), request.GET.get("sender", "").strip()
        values: dict[str, Any] = {"state": state, "sender": sender, "rows": []}
        try:
            outbox = _outbox(request)
            stats = outbox.stats()
            values["counts"] = [(str(each), number) for each, number in stats.counts.items()]
            values["total"] = sum(stats.counts.values())
            values["workers"] = stats.workers
            listed = outbox.list(
                state=state or None,
                sender=sender or None,
                after=_number(request.GET.get("after")),
                limit=PAGE + 1,
            )
            values["rows"] = [_list_row(each) for each in listed[:PAGE]]
            values["next"] = listed[PAGE - 1].id if len(listed) > PAGE else None
        except WRONG as error:
            values["error"] = escape(str(error))
        return self.page(
            request, "outbox", "Outbox", may_change=_has(request, "change_outbox"), **values
        )

    def message_view(self, request: HttpRequest, number: int) -> HttpResponse:
        """Show one message with its recipients and its text."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if number > MOST_NUMBER:
            raise Http404
        values: dict[str, Any] = {}
        try:
            outbox = _outbox(request)
            message = outbox.show(number)
            values["row"] = _list_row(message)
            values["message"] = message
            values["recipients"] = message.recipients[:MOST_SHOWN]
            values["more_recipients"] = max(0, len(message.recipients) - MOST_SHOWN)
            try:
                text = outbox.text(number)
            except ValueError:
                values["text"] = None
            else:
                values["text"] = text[:LONGEST_TEXT].decode("utf-8", "backslashreplace")
                values["is_cut"] = len(text) > LONGEST_TEXT
        except KeyError:
            raise Http404 from None
        except WRONG as error:
            values["error"] = escape(str(error))
        return self.page(
            request,
            "outbox_message",
            f"Message {number}",
            may_change=_has(request, "change_outbox"),
            **values,
        )

    def state_view(self, request: HttpRequest) -> HttpResponse:
        """Retry or cancel the chosen messages."""
        if not _has(request, "change_outbox"):
            raise PermissionDenied
        action = request.POST.get("action", "")
        numbers = [_number(each) for each in request.POST.getlist("id")[:PAGE]]
        if action not in ("retry", "cancel"):
            messages.error(request, "Choose what to do: retry or cancel.")
        elif not numbers:
            messages.warning(request, "No message was chosen.")
        else:
            try:
                self._change(request, _outbox(request), action, numbers)
            except WRONG as error:
                messages.error(request, escape(str(error)))
        return HttpResponseRedirect(_address(self, request))

    def _change(
        self, request: HttpRequest, outbox: Outbox, action: str, numbers: Sequence[int]
    ) -> None:
        changed = []
        for number in numbers:
            try:
                message = outbox.retry(number) if action == "retry" else outbox.cancel(number)
            except KeyError:
                messages.warning(request, f"Message {number} is not there any more.")
            except ValueError as error:
                messages.warning(request, escape(f"{str(error)[:1].upper()}{str(error)[1:]}."))
            else:
                changed.append(message)
                _record(request, message, action)
        if changed:
            done = "queued again" if action == "retry" else "cancelled"
            one = f"Message {changed[0].id} is {done}."
            messages.success(
                request, one if len(changed) == 1 else f"{len(changed)} messages are {done}."
            )


def _record(request: HttpRequest, message: OutboxMessage, action: str) -> None:
    """Note in the log of the admin site who changed a message."""
    from django.contrib.admin.models import CHANGE, LogEntry

    user: Any = request.user
    LogEntry.objects.create(
        user_id=user.pk,
        object_id=str(message.id),
        object_repr=f"outbox message {message.id} from {escape(message.sender)}"[:200],
        action_flag=CHANGE,
        change_message=f"{action}: now {message.state}",
    )


def _outbox(request: HttpRequest) -> Outbox:
    using = request.GET.get("using") or request.POST.get("using") or None
    return outbox_of(options_of(using))


def _address(page: OutboxAdmin, request: HttpRequest) -> str:
    """Return the address of the list, as it was filtered when the form was sent."""
    from urllib.parse import urlencode

    names = ("using", "state", "sender", "after")
    query = urlencode({name: request.POST[name] for name in names if request.POST.get(name)})
    address = reverse(f"admin:{LABEL}_outbox_changelist", current_app=page.admin_site.name)
    return f"{address}?{query}" if query else address


def _list_row(message: OutboxMessage) -> dict[str, Any]:
    """Return a message for the list; every text of it is printable."""
    due = None
    if message.state == State.QUEUED:
        due = max(message.next_at, message.expected_at or message.next_at)
    return {
        "id": message.id,
        "state": str(message.state),
        "sender": escape(message.sender),
        "first": escape(message.recipients[0].address) if message.recipients else "",
        "more": max(0, len(message.recipients) - 1),
        "put_at": _moment(message.put_at),
        "due": _moment(due),
        "reply": escape(message.reply or ""),
        "can_retry": message.state not in (State.SENT, State.SENDING, State.HELD),
        "can_cancel": message.state in (State.QUEUED, State.HELD, State.UNCERTAIN),
    }


def _moment(moment: datetime | None) -> str:
    """Return a time in UTC, whatever the time zone of the project."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _number(text: str | None) -> int:
    """Return the number of a message; 0, which no message has, for anything else."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 18:
        return 0
    return int(text)


def _has(request: HttpRequest, codename: str) -> bool:
    user: Any = request.user
    return bool(user.is_active and user.has_perm(f"{LABEL}.{codename}"))


def register(site: admin.AdminSite) -> None:
    """Add both pages to an admin site; `django.contrib.admin.site` has them already."""
    pages: Any = (([USAGE], UsageAdmin), ([OUTBOX], OutboxAdmin))
    for stand_in, page in pages:
        site.register(stand_in, page)


register(admin.site)
