"""Lets `python -m ratelimit_mail.cli` run the command."""

from ratelimit_mail.cli import main

if __name__ == "__main__":
    main()
