"""Write a made-up sample mbox, to try `ratelimit-mail replay` on.

    python examples/make_mailbox.py sample.mbox
    ratelimit-mail replay sample.mbox --policy leeds-office365

No message in it was ever sent, and all addresses are in example.org, example.com and
example.net, which are reserved for examples. Every run writes the same mailbox: four days of mail
from a dozen ordinary senders; a newsletter whose mail merge sends 40 messages a minute; one message
to 120 recipients at once; and a stolen account that sends mail to 11,200 recipients in a night.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime

Mail = tuple[datetime, str, list[str], str]
"""Time, sender, recipients and subject of one message."""

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 4
NAMES = "amina ben chloe deepak elif farid grace hugo ines jonas kim lucia"
STAFF = [f"{name}@example.org" for name in NAMES.split()]
SUBJECTS = ["Lunch on Thursday", "Minutes of the meeting", "Draft, second try", "Re: room booking"]


def ordinary_mail(rng: random.Random) -> Iterator[Mail]:
    """Yield a few messages a day from each member of the staff, in office hours."""
    partners = [f"partner-{n}@example.com" for n in range(1, 31)]
    for day in range(DAYS):
        for sender in STAFF:
            contacts = [address for address in STAFF if address != sender] + partners
            for _ in range(rng.randint(2, 6)):
                at = MONDAY + timedelta(days=day, seconds=rng.randrange(9 * 3600, 17 * 3600))
                yield at, sender, rng.sample(contacts, rng.randint(1, 4)), rng.choice(SUBJECTS)


def newsletter() -> Iterator[Mail]:
    """Yield a mail merge: one message to each of 90 subscribers, 40 messages a minute."""
    start = MONDAY + timedelta(days=1, hours=10)
    for n in range(90):
        at = start + timedelta(seconds=1.5 * n)
        yield at, "newsletter@example.org", [f"subscriber-{n}@example.com"], "News of the month"


def invitation() -> Iterator[Mail]:
    """Yield one message to 120 people, and the same in two halves an hour later."""
    guests = [f"guest-{n}@example.net" for n in range(120)]
    at = MONDAY + timedelta(days=2, hours=11)
    later = at + timedelta(hours=1)
    yield at, "events@example.org", guests, "You are invited"
    yield later, "events@example.org", guests[:60], "You are invited"
    yield later + timedelta(minutes=1), "events@example.org", guests[60:], "You are invited"


def blast() -> Iterator[Mail]:
    """Yield 140 messages from a stolen account, to 80 recipients each, 30 a minute from 3 a.m."""
    start = MONDAY + timedelta(days=3, hours=3)
    for n in range(140):
        victims = [f"victim-{80 * n + i}@example.net" for i in range(80)]
        at = start + timedelta(seconds=2 * n)
        yield at, "kim@example.org", victims, "Your mailbox is almost full"


def as_mbox(mail: Mail) -> bytes:
    """Return one message in mbox format."""
    at, sender, recipients, subject = mail
    message = EmailMessage()
    message["Date"] = format_datetime(at)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = subject
    message.set_content("This message is made up and was never sent.\n")
    return f"From {sender} {at:%a %b %d %H:%M:%S %Y}\n".encode() + message.as_bytes() + b"\n"


def main() -> None:
    """Write the mailbox to the file that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python make_mailbox.py FILE")
    mails = [*ordinary_mail(random.Random(1)), *newsletter(), *invitation(), *blast()]
    mails.sort(key=lambda mail: mail[0])
    mailbox = b"".join(map(as_mbox, mails))
    try:
        with open(sys.argv[1], "a+b") as file:
            file.seek(0)
            content = file.read()
            if content and content != mailbox:  # do not overwrite another mailbox
                sys.exit(f"{sys.argv[1]}: holds something else; name another file")
            if not content:
                file.write(mailbox)
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
    print(f"{sys.argv[1]}: {len(mails)} messages, all made up and never sent")


if __name__ == "__main__":
    main()
