"""The command `merge`: personalised letters to the people in a CSV file."""
