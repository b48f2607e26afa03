"""Limits of the services that several modules keep to, and where they are written down."""

from __future__ import annotations

INLINE_MAX_BYTES = 16 << 10
"""Bodies above it become blobs. A blob costs less from 9 kB on, but a call and its time more."""
