"""The recipe: everything that determines a run, as one tree of settings."""

import math
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from gptlab.config import Config
from gptlab.data import Data
from gptlab.data.batching import Batching
from gptlab.data.batching.epoch import Epoch
from gptlab.model.gpt import GPT, Model
from gptlab.runs.folder import check_name
from gptlab.tokenizer import Tokenizer
from gptlab.train.optimizers import Optimizer
from gptlab.train.schedules import Schedule

LOGITS_AT_ONCE = 2**27  # half a gigabyte in float32


class Train(Config):
    """How long, in what portions, and what is reported.

    Length: the run ends at whichever comes first of `steps`, `tokens` and `max_seconds` (of
    training, evaluation not counted); the schedule is laid out over `steps` or `tokens`.
    Batches: a step takes `batch_tokens`, in portions of at most `micro_batch_tokens`, the gradients
    added up; null: what keeps the logits within half a gigabyte, and at most 16,384.
    `grad_clip`: the largest norm of the gradient, null or 0 for no limit.
    `precision`: `auto` takes bf16 where a probe finds it faster. `device`: auto, cpu, cuda, mps.
    `kernels`: on NVIDIA GPUs, `auto` takes FlexAttention and, if it is installed, the fused kernels
    of `liger-kernel`; `liger` insists on these; `torch` takes neither.
    `compile`: have blocks compiled; `auto` does on a GPU, if the run is long enough to repay it.
    `cuda_graphs`: record a step and play it, for models so small that a GPU waits for calls.
    Every so many steps: `evaluate_every` the whole validation set, `checkpoint_every` a checkpoint
    (null: at the end only), `log_every` a line of metrics.
    `keep_last`: how many checkpoints stay, beside the best.
    `sample_tokens`: the length of the sample written at each evaluation, `sample_prompt`: what it
    begins with; null: what suits the data, where there is such a thing.
    `init_from`: a run whose last weights and tokenizer this one starts from.
    `tensorboard`: write its events too, if it is installed. `wandb`: mirror to this project.
    """

    steps: PositiveInt | None = 1000
    tokens: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    batch_tokens: PositiveInt = 8192
    micro_batch_tokens: PositiveInt | None = None
    grad_clip: NonNegativeFloat | None = 1.0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    kernels: Literal["auto", "liger", "torch"] = "auto"
    cuda_graphs: bool = False
    compile: Literal["auto", "on", "off"] = "auto"
    evaluate_every: PositiveInt | None = 250
    checkpoint_every: PositiveInt | None = 250
    log_every: PositiveInt = 10
    keep_last: PositiveInt = 2
    sample_tokens: NonNegativeInt = 200
    sample_prompt: str | None = None
    init_from: str | None = None
    tensorboard: bool = True
    wandb: str | None = None


class Recipe(Config):
    """A complete run: `gptlab train` needs nothing else.

    `name` names the run folder. `seed` determines initial values, batches, dropout and samples.
    """

    name: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    model: Model
    tokenizer: Tokenizer
    data: Data
    batching: Batching = Epoch()
    optimizer: Optimizer
    schedule: Schedule
    train: Train = Train()

    @field_validator("name")
    @classmethod
    def _is_a_plain_name(cls, name: str) -> str:
        check_name(name)
        return name

    def resolved(self) -> Self:
        """Fill in a vocabulary size that the tokenizer decides, as far as it is known by now."""
        if self.model.vocab_size is not None:
            return self
        return self.with_vocab_size(self.data.expected_vocab_size(self.tokenizer))

    def with_vocab_size(self, n_tokens: int) -> Self:
        """Fill in the vocabulary size, or check that the tokenizer's fits the given one."""
        vocab_size = self.model.vocab_size or self.tokenizer.padded(n_tokens)
        if vocab_size < n_tokens:
            raise ValueError(
                f"model.vocab_size={vocab_size} is less than the tokenizer's {n_tokens} tokens; "
                f"use model.vocab_size={n_tokens} or model.vocab_size=null"
            )
        return self.but(model=self.model.but(vocab_size=vocab_size))

    def build(self) -> GPT:
        """Build the model, with the initial values that belong to the seed."""
        return self.resolved().model.build(self.seed)

    def check(self) -> None:
        """Raise ValueError for settings that do not fit together."""
        self.total_steps()
        self.micro_batch_size()

    def batch_size(self) -> int:
        """How many rows of `context_length` tokens a step takes."""
        T, tokens = self.model.context_length, self.train.batch_tokens
        if tokens % T:
            fits = [n for n in (tokens // T * T, -(-tokens // T) * T) if n]
            raise ValueError(
                f"train.batch_tokens={tokens} is not a multiple of model.context_length={T}; "
                f"use {' or '.join(map(str, fits))}"
            )
        return tokens // T

    def micro_batch_size(self) -> int:
        """How many rows are computed at once: the largest divisor of the batch that is allowed."""
        T = self.model.context_length
        limit = self.train.micro_batch_tokens
        if limit is not None and limit < T:
            raise ValueError(
                f"train.micro_batch_tokens={limit} is less than model.context_length={T}"
            )
        rows = self.batch_size()
        if limit is None:
            limit = min(16_384, LOGITS_AT_ONCE // (self.resolved().model.vocab_size or 1))
        most = max(1, limit // T)
        return next(n for n in range(min(rows, most), 0, -1) if rows % n == 0)

    def total_steps(self) -> int:
        """The steps that the schedule is laid out over."""
        tokens = self.train.tokens
        limits = [self.train.steps, tokens and math.ceil(tokens / self.train.batch_tokens)]
        known = [limit for limit in limits if limit]
        if not known:
            raise ValueError(
                "train.steps and train.tokens are both null: the schedule needs one of them"
            )
        return min(known)
