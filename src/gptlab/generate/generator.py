"""Generation, token by token.

A model sees at most `context_length` tokens. When that many are read and more are wanted, the last
half is kept, read again from position 0 with fresh caches, and generation goes on: a token then
sees between half a context and a whole one, and re-reading costs one pass per half context. Each
text has positions of its own, so texts of any lengths stand side by side, each gives what it gives
alone, and one that is out of room is read again by itself.

N texts, T tokens read at once, V vocabulary.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gptlab.generate.reading import Reader
from gptlab.model.gpt import GPT

FEWER = 0.75  # of the rows still wanted: leaving the others out pays


def generate_tokens(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    sampler: Callable[[Tensor], Tensor],
    use_cache: bool = True,
) -> Generator[Tensor, Sequence[bool] | None, None]:
    """Continue every prompt; yield ids_N, the next token of each text.

    What is sent back, if anything is, says of each text whether it is done: no more is computed for
    such, and its tokens mean nothing.
    sampler: maps logits_NV to ids_N, of all texts; their memory is overwritten by the next ones.
    use_cache: False computes every token from the whole visible text, the slow reference.
    Raises ValueError for a prompt longer than the context, or a negative `max_tokens`.
    """
    check_prompts(model, prompts, max_tokens)
    return _generate(model, prompts, max_tokens, sampler, use_cache)


def check_prompts(model: GPT, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
    """Raise ValueError for a prompt longer than the context, or a negative `max_tokens`."""
    if max_tokens < 0:
        raise ValueError(f"--max-tokens={max_tokens} must be 0 or more")
    longest = max(len(prompt) for prompt in prompts)
    if longest > model.context_length:
        raise ValueError(
            f"the prompt has {longest} tokens, more than model.context_length="
            f"{model.context_length}: shorten it"
        )
    assert all(prompts), "an empty prompt has nothing to continue"


def _generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    sampler: Callable[[Tensor], Tensor],
    use_cache: bool,
) -> Generator[Tensor, Sequence[bool] | None, None]:
    reader = Reader(model, prompts, max_tokens, use_cache)
    with evaluation_mode(model):
        for i in range(max_tokens):
            with torch.inference_mode():  # not around the yield: the caller has a mode of its own
                ids_N = sampler(reader.next_logits())
                if i + 1 < max_tokens:
                    reader.append(ids_N)
            done = yield ids_N
            if done is not None:
                wanted = [row for row in reader.rows if not done[row]]
                if wanted and len(wanted) <= FEWER * len(reader.rows):
                    with torch.inference_mode():
                        reader.keep(wanted)


@dataclass
class _Use:
    """How many want a model's dropout off, and whether it was on before."""

    n: int = 0
    was_training: bool = False


_uses: WeakKeyDictionary[nn.Module, _Use] = WeakKeyDictionary()
_lock = RLock()  # a generator may be closed by a garbage collection in here


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off; the last of those who want it off switches it back on if it was on."""
    with _lock:
        use = _uses.setdefault(model, _Use())
        is_trained_meanwhile = model.training and use.n > 0  # while another rests between tokens
        use.was_training = model.training or (use.n > 0 and use.was_training)
        use.n += 1
        model.eval()
    try:
        yield
    finally:
        with _lock:
            use.n -= 1
            if use.n == 0 or is_trained_meanwhile:
                model.train(use.was_training)
