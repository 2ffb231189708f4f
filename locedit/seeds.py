"""Seeds derived from a study's seed and a name, so that results do not depend on order or batch."""

import hashlib


def derive(seed: int, *parts: object) -> int:
    """A 32-bit seed of its own for each combination of parts."""
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
