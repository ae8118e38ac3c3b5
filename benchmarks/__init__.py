"""Measurements: what is timed (`python -m benchmarks`, `pytest benchmarks`) and the README's tables (`readme`)."""
