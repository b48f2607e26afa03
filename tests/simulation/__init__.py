"""The whole runtime in virtual time, under every fault that one process can meet.

`python -m tests.simulation --seed K --trace` replays one run.
"""
