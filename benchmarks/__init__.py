"""Benchmarks for pytest-benchmark, and the page docs/benchmarks.md made from their JSON."""
