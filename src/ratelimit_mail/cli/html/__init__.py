"""Reports as one HTML page that needs nothing else: what `replay` and `plan` write for --report."""
