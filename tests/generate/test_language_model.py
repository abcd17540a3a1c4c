import pytest
import torch

from gptlab.generate import LanguageModel, language_model
from gptlab.tokenizer.byte import ByteEncoder
from gptlab.tokenizer.char import CharEncoder

T = 16
END = 256


@pytest.fixture
def speaker(build):
    return LanguageModel(build(), ByteEncoder(), {})


@pytest.fixture
def script(monkeypatch):
    """Make the model generate these tokens, a row per sample; return how many steps were taken."""

    def install(*rows):
        taken = []

        def scripted(model, ids, max_tokens, sampler):
            for column in list(zip(*rows, strict=True))[:max_tokens]:
                taken.append(column)
                yield torch.tensor(column)

        monkeypatch.setattr(language_model, "generate_tokens", scripted)
        return taken

    return install


@pytest.fixture
def seen(monkeypatch):
    """The prompts, as ids, that are given to the model."""
    prompts = []

    def spy(model, ids, *args):
        prompts.extend(ids)
        yield from ()

    monkeypatch.setattr(language_model, "generate_tokens", spy)
    return prompts


def test_a_seed_decides_the_text(speaker):
    def text(seed):
        return speaker.generate("Hello", max_tokens=40, seed=seed)

    assert text(1) == text(1)
    assert text(1) != text(2)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 5}, {"seed": 3, "stop": "e"}])
def test_the_stream_is_the_text(speaker, settings):
    settings = {"seed": 9, "max_tokens": 60} | settings
    pieces = list(speaker.stream("Hello", **settings))
    assert "".join(pieces) == speaker.generate("Hello", **settings)
    assert len(pieces) > 1
    assert "" not in pieces


def test_several_samples_at_once(speaker):
    texts = speaker.generate("Hello", max_tokens=40, seed=1, n=3)
    assert len(set(texts)) == 3
    greedy = speaker.generate("Hello", max_tokens=40, temperature=0)
    assert speaker.generate("Hello", max_tokens=40, temperature=0, n=2) == [greedy] * 2


def test_prompts_of_any_lengths_are_continued_side_by_side(speaker):
    prompts = ["Hello", "", "a longer one", "Hello"]
    greedy = {"max_tokens": 5 * T, "temperature": 0}
    alone = [speaker.generate(prompt, **greedy) for prompt in prompts]
    assert len(set(alone)) == 3
    assert speaker.generate(prompts, **greedy) == alone
    assert speaker.generate(["Hello"], **greedy) == alone[:1]
    assert speaker.generate(prompts[:2], n=2, **greedy) == [t for t in alone[:2] for _ in range(2)]
    assert speaker.generate([]) == []


def test_a_number_of_samples_that_is_too_small_is_named(speaker):
    with pytest.raises(ValueError, match="--samples=0 must be at least 1"):
        speaker.generate("Hello", n=0)


@pytest.mark.parametrize("max_tokens", [0, 1, T, 5 * T])
@pytest.mark.parametrize("prompt_length", [0, T - 1, T])
def test_any_prompt_that_fits_is_continued_at_any_length(build, prompt_length, max_tokens):
    speaker = LanguageModel(build(vocab_size=26), CharEncoder("abcdefghijklmnopqrstuvwxyz"), {})
    assert len(speaker.generate("a" * prompt_length, max_tokens)) == max_tokens
    assert len("".join(speaker.stream("a" * prompt_length, max_tokens))) == max_tokens


@pytest.mark.parametrize("prompt_length", [T + 1, 10 * T])
def test_a_prompt_longer_than_the_context_is_refused(speaker, prompt_length):
    message = f"the prompt has {prompt_length} tokens, more than model.context_length=16: shorten"
    with pytest.raises(ValueError, match=message):
        speaker.generate("a" * prompt_length)
    with pytest.raises(ValueError, match=message):
        speaker.stream("a" * prompt_length)


def test_nothing_is_generated_when_nothing_is_asked(speaker):
    assert speaker.generate("Hello", max_tokens=0) == ""
    assert speaker.generate("Hello", max_tokens=0, n=2) == ["", ""]
    assert list(speaker.stream("Hello", max_tokens=0)) == []


@pytest.mark.parametrize(
    ("tokenizer", "first"),
    [(ByteEncoder(), END), (CharEncoder("\t\nab"), 1), (CharEncoder("abc"), 0)],
)
def test_an_empty_prompt_stands_for_one_token(build, seen, tokenizer, first):
    LanguageModel(build(), tokenizer, {}).generate("")
    assert seen == [[first]]


def test_an_unseen_character_is_named(build):
    speaker = LanguageModel(build(vocab_size=3), CharEncoder("abc"), {})
    with pytest.raises(ValueError, match="character 'é' at position 2"):
        speaker.generate("abé")


def test_tokens_that_the_tokenizer_does_not_have_are_never_drawn(build):
    speaker = LanguageModel(build(vocab_size=64), CharEncoder("abc"), {})
    text = speaker.generate("a", max_tokens=200, temperature=100.0, seed=1)
    assert len(text) == 200
    assert set(text) == set("abc")


def test_a_sample_ends_with_the_text_and_the_others_go_on(speaker, script):
    taken = script([97, END, 98, 98, 98], [99, 99, 99, END, 99], [100, 100, 101, 102, 102])
    assert speaker.generate("x", n=3, stop=["ef"]) == ["a", "ccc", "dd"]
    assert len(taken) == 4  # when all are done, no token more is computed


def test_a_stop_string_ends_the_stream(speaker, script):
    taken = script(list(b"to be END or not"))
    assert list(speaker.stream("x", stop=("END", "zzz"))) == [*"to be "]
    assert len(taken) == 9
    script(list(b"one\ntwo"))
    assert speaker.generate("x", stop="\n") == "one"  # a string is one stop string


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_p": 1.5}, "--top-p=1.5"),
        ({"max_tokens": -1}, "--max-tokens=-1"),
        ({"stop": ""}, "--stop='' is empty"),
        ({"stop": ["a", ""]}, "--stop='' is empty"),
    ],
)
def test_a_stream_checks_its_settings_at_the_call(speaker, settings, message):
    with pytest.raises(ValueError, match=message):
        speaker.stream("Hello", **settings)


def test_speaking_leaves_a_model_in_training_as_it_was(speaker):
    speaker.model.train()
    speaker.generate("Hello", max_tokens=3)
    next(speaker.stream("Hello", temperature=0))
    assert speaker.model.training
    parameters = speaker.model.parameters()
    assert all(p.grad is None and p.requires_grad for p in parameters)
