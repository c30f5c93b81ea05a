"""The commands `outbox …`: put messages into an outbox, send them, and look after them."""
