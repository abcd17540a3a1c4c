import pytest
import torch

from gptlab.generate import reading, recording
from gptlab.generate.generator import generate_tokens
from gptlab.generate.sampling import Sampler

T = 16  # the tiny model's context
PROMPT = [72, 101, 108, 108, 111]
WINDOW = {"type": "grouped_query", "n_heads": 4, "n_kv_heads": 2, "window": 3}
FULL = {"type": "grouped_query", "n_heads": 4}
ARCHITECTURES = {
    "gpt2": {"positions": "learned", "norm": "layer_norm", "head": "tied"},
    "sinusoidal": {"positions": "sinusoidal"},
    "rotary": {"positions": "rotary"},
    "alibi": {"positions": "alibi"},
    "no positions": {"positions": "none"},
    "multi-query": {"attention": FULL | {"n_kv_heads": 1}},
    "window": {"attention": WINDOW},
    "window, alibi": {"attention": WINDOW, "positions": "alibi"},
    "window beyond the context": {"attention": WINDOW | {"window": 99}},
    "window of one": {"attention": WINDOW | {"window": 1}, "positions": "learned"},
    "alternating": {"attention": {"type": "alternating", "of": [WINDOW, FULL]}},
    "chunks": {"attention": FULL | {"chunk": 5}},
    "latent": {"attention": {"type": "latent", "n_heads": 4, "window": 7}},
    "shared": {"attention": {"type": "alternating", "of": [WINDOW, WINDOW | {"share_kv": True}]}},
    "post-norm": {"residual": "post_norm", "mlp": "swiglu"},
    "context of one": {"context_length": 1},
    "odd context": {"context_length": 7},
}


def tokens(model, prompts, max_tokens, sampler=None, use_cache=True):
    steps = generate_tokens(model, prompts, max_tokens, sampler or Sampler(0), use_cache)
    return torch.stack(list(steps), dim=1).tolist()


