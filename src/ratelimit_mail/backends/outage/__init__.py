"""What a limiter does while its backend is away."""
