"""Whether text comes back from a tokenizer, tried on what those that lose text change."""

from typing import Any
from unicodedata import normalize

from gptlab.tokenizer._encoder import Encoder

SHOWN = 12  # characters
LEADS = [  # with every byte that UTF-8 begins a character with
    *(chr(lead << 6 | 0x02) for lead in range(2, 32)),
    *(chr(max(lead << 12, 0x800) | 0x82) for lead in range(16)),
    *(chr(max(lead << 18, 0x10082)) for lead in range(5)),
]
ORDINARY = "".join(map(chr, range(256))) + "".join(LEADS) + " The CAT ﬁnds  naïve\r\n\tcafés"
PROBE = f"  {ORDINARY} e\u0301  "


def check_round_trip(encoder: Encoder, inner: dict[str, Any], adds_space: bool) -> None:
    """Raise ValueError if text does not come back.

    Two things may: characters may come back composed (Unicode's NFC, which Qwen normalizes to), and
    a text may lose the first of its spaces where `adds_space`.
    """
    back = encoder.decode(encoder.encode(PROBE).tolist())
    full = " " + back if adds_space and not back.startswith("  ") else back
    if full in (PROBE, normalize("NFC", PROBE)):
        return
    start = next((i for i, a in enumerate(PROBE) if not back.startswith(a, i)), len(PROBE))
    raise ValueError(
        f"it loses text: {PROBE[start : start + SHOWN]!r} comes back as "
        f"{back[start : start + SHOWN]!r} (normalizer: {_steps(inner.get('normalizer'))}; "
        f"pre-tokenizer: {_steps(inner.get('pre_tokenizer'))}; {encoder.vocab_size:,} tokens)"
    )


def _steps(part: Any) -> str:
    """Name the steps of a part of a tokenizer.json."""
    if not isinstance(part, dict):
        return "none"
    inner = part.get("normalizers") or part.get("pretokenizers") or ()
    return ", ".join(_steps(step) for step in inner) or str(part.get("type"))
