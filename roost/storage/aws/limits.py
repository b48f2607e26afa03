"""Limits of the services that several modules keep to, and where they are written down."""

from __future__ import annotations

INLINE_MAX_BYTES = 16 << 10
"""Bodies above it become blobs. A blob costs less from 9 kB on, but a call and its time more."""

SWEEP_SECONDS = 30.0
"""A query a shard and a look at the switches at each, 0.034 USD a month and worker; well below
`SEND_EARLY_SECONDS`, so that no wake-up is late."""