@torch.no_grad()
def written_out(model, prompt, max_tokens):
    """The declared policy in its plainest form, greedily."""
    visible, new = list(prompt), []
    for _ in range(max_tokens):
        new.append(int(model(torch.tensor([visible]))[0, -1].argmax()))
        if len(visible) == model.context_length:
            visible = [*visible, new[-1]][-max(1, model.context_length // 2) :]
        else:
            visible.append(new[-1])
    return new


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("prompt_length", [1, T // 2 + 2, T - 1, T])
def test_the_cache_changes_nothing(build, name, prompt_length):
    model = build(**ARCHITECTURES[name])
    prompt = [(7 * i) % 256 for i in range(min(prompt_length, model.context_length))]
    expected = written_out(model, prompt, 3 * T)
    assert len(set(expected)) > 5 or model.context_length == 1  # a loop of a few would hide much
    assert tokens(model, [prompt], 3 * T) == [expected]
    assert tokens(model, [prompt], 3 * T, use_cache=False) == [expected]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("lengths", [[3, 1, 9], [T, 2, T - 1, 7], [5, T, T, 1]])
def test_prompts_of_any_lengths_give_what_each_gives_alone(build, name, lengths):
    model = build(**ARCHITECTURES[name])
    lengths = [min(length, model.context_length) for length in lengths]
    prompts = [[(7 * i + length) % 256 for i in range(length)] for length in lengths]
    expected = [written_out(model, prompt, 3 * T) for prompt in prompts]
    assert tokens(model, prompts, 3 * T) == expected
    assert tokens(model, prompts, 3 * T, use_cache=False) == expected


@pytest.mark.parametrize("name", ["gpt2", "alternating"])
def test_samples_are_the_same_without_the_cache(build, name):
    model = build(**ARCHITECTURES[name])
    with_cache = tokens(model, [PROMPT] * 3, 3 * T, sampler=Sampler(seed=4))
    without = tokens(model, [PROMPT] * 3, 3 * T, sampler=Sampler(seed=4), use_cache=False)
    assert with_cache == without
    assert with_cache[0] != with_cache[1] != with_cache[2]


@pytest.mark.parametrize("max_tokens", range(5))
def test_gives_as_many_tokens_as_asked(build, max_tokens):
    steps = list(generate_tokens(build(), [PROMPT] * 2, max_tokens, Sampler(0)))
    assert [step.shape for step in steps] == [(2,)] * max_tokens


def test_the_cache_reads_every_token_once_and_the_head_the_last_only(build, monkeypatch):
    monkeypatch.setattr(reading, "WORTH_RECORDING", 999)
    model = build()
    read, scored = [], []
    model.embedding.register_forward_hook(lambda _, args, __: read.append(args[0].shape))
    model.head.register_forward_hook(lambda _, args, __: scored.append(args[0].shape))
    tokens(model, [PROMPT] * 2, T)
    # 5 + 11 tokens fill the context of 16; then half a context, 8 with the new one, is read again
    assert read == [(2, 5), *[(2, 1)] * 11, (2, 8), *[(2, 1)] * 3]
    assert scored == [(2, 1, 32)] * T


def test_caches_are_no_larger_than_the_text(build, monkeypatch):
    model = build()
    capacities = []
    monkeypatch.setattr(model, "new_caches", lambda size: capacities.append(size))
    next(generate_tokens(model, [PROMPT, PROMPT[1:]], 3, Sampler(0)))
    assert set(capacities) == {8}


def test_dropout_is_off_and_comes_back(build):
    model, quiet = build(dropout=0.5).train(), build()
    steps = generate_tokens(model, [PROMPT], 20, Sampler(0))
    first = next(steps)
    assert not model.training
    assert [first, *steps] == [*generate_tokens(quiet, [PROMPT], 20, Sampler(0))]
    assert model.training
    assert all(block.training for block in model.blocks)
    assert not quiet.training


def test_whoever_ends_first_leaves_dropout_off_for_the_other(build):
    model, quiet = build(dropout=0.5).train(), build()
    one, other = (generate_tokens(model, [PROMPT], 20, Sampler(0)) for _ in range(2))
    written = [next(other)]
    next(one)
    one.close()
    assert not model.training
    assert [*written, *other] == [*generate_tokens(quiet, [PROMPT], 20, Sampler(0))]
    assert model.training
    assert list(generate_tokens(model.eval(), [PROMPT], 1, Sampler(0)))
    assert not model.training, "what it was in an earlier use is forgotten"


def test_a_text_that_rests_leaves_training_to_who_goes_on_with_it(build):
    model = build(dropout=0.5).train()
    resting = generate_tokens(model, [PROMPT], 20, Sampler(0))
    next(resting)
    model.train()
    assert list(generate_tokens(model, [PROMPT], 3, Sampler(0)))
    assert model.training
    resting.close()
    assert model.training


def test_a_consumer_that_stops_early_leaves_the_model_as_it_was(build):
    model = build().train()
    steps = generate_tokens(model, [PROMPT], 20, Sampler(0))
    next(steps)
    assert not torch.is_inference_mode_enabled()
    steps.close()
    assert model.training


@pytest.mark.parametrize("length", [T + 1, 10 * T])
def test_a_prompt_longer_than_the_context_is_refused(build, length):
    message = f"the prompt has {length} tokens, more than model.context_length=16: shorten it"
    with pytest.raises(ValueError, match=message):
        generate_tokens(build(), [PROMPT, [1] * length], 5, Sampler(0))


def test_a_setting_out_of_range_is_named_at_once(build):
    with pytest.raises(ValueError, match="--max-tokens=-1 must be 0 or more"):
        generate_tokens(build(), [PROMPT], -1, Sampler(0))


@pytest.mark.parametrize("name", ["gpt2", "window", "latent", "shared"])
@pytest.mark.parametrize("record", [True, False])
def test_texts_that_are_done_leave_and_change_nothing_for_the_rest(
    build, monkeypatch, name, record
):
    """They leave one after the other, while others begin anew and caches grow."""
    monkeypatch.setattr(reading, "WORTH_RECORDING", 0 if record else 999)
    monkeypatch.setattr(reading, "SMALLEST_BLOCK", 4)
    monkeypatch.setattr(reading, "BLOCK", 4)
    model = build(**ARCHITECTURES[name])
    prompts = [[(7 * i + n) % 256 for i in range(n)] for n in (3, 1, 9, 5, 7)]
    ends = [40, 4, 25, 11, 60]
    expected = [written_out(model, prompt, 60) for prompt in prompts]
    steps, written = generate_tokens(model, prompts, 60, Sampler(0)), []
    n_read = []
    monkeypatch.setattr(model.head, "forward", spy(n_read, model.head.forward))
    ids_N = next(steps)
    while len(written) < 59:
        written.append(ids_N.tolist())
        ids_N = steps.send([len(written) >= end for end in ends])
    for row, end in enumerate(ends):
        assert [ids[row] for ids in written[:end]] == expected[row][:end][:59]
    if not record:
        assert n_read[0] == n_read[-1] == 1
        assert {5, 3, 2} <= set(n_read)


def spy(n_rows, forward):
    def spied(x, embedding):
        n_rows.append(len(x))
        return forward(x, embedding)

    return spied


@pytest.mark.parametrize(("many", "expected"), [(10**8, {"token", "text of 8"}), (0, {"token"})])
def test_reading_half_a_context_again_is_recorded_where_it_is_small(
    build, monkeypatch, many, expected
):
    """All that a recorded reading computes stays in memory."""
    monkeypatch.setattr(reading, "MANY", many)
    model = build()
    reader = reading.Reader(model, [PROMPT], 20 * T, use_cache=True)
    written = []
    with torch.inference_mode():
        for _ in range(5 * T):
            ids_N = reader.next_logits().argmax(-1)
            written.append(int(ids_N))
            reader.append(ids_N)
    assert set(reader.recorded) == expected
    assert written == written_out(model, PROMPT, 5 * T)


@pytest.mark.parametrize("record", [True, False])
def test_under_autocast_it_computes_in_bfloat16(build, monkeypatch, record):
    monkeypatch.setattr(reading, "WORTH_RECORDING", 0 if record else 999)
    model, seen = build(**ARCHITECTURES["gpt2"]), []

    def sampler(logits_NV):
        seen.append(logits_NV.clone())
        return logits_NV.argmax(-1)

    with torch.autocast("cpu", torch.bfloat16):
        expected = written_out(model, PROMPT, 3 * T)
        assert tokens(model, [PROMPT], 3 * T, sampler) == [expected]
        tokens(model, [PROMPT], 1, sampler)
    tokens(model, [PROMPT], 1, sampler)
    assert seen[0].equal(seen[-2])
    assert not seen[0].equal(seen[-1])


@pytest.mark.parametrize("name", ["gpt2", "window", "latent", "recurrent"])
@pytest.mark.parametrize("most", [0, 2_000, 10_000])
def test_a_step_that_takes_too_much_memory_is_not_recorded(build, monkeypatch, name, most):
    """It is refused when some layers have remembered their token, and then taken again."""
    monkeypatch.setattr(recording, "MOST_BYTES", most)
    recurrent = {"attention": {"type": "gated_delta", "n_heads": 2}, "positions": "none"}
    model = build(**(ARCHITECTURES | {"recurrent": recurrent})[name])
    reader = reading.Reader(model, [PROMPT], 60, use_cache=True)
    written = []
    with torch.inference_mode():
        for _ in range(3 * T):
            ids_N = reader.next_logits().argmax(-1)
            written.append(int(ids_N))
            reader.append(ids_N)
    assert not reader.is_repeatable
    assert reader.recorded == {}
    assert written == written_out(model, PROMPT, 3 * T)
