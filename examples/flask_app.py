"""A Flask application that only puts messages into an outbox, and a command of it that sends them.

Requests need no transport, and any number of processes may serve them:

    gunicorn 'examples.flask_app:create_app()'
    flask --app examples.flask_app send-mail

The second command runs until SIGTERM or Ctrl-C, and then finishes the message in hand. Both read
OUTBOX, STORE and SMTP_URL, as examples/fastapi_app.py does.
"""

from __future__ import annotations

import os
import signal
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

import click
from flask import Flask, current_app, request

from ratelimit_mail import Limiter, RateLimitExceeded, presets
from ratelimit_mail.backends import from_url
from ratelimit_mail.outbox import Outbox, SMTPTransport

SENDER = "shop@example.org"


def new_limiter() -> Limiter:
    """Return the one limiter of a process. Processes share its counts by the store."""
    return Limiter(presets.leeds_office365(), from_url(os.environ["STORE"]))


def create_app() -> Flask:
    """Return the application. Each process that serves it makes its own."""
    app = Flask(__name__)
    app.extensions["outbox"] = Outbox(os.environ["OUTBOX"], new_limiter())
    app.add_url_rule("/orders", view_func=order, methods=["POST"])
    app.add_url_rule("/messages/<int:number>", view_func=message)
    app.cli.add_command(send_mail)
    return app


def order() -> tuple[dict[str, Any], int]:
    """Put the confirmation of an order into the outbox. The same order is confirmed once."""
    number = request.form.get("number", type=int)
    message = EmailMessage()
    message["From"], message["Subject"] = SENDER, f"Your order {number}"
    message.set_content("Thank you.\n")
    try:
        message["To"] = request.form["email"]
        put = current_app.extensions["outbox"].put(message, key=f"order {number}")
    except RateLimitExceeded as error:  # it could never be sent
        return {"error": str(error.decision.reply)}, 422
    except ValueError:  # such as an address with a line break
        return {"error": "this is not an address"}, 422
    return {"message": put.id, "state": put.state}, 202


def message(number: int) -> tuple[dict[str, Any], int]:
    """Return what has become of a message."""
    try:
        message = current_app.extensions["outbox"].show(number)
    except KeyError:
        return {"error": "there is no such message"}, 404
    return {"state": message.state, "reply": message.reply}, 200


@click.command("send-mail")
@click.option("--until-empty", is_flag=True, help="End when nothing is queued.")
def send_mail(until_empty: bool) -> None:
    """Send what is in the outbox, when the limits allow it."""
    server = urlsplit(os.environ["SMTP_URL"])
    transport = SMTPTransport(server.hostname or "localhost", server.port or 25, tls="none")
    with Outbox(os.environ["OUTBOX"], new_limiter(), transport) as outbox:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: outbox.stop())
        outbox.run(until_empty=until_empty)
