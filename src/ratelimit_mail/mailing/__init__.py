"""Personalised letters to the people in a CSV file: checked, previewed, and put into an outbox."""

from __future__ import annotations

from ratelimit_mail.mailing.attachments import AttachmentFolder
from ratelimit_mail.mailing.letter import Letter
from ratelimit_mail.mailing.mailing import LetterOutbox, Mailing, MergedLetter, Problem
from ratelimit_mail.mailing.people import People, Row, read_people

__all__ = [
    "AttachmentFolder",
    "Letter",
    "LetterOutbox",
    "Mailing",
    "MergedLetter",
    "People",
    "Problem",
    "Row",
    "read_people",
]
