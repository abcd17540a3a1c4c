"""`.tiktoken` files give the ids that tiktoken gives, by its rule written in plain Python.

No published file is here: files are made of a trained tokenizer, or of random ranks, which know
tokens that no merge reaches and ids with holes.
"""

import base64
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
from tokenizers import Tokenizer as HuggingFaceTokenizer

from gptlab.tokenizer import _tiktoken
from gptlab.tokenizer._hugging_face import BYTE_OF, REGEX, build
from gptlab.tokenizer._tiktoken import ENCODINGS, find_merges, read_tiktoken
from gptlab.tokenizer.bpe import BPE

TEXT = (
    Path(_tiktoken.__file__).read_text(encoding="utf-8") + "naïve 東京 Don'T HTTPServer x/\n/ " * 9
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
Ranks = dict[bytes, int]


def tiktoken_encode(ranks: Ranks, pattern: str, text: str) -> list[int]:
    """Look words up; else merge the pair of the lowest rank, the leftmost first."""
    ids: list[int] = []
    for word in regex.findall(pattern, text):
        content = word.encode()
        if content in ranks:
            ids.append(ranks[content])
            continue
        parts = [content[i : i + 1] for i in range(len(content))]
        while True:
            found = [
                (ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks
            ]
            if not found:
                break
            _, i = min(found)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def write(ranks: Ranks) -> bytes:
    return b"".join(base64.b64encode(x) + b" %d\n" % id for x, id in ranks.items())


def trained(pattern: str) -> Ranks:
    encoder = BPE.parse({"vocab_size": 900, "pattern": pattern}).train([TEXT])
    return {encoder.bytes_of(id): id for id in range(encoder.vocab_size - 1)}


def random_ranks(seed: int) -> Ranks:
    """Ranks of substrings at random: not what training gives."""
    rng = np.random.default_rng(seed)
    content = TEXT.encode()
    tokens = {bytes([byte]): None for byte in rng.permutation(256).tolist()}
    for _ in range(600):
        start = int(rng.integers(len(content) - 8))
        tokens[content[start : start + int(rng.integers(2, 7))]] = None
    return {token: 3 * i for i, token in enumerate(tokens)}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_ids_are_tiktokens(name: str, seed: int | None):
    pattern, special = ENCODINGS[name]
    ranks = trained(pattern) if seed is None else random_ranks(seed)
    tokenizer = build(read_tiktoken(name, write(ranks)))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(TEXT), 200).tolist()
    texts = [TEXT, *special, *(TEXT[i : i + 50] for i in starts)]
    unreached = set(ranks) - {a + b for a, b in find_merges(ranks)}
    assert seed is None or max(map(len, unreached)) > 2
    for text in texts:
        expected = tiktoken_encode(ranks, REGEX.get(pattern, GPT2), text)
        assert tokenizer.encode(text).ids == expected
        assert tokenizer.decode(expected) == text
    theirs = HuggingFaceTokenizer.from_str(tokenizer.to_str())
    for spelling, id in special.items():
        assert theirs.encode(spelling).ids == [id]  # theirs does parse it


def test_merges_are_those_that_training_made():
    encoder = BPE(vocab_size=600).train([TEXT])
    ranks = {encoder.bytes_of(id): id for id in range(encoder.vocab_size - 1)}
    found = [(_tiktoken.spell(a), _tiktoken.spell(b)) for a, b in find_merges(ranks)]
    assert found == encoder.merges


def test_the_bytes_have_the_ids_that_gpt2_gives_them():
    """What is known of its vocabulary: ! is 0, a newline 198, a space 220, the first merge 256."""
    letters = sorted(BYTE_OF)
    assert [letters.index(x) for x in "!aĊĠ"] == [0, 64, 198, 220]
    assert "".join(map(_tiktoken.spell, (b" ", b"\n", b"\xad", b"a"))) == "ĠĊŃa"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "256 of the 256 bytes are not among its tokens"),
        (b"IQ== 0\n", "255 of the 256 bytes"),
        (b"IQ== x\n", "line 1 is not a token in base64 and its id"),
        (b"IQ== 0\nIQ\n", "line 2 is not"),
        (b"IQ= 0\n", "line 1 is not"),
        (b"IQ== 0\nIg== 0\n", "two tokens have the same id"),
        (b"\x80\x04\x95", "line 1 is not"),
    ],
)
def test_a_damaged_file_is_refused(content: bytes, problem: str):
    with pytest.raises(ValueError, match=problem):
        read_tiktoken("cl100k_base", content)


def test_another_encodings_file_is_refused():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 50256}
    with pytest.raises(ValueError, match="not r50k_base: id 50,256 is a special token's"):
        read_tiktoken("r50k_base", write(ranks))
    with pytest.raises(ValueError, match=r"no encoding named 'cl100k'; did you mean 'cl100k_base'"):
        read_tiktoken("cl100k", write(ranks))
