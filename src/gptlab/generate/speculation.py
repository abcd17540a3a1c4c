"""Speculation: guess the next tokens from the text itself, and check all guesses in one pass.

What followed the last few tokens when they stood in the text before is guessed to follow them again
(prompt lookup; Leviathan et al., arXiv:2211.17192, check the guesses of a small model). A pass over
several tokens costs little more than over one, whose time goes into reading the weights. A guess
stands as far as it is what greedy choice gives, so the text is the same; only where two scores are
equal up to rounding may the order of summation decide otherwise. What caches hold of guesses that
failed is overwritten.

T tokens read at once, V vocabulary.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from gptlab.generate.generator import check_prompts, evaluation_mode
from gptlab.generate.reading import Reader
from gptlab.model.gpt import GPT

LENGTHS = (6, 4, 3)  # of what must recur, the longest first


def check_speculation(model: GPT, n_guesses: int, n_texts: int, temperature: float) -> None:
    """Raise ValueError where guesses cannot be checked, or taken back."""
    if temperature != 0 or n_texts != 1:
        raise ValueError(
            f"--speculate={n_guesses} is for one text at --temperature=0, not for {n_texts} at "
            f"{temperature}: what is guessed must be the likeliest token"
        )
    if n_guesses < 1:
        raise ValueError(f"--speculate={n_guesses} must be at least 1")
    for layer, cache in enumerate(model.new_caches(model.context_length)):
        if not getattr(cache, "can_go_back", cache is None):
            raise ValueError(
                f"--speculate={n_guesses} takes back guesses that fail, and layer {layer} forgets "
                "what it would go back to (a window, chunks or a state): leave it out"
            )


def speculate_tokens(
    model: GPT,
    prompt: Sequence[int],
    max_tokens: int,
    choose: Callable[[Tensor], Tensor],
    n_guesses: int,
) -> Generator[Tensor, Any, None]:
    """Continue one text as `generate_tokens` does; yield its next token, as ids_1.

    choose: maps logits_TV to ids_T, without chance.
    n_guesses: at most so many tokens are guessed at once.
    Raises ValueError as `generate_tokens` does.
    """
    check_prompts(model, [prompt], max_tokens)
    return _speculate(model, prompt, max_tokens, choose, n_guesses)


def _speculate(
    model: GPT,
    prompt: Sequence[int],
    max_tokens: int,
    choose: Callable[[Tensor], Tensor],
    n_guesses: int,
) -> Generator[Tensor, Any, None]:
    reader, text = Reader(model, [prompt], max_tokens, use_cache=True), Lookup()
    for token in prompt:
        text.add(token)
    n_left = max_tokens
    with evaluation_mode(model):
        while n_left:
            guessed = text.guess(min(n_guesses, n_left - 1, reader.n_free))
            with torch.inference_mode():
                ids_T = choose(reader.logits_of(guessed))
            n_right = count_equal(guessed, ids_T.tolist())
            for ids_1 in ids_T[: n_right + 1].split(1):
                text.add(int(ids_1))
                n_left -= 1
                if n_left:
                    with torch.inference_mode():
                        reader.append(ids_1)
                yield ids_1


def count_equal(guessed: Sequence[int], chosen: Sequence[int]) -> int:
    """Count how many guesses stand before the first that fails."""
    n = 0
    while n < len(guessed) and guessed[n] == chosen[n]:
        n += 1
    return n


class Lookup:
    """A text that knows what last followed each short run of its tokens."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.place_after: dict[tuple[int, ...], int] = {}

    def add(self, token: int) -> None:
        for n in LENGTHS:
            self.place_after[tuple(self.tokens[-n:])] = len(self.tokens)
        self.tokens.append(token)

    def guess(self, n: int) -> list[int]:
        """Guess at most n tokens; none where nothing recurs."""
        for length in LENGTHS:
            place = self.place_after.get(tuple(self.tokens[-length:]))
            if place is not None:
                return self.tokens[place : place + n]
        return []
