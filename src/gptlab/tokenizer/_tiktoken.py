"""OpenAI's `.tiktoken` files: a token in base64 and its id on each line.

There, two neighbours merge whenever their bytes together are a token, the lowest id first. That is
byte-pair encoding by merges, once it is known of which two each token is made: those that this rule
comes to last, when it is given the token's bytes. A token whose bytes stay in more pieces is only
reached as a whole word, which is looked up before anything is merged.

Patterns and special tokens are not in the files; they are those that OpenAI publishes for the
encodings of these names (github.com/openai/tiktoken).
"""

import binascii
from itertools import pairwise
from math import inf
from typing import Any

from gptlab.config import nearest
from gptlab.tokenizer._hugging_face import BYTE_OF, describe_parts
from gptlab.tokenizer._special import END_OF_TEXT

ENCODINGS: dict[str, tuple[str, dict[str, int]]] = {
    "r50k_base": ("gpt2", {END_OF_TEXT: 50256}),
    "p50k_base": ("gpt2", {END_OF_TEXT: 50256}),
    "cl100k_base": (
        "gpt4",
        {
            END_OF_TEXT: 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": ("gpt4o", {END_OF_TEXT: 199999, "<|endofprompt|>": 200018}),
}
LETTER_OF = {byte: letter for letter, byte in BYTE_OF.items()}


def read_tiktoken(name: str, content: bytes) -> dict[str, Any]:
    """Describe an encoding in Hugging Face's format. Raises ValueError if it is damaged."""
    if name not in ENCODINGS:
        raise ValueError(
            f"no encoding named {name!r}{nearest(name, list(ENCODINGS))}; pattern and special "
            f"tokens are not in a file, so its name must tell: {', '.join(ENCODINGS)}"
        )
    pattern, special = ENCODINGS[name]
    ids = _parse(content)
    if taken := set(special.values()) & set(ids.values()):
        raise ValueError(f"not {name}: id {min(taken):,} is a special token's")
    vocabulary = {spell(token): id for token, id in ids.items()}
    merges = [(spell(a), spell(b)) for a, b in find_merges(ids)]
    # special tokens among the others keep their ids, which need not follow on the last one
    return describe_parts(pattern, vocabulary | special, merges, special, ignore_merges=True)


def find_merges(ids: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Find the two tokens that each token is made of, in the order of their ids."""
    ordered = sorted((token for token in ids if len(token) > 1), key=ids.__getitem__)
    parts = (_parts(token, ids) for token in ordered)
    return [(found[0], found[1]) for found in parts if len(found) == 2]


def spell(token: bytes) -> str:
    """Spell bytes in GPT-2's alphabet."""
    return "".join(LETTER_OF[byte] for byte in token)


def _parse(content: bytes) -> dict[bytes, int]:
    ids: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            token, id = line.split()
            ids[binascii.a2b_base64(token, strict_mode=True)] = int(id)
        except ValueError:
            raise ValueError(f"line {number:,} is not a token in base64 and its id") from None
    if len(set(ids.values())) < len(ids) or min(ids.values(), default=0) < 0:
        raise ValueError("two tokens have the same id, or one has none")
    if missing := {bytes([byte]) for byte in range(256)} - ids.keys():
        raise ValueError(f"{len(missing)} of the 256 bytes are not among its tokens")
    return ids


def _parts(token: bytes, ids: dict[bytes, int]) -> list[bytes]:
    """Merge the bytes of a token until two pieces are left, or more if no tokens fit."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ids.get(a + b, inf) for a, b in pairwise(parts)]
        if (best := min(pairs)) == inf:
            break
        place = pairs.index(best)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts
