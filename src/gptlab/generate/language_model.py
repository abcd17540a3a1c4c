"""A model and its tokenizer, from text to text.

N samples, V vocabulary of the tokenizer (the model's may be larger: a padded one).
"""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from torch import Tensor

from gptlab.generate.generator import generate_tokens
from gptlab.generate.sampling import Sampler
from gptlab.generate.speculation import check_speculation, speculate_tokens
from gptlab.generate.text import TextStream
from gptlab.model.gpt import GPT
from gptlab.tokenizer import Encoder


class LanguageModel:
    """A trained model that continues text.

    config: the run's settings, the tree of its config.yaml.
    """

    def __init__(self, model: GPT, tokenizer: Encoder, config: dict[str, Any]):
        self.model, self.tokenizer, self.config = model, tokenizer, config

    def generate(
        self,
        prompt: str | Sequence[str] = "",
        max_tokens: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        n: int = 1,
        speculate: int | None = None,
    ) -> str | list[str]:
        """Continue the prompt; return the new text, or a list of n texts for n > 1.

        Several prompts, of any lengths, are continued side by side, and give a list with n texts of
        the first, then n of the second. A text ends after `max_tokens`, before a `stop` string, or
        at the end-of-text token. An empty prompt stands for the end-of-text token, if the tokenizer
        has one, else for a newline, if it knows that, else for its first token. What the tokenizer
        puts before every text comes first. For temperature, top_k, top_p, min_p and seed see
        `Sampler`; for texts longer than the context, `generator.py`. `speculate`: guess up to so
        many tokens at once, for a single text at temperature 0 (`speculation.py`).
        Raises ValueError for a setting out of range, a prompt longer than the context, a
        character that the tokenizer has never seen, and a model that cannot take guesses back.
        """
        sampler = Sampler(temperature, top_k, top_p, min_p, seed)
        if n < 1:
            raise ValueError(f"--samples={n} must be at least 1")
        prompts = [prompt] if isinstance(prompt, str) else prompt
        rows = [each for each in prompts for _ in range(n)]
        pieces = list(self._pieces(rows, max_tokens, sampler, stop, speculate)) if rows else []
        texts = ["".join(pieces_of_one) for pieces_of_one in zip(*pieces, strict=True)]
        return texts[0] if isinstance(prompt, str) and n == 1 else texts

    def stream(
        self,
        prompt: str = "",
        max_tokens: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        speculate: int | None = None,
    ) -> Iterator[str]:
        """Continue the prompt as `generate` does; yield the text as it comes, in whole characters.

        Settings are checked at the call, not at the first piece.
        """
        sampler = Sampler(temperature, top_k, top_p, min_p, seed)
        pieces = self._pieces([prompt], max_tokens, sampler, stop, speculate)
        return (piece for (piece,) in pieces if piece)

    def _pieces(
        self,
        prompts: list[str],
        max_tokens: int,
        sampler: Sampler,
        stop: str | Sequence[str],
        speculate: int | None,
    ) -> Iterator[list[str]]:
        """Check the settings; iterate over what each token adds to the text of each prompt."""
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        if "" in stops:
            raise ValueError("--stop='' is empty: it would stop before the first character")
        V = self.tokenizer.vocab_size

        def sample(logits_NV: Tensor) -> Tensor:
            return sampler(logits_NV[:, :V])

        ids = [self._prompt_ids(prompt) for prompt in prompts]
        if speculate is None:
            tokens = generate_tokens(self.model, ids, max_tokens, sample)
        else:
            check_speculation(self.model, speculate, len(ids), sampler.temperature)
            tokens = speculate_tokens(self.model, ids[0], max_tokens, sample, speculate)
        return _assemble(tokens, [TextStream(self.tokenizer, stops) for _ in prompts])

    def _prompt_ids(self, prompt: str) -> list[int]:
        ids = self.tokenizer.encode(prompt).tolist()
        if self.tokenizer.start_of_text is not None:
            return [self.tokenizer.start_of_text, *ids]
        if ids:
            return ids
        if self.tokenizer.end_of_text is not None:
            return [self.tokenizer.end_of_text]
        try:
            return self.tokenizer.encode("\n").tolist()
        except ValueError:
            return [0]


def _assemble(
    tokens: Generator[Tensor, Sequence[bool] | None, None], texts: list[TextStream]
) -> Iterator[list[str]]:
    ids_N = next(tokens, None)
    while ids_N is not None:
        yield [text.push(token) for text, token in zip(texts, ids_N.tolist(), strict=True)]
        done = [text.done for text in texts]
        if all(done):
            return tokens.close()
        try:
            ids_N = tokens.send(done)
        except StopIteration:
            break
    yield [text.close() for text in texts]
