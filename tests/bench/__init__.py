"""Benchmarks: `python -m tests.bench` prints every figure and ratio in one run."""
