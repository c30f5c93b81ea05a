"""The command `ratelimit-mail`."""
