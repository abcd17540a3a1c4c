"""A session: all that a run works on, assembled from a recipe or from a run folder."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlab import machine
from gptlab.config import differences
from gptlab.data.batches import Batches
from gptlab.data.corpus import Corpus, check_lengths, prepare, tokenize
from gptlab.generate import LanguageModel, load
from gptlab.model.accounting import check_fits
from gptlab.model.gpt import GPT
from gptlab.model.weights import fit_weights
from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder, check_free
from gptlab.streams import stream_seed
from gptlab.tokenizer import Encoder
from gptlab.train.environment import describe_environment
from gptlab.train.optimizers import OptimizerSet
from gptlab.train.precision import choose_precision
from gptlab.train.recipe import Recipe

Say = Callable[[str], None]

FREE_ON_RESUME = (  # what may differ between a run and its continuation: no weight depends on it
    "train.steps",
    "train.tokens",
    "train.max_seconds",
    "train.evaluate_every",
    "train.checkpoint_every",
    "train.log_every",
    "train.keep_last",
    "train.sample_tokens",
    "train.tensorboard",
    "train.wandb",
    "data.path",  # the text may have moved; its hash must not have changed
)


@dataclass
class Session:
    """The state of a run: `step` steps are done; `loss` and `grad_norm` are those of the last."""

    recipe: Recipe
    run: RunFolder
    model: GPT
    encoder: Encoder
    corpus: Corpus
    batches: Batches
    optimizers: OptimizerSet
    precision: str
    step: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    grad_norm: float = math.nan
    saved_step: int | None = None
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps = self.recipe.total_steps()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.embedding.weight.device

    @property
    def tokens(self) -> int:
        """How many tokens the run has been trained on."""
        return self.step * self.recipe.train.batch_tokens

    def is_over(self) -> bool:
        """Tell whether the run has reached one of its named stops."""
        limit = self.recipe.train.max_seconds
        return self.step >= self.steps or (limit is not None and self.seconds >= limit)

    def why_over(self) -> str:
        """Name the stop that was reached."""
        return "done" if self.step >= self.steps else "max_seconds"

    def multiplier(self, step: int) -> float:
        """Give the fraction of the peak learning rate at a step, counted from 0."""
        return self.recipe.schedule.multiplier(step, self.steps)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.recipe.optimizer.lr * self.multiplier(self.step - 1)

    def micro_batches(self) -> list[tuple[Tensor, Tensor]]:
        """Give the coming step's inputs and targets, in portions."""
        x_BT, y_BT = (torch.from_numpy(each).to(self.device) for each in self.batches.at(self.step))
        rows = self.recipe.micro_batch_size()
        return list(zip(x_BT.split(rows), y_BT.split(rows), strict=True))

    def save(self) -> None:
        """Write a checkpoint of this step, unless it is there."""
        if self.saved_step == self.step:
            return
        tensors = {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizers.state(),
            "random": random_state(self.device),
        }
        state = {"step": self.step, "seconds": self.seconds, "loss": self.loss}
        state["grad_norm"] = self.grad_norm
        checkpoint.save(self.run.checkpoints, self.step, tensors, state)
        self.saved_step = self.step

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Continue from a checkpoint, exactly."""
        fit_weights(self.model, saved.tensors["model"], str(saved.path))
        self.optimizers.load_state(saved.tensors["optimizer"])
        restore_random_state(saved.tensors["random"])
        self.step = self.saved_step = saved.step
        self.seconds, self.loss = saved.state["seconds"], saved.state["loss"]
        self.grad_norm = saved.state["grad_norm"]

    def prune(self) -> None:
        """Remove old checkpoints; the last few and the best stay."""
        scored = [line for line in self.run.metrics()[0] if line.get("val_loss") is not None]
        best = min(scored, key=lambda line: line["val_loss"])["step"] if scored else None
        checkpoint.prune(self.run.checkpoints, self.recipe.train.keep_last, best)

    def sample(self) -> str:
        """Let the model write; the same text for the same step of the same run."""
        seed = stream_seed(self.recipe.seed, "sampling", self.step)
        length = self.recipe.train.sample_tokens
        model = LanguageModel(self.model, self.encoder, self.recipe.model_dump(mode="json"))
        text = model.generate("", max_tokens=length, temperature=0.8, top_k=50, seed=seed)
        assert isinstance(text, str)
        return text

    def write_sample(self) -> None:
        """Append what the model writes now to samples.txt."""
        if self.recipe.train.sample_tokens:
            self.run.append_sample(f"--- step {self.step}\n{self.sample()}\n\n")


def begin(recipe: Recipe, root: Path, say: Say, origin: str) -> Session:
    """Assemble a new run: read the text, train the tokenizer, build the model, make the folder."""
    recipe.check()  # what cannot work is said before any work
    check_free(root, recipe.name)
    check_fits(recipe.resolved().model, machine.total_memory())
    source = recipe.train.init_from
    device = torch.device(machine.choose_device(recipe.train.device, "train.device"))
    precision = choose_precision(recipe.train.precision, device, say)
    say("reading the text")
    if source is None:
        encoder, corpus = prepare(recipe.data, recipe.tokenizer)
    else:
        encoder = load(source, device="cpu").tokenizer
        corpus = tokenize(recipe.data.documents(), encoder, recipe.data.val_fraction)
    recipe = recipe.with_vocab_size(encoder.vocab_size)
    model, batches = initial_model(recipe, device), _batches(recipe, corpus)
    facts = {"recipe": origin, "parameters": sum(p.numel() for p in model.parameters())}
    facts |= describe_environment(corpus, encoder, device, precision)

    def fill(run: RunFolder) -> None:
        encoder.save(run.tokenizer)
        run.write_environment(facts)

    run = RunFolder.create(root, recipe.name, recipe.to_yaml(), fill)
    return _assemble(recipe, run, model, encoder, corpus, batches, precision)


def reopen(run: RunFolder, assignments: Sequence[str], say: Say) -> Session:
    """Assemble a run again, at its last good checkpoint, or at its start if it has none."""
    written = Recipe.parse(run.config_tree())
    recipe = written.override(assignments)
    refused = [d for d in differences(written, recipe) if d[0] not in FREE_ON_RESUME]
    if refused:
        path, before, after = refused[0]
        raise ValueError(
            f"{path}={after} cannot be changed on resuming {run.path} (it is {before}); start a "
            f"new run with train.init_from={run.path} instead"
        )
    device = torch.device(machine.choose_device(recipe.train.device, "train.device"))
    precision = choose_precision(recipe.train.precision, device, say)
    say("reading the text")
    encoder = recipe.tokenizer.load(run.tokenizer)
    corpus = tokenize(recipe.data.documents(), encoder, recipe.data.val_fraction)
    now = describe_environment(corpus, encoder, device, precision)
    _compare_environments(run.environment(), now, run, say)
    model, batches = initial_model(recipe, device), _batches(recipe, corpus)
    session = _assemble(recipe, run, model, encoder, corpus, batches, precision)
    newest = checkpoint.newest(run.checkpoints, say)
    if newest is None:
        say(f"{run.path} has no checkpoint yet: starting from its first step")
    else:
        session.restore(checkpoint.load(newest))
    dropped = run.truncate_metrics(session.step)
    if dropped:
        say(f"dropped {dropped} damaged lines of {run.path / 'metrics.jsonl'}")
    if recipe != written:
        run.write_config(recipe.to_yaml())
    return session


def initial_model(recipe: Recipe, device: torch.device) -> GPT:
    """Build the model with the weights that its training starts from."""
    model = recipe.build()
    source = recipe.train.init_from
    if source is not None:
        fit_weights(
            model, load(source, device="cpu").model.state_dict(), f"train.init_from={source}"
        )
    return model.to(device)


def _assemble(
    recipe: Recipe,
    run: RunFolder,
    model: GPT,
    encoder: Encoder,
    corpus: Corpus,
    batches: Batches,
    precision: str,
) -> Session:
    optimizers = recipe.optimizer.build(model)
    torch.manual_seed(stream_seed(recipe.seed, "dropout"))  # from here on, dropout alone draws
    return Session(recipe, run, model, encoder, corpus, batches, optimizers, precision)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Capture torch's generators; they serve dropout alone."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Tensor]) -> None:
    """Restore what `random_state` captured, as far as this machine has the devices."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _batches(recipe: Recipe, corpus: Corpus) -> Batches:
    check_lengths(corpus, recipe.data, recipe.model.context_length)
    return Batches(corpus.train, recipe.model.context_length, recipe.batch_size(), recipe.seed)


def _compare_environments(
    then: dict[str, Any], now: dict[str, Any], run: RunFolder, say: Say
) -> None:
    for key, what in (("data_sha256", "text"), ("tokenizer_sha256", "tokenizer")):
        if then.get(key) != now[key]:
            raise ValueError(
                f"the {what} of {run.path} has changed since it was started ({key} was "
                f"{str(then.get(key))[:12]}, is {now[key][:12]}); restore it, or give its place "
                "with data.path=..."
            )
    for key in ("gptlab", "device", "precision"):
        if then.get(key) != now[key]:
            say(
                f"resuming with {key} {now[key]}, was {then.get(key)}: not bit for bit the same run"
            )
