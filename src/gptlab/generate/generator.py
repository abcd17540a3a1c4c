"""Generation, token by token.

A model sees at most `context_length` tokens. When that many are read and more are wanted, the last
half is kept, read again from position 0 with fresh caches, and generation goes on: a token then
sees between half a context and a whole one, and re-reading costs one pass per half context. Texts
of different lengths stand behind fillers, and each gives what it gives alone; when one of them is
out of room, all are read again.

N texts, T tokens read at once, V vocabulary.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT


def generate_tokens(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    sampler: Callable[[Tensor], Tensor],
    use_cache: bool = True,
) -> Generator[Tensor, None, None]:
    """Continue every prompt; yield ids_N, the next token of each text, on the CPU.

    sampler: maps logits_NV to ids_N.
    use_cache: False computes every token from the whole visible text, the slow reference.
    Raises ValueError for a prompt longer than the context, or a negative `max_tokens`.
    """
    if max_tokens < 0:
        raise ValueError(f"--max-tokens={max_tokens} must be 0 or more")
    longest = max(len(prompt) for prompt in prompts)
    if longest > model.context_length:
        raise ValueError(
            f"the prompt has {longest} tokens, more than model.context_length="
            f"{model.context_length}: shorten it"
        )
    assert all(prompts), "an empty prompt has nothing to continue"
    reader = Reader(model, prompts, max_tokens, use_cache)
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
    """The visible tokens of every text, and how far the model has read them."""

    def __init__(
        self, model: GPT, prompts: Sequence[Sequence[int]], max_tokens: int, use_cache: bool
    ):
        self.model, self.use_cache = model, use_cache
        longest = max(len(prompt) for prompt in prompts)
        self.capacity = min(model.context_length, longest + max_tokens)
        device = model.embedding.weight.device
        self._lay_out([torch.tensor(prompt, device=device) for prompt in prompts])

    def next_logits(self) -> Tensor:
        """Read what is new; compute logits_NV of the token that follows each visible text."""
        new = slice(self.n_read, self.length)
        x_NTD = self.model.read(self.tokens_NT[:, new], self.places[new], self.caches)
        if self.use_cache:
            self.n_read = self.length
        return self.model.head(x_NTD[:, -1:], self.model.embedding.weight)[:, 0]

    def append(self, ids_N: Tensor) -> None:
        """Add a token to every text, making room first where there is none."""
        if self.length == self.capacity:
            rows = zip(self.tokens_NT, self.fillers, strict=True)
            self._lay_out([self._with_room(row_T[n : self.length]) for row_T, n in rows])
        self.tokens_NT[:, self.length] = ids_N
        self.length += 1

    def _with_room(self, text_T: Tensor) -> Tensor:
        """Shorten a text that is as long as the context."""
        if len(text_T) < self.capacity:
            return text_T
        kept = max(1, self.capacity // 2) - 1  # with a new one, half of the context
        return text_T[len(text_T) - kept :]

    def _lay_out(self, texts: list[Tensor]) -> None:
        """Begin anew with these texts, which all end at the same place."""
        self.n_read, self.length = 0, max(len(text_T) for text_T in texts)
        self.fillers = [self.length - len(text_T) for text_T in texts]
        self.tokens_NT = texts[0].new_zeros(len(texts), self.capacity)
        for row_T, text_T, n in zip(self.tokens_NT, texts, self.fillers, strict=True):
            row_T[n : self.length] = text_T
        self.places = _places(self.tokens_NT, self.fillers)
        self.caches = self.model.new_caches(self.capacity) if self.use_cache else None


def _places(tokens_NT: Tensor, fillers: list[int]) -> Places:
    """Number the tokens of every text from 0; fillers are a document of their own."""
    T, device = tokens_NT.shape[1], tokens_NT.device
    if not any(fillers):
        return Places.counted(0, T, device)
    index_T, fillers_N = torch.arange(T, device=device), torch.tensor(fillers, device=device)
    return Places.packed(-(index_T < fillers_N[:, None]).long())  # fillers: -1, as in batching


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and back on afterwards if it was on."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
