"""The report as one page of HTML with charts."""
