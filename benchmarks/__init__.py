"""Measurements of speed and memory, against peers and against bounds: `python -m benchmarks`."""
