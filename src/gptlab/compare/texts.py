"""What is known of a recipe's text before a run: hashes and sizes, which take reading it."""

from dataclasses import dataclass
from functools import cache

from gptlab.config import Config
from gptlab.data.corpus import Corpus, check_lengths
from gptlab.data.sources import Data
from gptlab.runs.folder import RunFolder
from gptlab.tokenizer import Encoder, Tokenizer
from gptlab.train.recipe import Recipe


@dataclass(frozen=True)
class Facts:
    """Of a text and the tokenizer that reads it. `val_tokens`: how many are predicted."""

    data_sha256: str
    tokenizer_sha256: str
    val_tokens: int
    val_bytes: int
    text_bytes: int


def opened(recipe: Recipe) -> tuple[Recipe, Facts]:
    """Fill in all that the text decides, as a run does. Raises ValueError for what cannot work."""
    recipe = recipe.but(tokenizer=recipe.data.tokenizer(recipe.tokenizer))
    recipe.check()
    encoder, corpus = _read(_What(data=recipe.data, tokenizer=recipe.tokenizer).to_yaml())
    check_lengths(corpus, recipe.data, recipe.model.context_length)
    _texts[corpus.fingerprint, encoder.fingerprint()] = corpus
    facts = Facts(
        corpus.fingerprint,
        encoder.fingerprint(),
        len(corpus.val) - 1,
        corpus.val_bytes,
        corpus.n_bytes,
    )
    return recipe.with_vocab_size(encoder.vocab_size), facts


def text_of(run: RunFolder) -> Corpus:
    """Give the text that a run was made with, by its hashes, wherever it lies now.

    Raises ValueError if it is none that was opened.
    """
    known = run.environment()
    text = _texts.get((known["data_sha256"], known["tokenizer_sha256"]))
    if text is None:
        raise ValueError(f"the text of {run.path} is not the one that this study reads")
    return text


_texts: dict[tuple[str, str], Corpus] = {}  # by the hashes of text and tokenizer


class _What(Config):
    data: Data
    tokenizer: Tokenizer


@cache
def _read(what_yaml: str) -> tuple[Encoder, Corpus]:
    what = _What.from_yaml(what_yaml)
    return what.data.prepare(what.tokenizer)
