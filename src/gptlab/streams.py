"""Named random streams: the same seed and names give the same numbers, whatever else is drawn.

Streams are `init` (one per parameter name), `data` (one per epoch), `dropout`, `sampling` and
`probe` (one per task and step): an architecture that draws more initial values than another still
sees the same batches. Evaluation draws nothing.
"""

from hashlib import sha256


def stream_seed(seed: int, *names: object) -> int:
    """Derive the 63-bit seed of a named stream."""
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1
