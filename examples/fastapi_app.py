"""A FastAPI application whose requests never wait for a mail limit: an outbox sends.

A request puts its message into an outbox, which is on the disk when the answer is sent. A thread of
this process sends what the limits allow. Run it with `uvicorn examples.fastapi_app:app`.

It needs fastapi and uvicorn, and these environment variables: OUTBOX is the file of the outbox.
STORE is the URL of the counts, such as sqlite:///counts.db. SMTP_URL is the mail server, such as
smtp://localhost:1025 (without TLS).
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

from ratelimit_mail import Limiter, RateLimitExceeded, presets
from ratelimit_mail.backends import from_url
from ratelimit_mail.outbox import Outbox, SMTPTransport

SENDER = "shop@example.org"


def open_outbox() -> Outbox:
    """Return this process's outbox, with its one limiter."""
    server = urlsplit(os.environ["SMTP_URL"])
    limiter = Limiter(presets.leeds_office365(), from_url(os.environ["STORE"]))
    transport = SMTPTransport(server.hostname or "localhost", server.port or 25, tls="none")
    return Outbox(os.environ["OUTBOX"], limiter, transport)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Send from the start of the process to its end; the message in hand is finished."""
    with open_outbox() as outbox:
        sending = threading.Thread(target=outbox.run, name="outbox")
        sending.start()
        app.state.outbox = outbox
        try:
            yield
        finally:
            outbox.stop()
            sending.join()


app = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    """An order: its number, and the address that gets the confirmation."""

    number: int
    email: str


@app.post("/orders", status_code=202)
def order(order: Order, request: Request) -> dict[str, Any]:
    """Put the confirmation of an order into the outbox. The same order is confirmed once."""
    message = EmailMessage()
    message["From"], message["Subject"] = SENDER, f"Your order {order.number}"
    message.set_content("Thank you.\n")
    try:
        message["To"] = order.email
        put = request.app.state.outbox.put(message, key=f"order {order.number}")
    except RateLimitExceeded as error:  # it could never be sent
        raise HTTPException(422, str(error.decision.reply)) from error
    except ValueError as error:  # such as an address with a line break
        raise HTTPException(422, "this is not an address") from error
    return {"message": put.id, "state": put.state}


@app.get("/messages/{number}")
def message(number: int, request: Request) -> dict[str, Any]:
    """Return what has become of a message, and when it is expected to go."""
    try:
        message = request.app.state.outbox.show(number)
    except KeyError:
        raise HTTPException(404, "there is no such message") from None
    return {"state": message.state, "expected_at": message.expected_at, "reply": message.reply}
