"""Generation, token by token.

A model sees at most `context_length` tokens. When that many are read and more are wanted, the last
half is kept, read again from position 0 with fresh caches, and generation goes on: a token then
sees between half a context and a whole one, and re-reading costs one pass per half context.

N samples, T tokens read at once, V vocabulary.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT


def generate_tokens(
    model: GPT,
    prompt_ids: Sequence[int],
    n: int,
    max_tokens: int,
    sampler: Callable[[Tensor], Tensor],
    use_cache: bool = True,
) -> Generator[Tensor, None, None]:
    """Continue the prompt n times; yield ids_N, the next token of every sample, on the CPU.

    sampler: maps logits_NV to ids_N.
    use_cache: False computes every token from the whole visible text, the slow reference.
    Raises ValueError for a prompt longer than the context, or settings that are too small.
    """
    if n < 1:
        raise ValueError(f"--samples={n} must be at least 1")
    if max_tokens < 0:
        raise ValueError(f"--max-tokens={max_tokens} must be 0 or more")
    if len(prompt_ids) > model.context_length:
        raise ValueError(
            f"the prompt has {len(prompt_ids)} tokens, more than model.context_length="
            f"{model.context_length}: shorten it"
        )
    assert len(prompt_ids), "an empty prompt has nothing to continue"
    prompt_NT = torch.tensor([list(prompt_ids)] * n, device=model.embedding.weight.device)
    reader = Reader(model, prompt_NT, max_tokens, use_cache)
    return _generate(model, reader, max_tokens, sampler)


def _generate(
    model: GPT, reader: "Reader", max_tokens: int, sampler: Callable[[Tensor], Tensor]
) -> Generator[Tensor, None, None]:
    with evaluation_mode(model):
        for i in range(max_tokens):
            with torch.inference_mode():  # not around the yield: the caller has a mode of its own
                ids_N = sampler(reader.next_logits())
                if i + 1 < max_tokens:
                    reader.append(ids_N)
            yield ids_N


class Reader:
    """The visible text of every sample, and how far the model has read it."""

    def __init__(self, model: GPT, prompt_NT: Tensor, max_tokens: int, use_cache: bool):
        self.model, self.use_cache = model, use_cache
        n, self.length = prompt_NT.shape
        self.capacity = min(model.context_length, self.length + max_tokens)
        self.tokens = prompt_NT.new_empty(n, self.capacity)
        self.tokens[:, : self.length] = prompt_NT
        self.places = Places.counted(0, self.capacity, prompt_NT.device)
        self._start_over()

    def next_logits(self) -> Tensor:
        """Read what is new; compute logits_NV of the token that follows the visible text."""
        new = slice(self.n_read, self.length)
        x_NTD = self.model.read(self.tokens[:, new], self.places[new], self.caches)
        if self.use_cache:
            self.n_read = self.length
        return self.model.head(x_NTD[:, -1:], self.model.embedding.weight)[:, 0]

    def append(self, ids_N: Tensor) -> None:
        """Add a token to every sample, making room first where there is none."""
        if self.length == self.capacity:
            kept = max(1, self.capacity // 2) - 1  # with the new one, half of the context
            self.tokens[:, :kept] = self.tokens[:, self.length - kept :].clone()
            self.length = kept
            self._start_over()
        self.tokens[:, self.length] = ids_N
        self.length += 1

    def _start_over(self) -> None:
        self.n_read = 0
        self.caches = self.model.new_caches(self.capacity) if self.use_cache else None


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and back on afterwards if it was on."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
