"""The command `serve`: the policy server for Postfix."""
