"""What a replay finds, and how it is told: in a terminal, as JSON, and as a page with pictures."""
