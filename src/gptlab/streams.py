"""Named random streams: the same seed and names give the same numbers, whatever else is drawn.

Streams are `init` (one per parameter name), `data`, `dropout`, `sampling` and `evaluation`: an
architecture that draws more initial values than another still sees the same batches.
"""

from hashlib import sha256


def stream_seed(seed: int, *names: object) -> int:
    """Derive the 63-bit seed of a named stream."""
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1
