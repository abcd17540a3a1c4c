"""Byte-pair encoding in Hugging Face's format: tokenizer.json, and the tokenizer that it makes."""

import json
from typing import Any, Literal

from gptlab.tokenizer._special import SpecialTokens, number_special

Pattern = Literal["gpt2", "gpt4", "gpt4o"]
Merge = tuple[str, str]

REGEX = {  # as published with OpenAI's cl100k_base and o200k_base; gpt2's is built in
    "gpt4": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "gpt4o": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


def _alphabet() -> dict[str, int]:
    """GPT-2's letters for the 256 bytes: themselves if printable, else the next from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF = _alphabet()
ALPHABET = sorted(BYTE_OF)


def spell_tokens(merges: list[Merge]) -> list[str]:
    return [*ALPHABET, *(a + b for a, b in merges)]


def describe(pattern: str, merges: list[Merge], special: SpecialTokens) -> dict[str, Any]:
    """Describe a tokenizer that was trained here, in Hugging Face's format."""
    ids = {token: id for id, token in enumerate(spell_tokens(merges))}
    return describe_parts(pattern, ids, merges, number_special(special, len(ids)))


def describe_parts(
    pattern: str,
    ids: dict[str, int],
    merges: list[Merge],
    special: dict[str, int],
    ignore_merges: bool = False,
) -> dict[str, Any]:
    """Describe any tokenizer of bytes. `ignore_merges`: a word that is a token needs no merges."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special_token(spelling, id) for spelling, id in special.items()],
        "normalizer": None,
        "pre_tokenizer": splitter_of(pattern),
        "post_processor": None,
        "decoder": byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": ignore_merges,
            "vocab": ids,
            "merges": [list(merge) for merge in merges],
        },
    }


def special_token(spelling: str, id: int) -> dict[str, Any]:
    return {
        "id": id,
        "content": spelling,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def splitter_of(pattern: str) -> dict[str, Any]:
    """Describe how text is split into words, and words into bytes; gpt2's pattern is built in."""
    if pattern == "gpt2":
        return byte_level(use_regex=True)
    words = {
        "type": "Split",
        "pattern": {"Regex": REGEX[pattern]},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [words, byte_level(use_regex=False)]}


def byte_level(use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def mark_special(tree: dict[str, Any], spelling: str) -> dict[str, Any]:
    """Make an added token one that no text becomes, whatever the file says of it."""
    match tree:
        case {"added_tokens": list(added)}:
            marked = [
                token | {"special": True}
                if isinstance(token, dict) and token.get("content") == spelling
                else token
                for token in added
            ]
            return tree | {"added_tokens": marked}
    return tree


def build(tree: dict[str, Any]) -> Any:
    """Build Hugging Face's tokenizer; special tokens in a text are text to it.

    The same text always gives the same ids: what merges it forgets by chance, it keeps here.
    Raises ValueError if it is damaged.
    """
    from tokenizers import Tokenizer as HuggingFaceTokenizer
    from tokenizers.models import BPE

    try:
        tokenizer = HuggingFaceTokenizer.from_str(json.dumps(tree))
    except Exception as error:  # the library raises nothing more definite
        raise ValueError(f"damaged: {str(error)[:200]}") from None
    if isinstance(tokenizer.model, BPE):
        tokenizer.model.dropout = None
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
