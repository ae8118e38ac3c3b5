"""Measurements: what is timed (`python -m benchmarks`, `pytest benchmarks`) and the README's tables (`readme`)."""

import issref  # noqa: F401  (before NumPy, as in every command: see issref.openblas)
