"""Traces and metrics of Roost, for those who want them: `names` lists all there are.

Nothing here is imported unless the settings ask for it (`[observe]`, `--metrics-port`).
"""
