"""Measurements: what is timed (`pytest benchmarks`), what was measured (`results/`), and the README's tables."""
