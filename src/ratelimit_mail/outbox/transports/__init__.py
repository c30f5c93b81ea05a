"""The transports of an outbox: how a message gets to a server."""
