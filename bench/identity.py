"""Hashes that name configurations."""

from __future__ import annotations

import hashlib
import json


def digest(value: object) -> str:
    """Return 12 hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
