"""What a report says of a tokenizer, counted by hand."""

import math

import numpy as np
import pytest

from gptlab.evaluate.tokens import count_tokens
from gptlab.tokenizer.bpe import BPE
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import Char


def test_bytes_by_hand():
    facts = count_tokens(Byte(special=("[A]",)).train([]), ["aab é", "b b"])
    assert (facts.vocab_size, facts.special, facts.tokens) == (258, 2, 9)
    assert facts.bytes_per_token == 1
    assert facts.characters_per_token == 8 / 9
    assert facts.tokens_per_word == 9 / 4
    assert (facts.used, facts.use) == (5, 5 / 256)  # a b space c3 a9
    shares = [2 / 9, 3 / 9, 2 / 9, 1 / 9, 1 / 9]
    entropy = -sum(p * math.log2(p) for p in shares)
    assert facts.entropy == pytest.approx(entropy)
    assert facts.evenness == pytest.approx(entropy / 8)
    assert facts.order_0_bits_per_byte == pytest.approx(entropy)
    assert len(facts.counts) == 256
    assert facts.megabytes_per_second > 0


def test_lists_are_of_the_longest():
    text = "low lower lowest slow " * 20
    encoder = BPE(vocab_size=280).train([text])
    facts = count_tokens(encoder, [text])
    ids = set(encoder.encode(text).tolist())
    assert facts.used == len(ids)
    assert facts.longest[0] == max((encoder.bytes_of(id) for id in ids), key=len)
    assert {len(token) for token in facts.longest} != {len(facts.longest[0])}
    assert not {encoder.bytes_of(id) for id in ids} & set(facts.unused)
    assert b"" not in facts.unused  # a special token is none of those that should occur
    assert facts.bytes_per_token > 3
    np.testing.assert_array_equal(
        facts.counts, np.bincount(encoder.encode(text), minlength=encoder.vocab_size)[:-1]
    )


def test_one_character_and_none():
    facts = count_tokens(Char().train(["aaa"]), ["aaa"])
    assert (facts.entropy, facts.evenness) == (0, 1)
    with pytest.raises(ValueError, match="no text"):
        count_tokens(Byte().train([]), [])
    with pytest.raises(ValueError, match="never seen"):
        count_tokens(Char().train(["aaa"]), ["b"])
