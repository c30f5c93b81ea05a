"""The sliding window in pure integers: the reference for every backend."""
