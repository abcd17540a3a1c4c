import pytest
import torch

from gptlab.generate import reading
from gptlab.generate.generator import generate_tokens
from gptlab.generate.language_model import LanguageModel
from gptlab.generate.speculation import Lookup, check_speculation, count_equal, speculate_tokens
from gptlab.model.gpt import GPT
from gptlab.tokenizer.byte import ByteEncoder

FULL = {"type": "grouped_query", "n_heads": 4}
VARIANTS = {
    "rotary": {},
    "gpt2": {"positions": "learned", "norm": "layer_norm", "head": "tied"},
    "alibi": {"positions": "alibi", "attention": FULL | {"n_kv_heads": 2}},
    "latent": {"attention": {"type": "latent", "n_heads": 4}},
    "differential": {"attention": {"type": "differential", "n_heads": 4}},
    "shared": {"attention": {"type": "alternating", "of": [FULL, FULL | {"share_kv": True}]}},
    "experts": {"mlp": {"type": "mixture_of_experts", "n_experts": 4, "top_k": 2}},
}


def greedy(logits_NV):
    return logits_NV.argmax(-1)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("n_guesses", [1, 3, 8])
@pytest.mark.parametrize("seed", range(6))
def test_the_text_is_what_it_is_without_guesses(tiny, name, n_guesses, seed, monkeypatch):
    model = tiny(context_length=100, **VARIANTS[name]).build(seed).eval()
    prompt = [(7 * i + seed) % 256 for i in range(24)]
    expected = torch.cat([*generate_tokens(model, [prompt], 150, greedy)]).tolist()

    def guess(text, n):
        n_written = len(text.tokens) - len(prompt)
        return [(token + (place % 7 == 6)) % 257 for place, token in enumerate(expected)][
            n_written:
        ][:n]

    monkeypatch.setattr(Lookup, "guess", guess)
    monkeypatch.setattr(reading, "SMALLEST_BLOCK", 32)
    monkeypatch.setattr(reading, "BLOCK", 32)  # caches grow on the way
    passes: list[object] = []
    monkeypatch.setattr(reading.Reader, "logits_of", count(passes, reading.Reader.logits_of))
    written = torch.cat([*speculate_tokens(model, prompt, 150, greedy, n_guesses)]).tolist()
    assert written == expected
    assert len(passes) < 150 * (0.8 if n_guesses == 1 else 0.5)


def test_guesses_that_hold_save_passes(build, monkeypatch):
    """A model that sees nothing but the last token soon repeats itself."""
    model = build(context_length=200, positions="none", n_layers=1)
    with torch.no_grad():
        model.blocks[0].attention.output.weight.zero_()
    passes = []
    monkeypatch.setattr(reading.Reader, "logits_of", count(passes, reading.Reader.logits_of))
    written = torch.cat([*speculate_tokens(model, [1, 2, 3], 190, greedy, 8)]).tolist()
    assert len(written) == 190
    assert len(passes) < 100


def count(calls, function):
    def counted(*args):
        calls.append(args)
        return function(*args)

    return counted


@pytest.mark.parametrize("max_tokens", [0, 1, 2, 9])
def test_as_many_tokens_as_wanted(build, max_tokens):
    written = [*speculate_tokens(build(), [1, 2, 1, 2, 1, 2, 1], max_tokens, greedy, 8)]
    assert len(written) == max_tokens


def test_what_followed_last_is_guessed():
    text = Lookup()
    for token in [1, 2, 3, 4, 5, 6, 1, 2, 3]:
        text.add(token)
    assert text.guess(2) == [4, 5]
    assert text.guess(99) == [4, 5, 6, 1, 2, 3]
    text.add(9)
    assert text.guess(2) == []
    for token in [1, 2, 3]:
        text.add(token)
    assert text.guess(1) == [9]


@pytest.mark.parametrize(
    ("guessed", "chosen", "n"),
    [([], [4], 0), ([4], [4, 5], 1), ([3], [4, 5], 0), ([4, 1, 6], [4, 5, 6, 7], 1)],
)
def test_guesses_stand_up_to_the_first_that_fails(guessed, chosen, n):
    assert count_equal(guessed, chosen) == n


@pytest.mark.parametrize(
    "attention",
    [
        FULL | {"window": 9},
        FULL | {"chunk": 9},
        {"type": "alternating", "of": [FULL, FULL | {"window": 3}]},
        {"type": "gated_delta", "n_key_heads": 4, "n_heads": 4},
        "convolution",
    ],
)
def test_what_forgets_is_refused(build, attention):
    model: GPT = build(attention=attention, positions="none")
    with pytest.raises(ValueError, match=r"^--speculate=4 takes back .* layer [01] forgets .*out$"):
        check_speculation(model, 4, 1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.8}, "one text at --temperature=0, not for 1 at 0.8"),
        ({"temperature": 0, "n": 2}, "not for 2 at 0"),
        ({"temperature": 0, "speculate": 0}, "--speculate=0 must be at least 1"),
    ],
)
def test_only_one_text_without_chance(build, options, message):
    model = LanguageModel(build(), ByteEncoder(), {})
    with pytest.raises(ValueError, match=message):
        model.generate("abc", **{"speculate": 4} | options)


def test_text_is_the_same(build):
    model = LanguageModel(build(context_length=300), ByteEncoder(), {})
    plain = model.generate("abcabcabc", 200, temperature=0)
    assert model.generate("abcabcabc", 200, temperature=0, speculate=5) == plain
    assert "".join(model.stream("abcabcabc", 200, temperature=0, speculate=5)) == plain
