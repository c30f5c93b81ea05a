"""Private helpers that know nothing of mail."""
