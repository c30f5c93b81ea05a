"""The command `replay`: what a policy would have done to mail that was already sent."""
