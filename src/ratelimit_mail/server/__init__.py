"""A policy server for mail servers: it answers Postfix, and an operator by its control socket."""
