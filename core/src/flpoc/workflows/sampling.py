"""Which sites are asked, and in which order: the same wherever and whenever a job is run."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence


def shuffled(sites: Sequence[str], seed: int, round_number: int, purpose: str) -> list[str]:
    """Sites in an order that follows from the job's seed, the round and the purpose, and from nothing else.

    They are sorted by HMAC-SHA-256 of round, name and purpose under the seed: no state, and no library's idea of
    chance.
    """
    key = str(seed).encode()
    return sorted(sites, key=lambda site: hmac.digest(key, f"{round_number}|{site}|{purpose}".encode(), hashlib.sha256))


def sampled(sites: Sequence[str], count: int | None, seed: int, round_number: int) -> list[str] | None:
    """The sites of a round, *count* of them without replacement, in site order; None: all."""
    if count is None or count >= len(sites):
        return None
    chosen = set(shuffled(sites, seed, round_number, "sample")[:count])
    return [site for site in sites if site in chosen]
