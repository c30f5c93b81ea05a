"""Adapters: limits for the libraries that programs send mail with.

Each module wraps one library and imports only that one: `smtplib`, `aiosmtplib`, `aiosmtpd`,
`boto3`, `celery`, `django` and `limits`. An adapter builds the envelope that the server sees, asks
a limiter, and refuses in the way that users of its library expect. It decides nothing by itself.
"""
