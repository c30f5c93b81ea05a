"""What the command can be told to do: one module a word."""
