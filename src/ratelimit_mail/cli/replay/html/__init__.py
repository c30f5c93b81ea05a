"""The report of a replay as an HTML page: a module for each section."""
