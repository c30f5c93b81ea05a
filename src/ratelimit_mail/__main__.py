"""Run the command with `python -m ratelimit_mail`."""

from ratelimit_mail.cli import main

if __name__ == "__main__":
    main()
