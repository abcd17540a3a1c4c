"""A session: all that a run works on. `opening.py` assembles one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gptlab.data.batches import Batches
from gptlab.data.batching import IGNORED, Batch
from gptlab.data.corpus import Corpus
from gptlab.generate import LanguageModel
from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT
from gptlab.model.weights import fit_weights
from gptlab.parts.layers import AfterStep
from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder
from gptlab.streams import stream_seed
from gptlab.tokenizer import Encoder
from gptlab.train.optimizers import OptimizerSet
from gptlab.train.readings import GRAD_NORM, Numbers, Readings
from gptlab.train.recipe import Recipe

Say = Callable[[str], None]


@dataclass(frozen=True)
class Portion:
    """Rows that are computed at once; `share`: how much of the batch's loss is theirs."""

    x_BT: Tensor
    y_BT: Tensor
    places: Places | None
    share: float | Tensor

    @classmethod
    def of(cls, rows: Batch, n_targets: int, device: torch.device) -> Self:
        """Bring rows of a batch of so many targets to a device."""

        def bring(array: np.ndarray | None) -> Tensor | None:
            if array is None:
                return None
            rows_BT = torch.from_numpy(array)
            if device.type == "cuda":  # from where a copy can go on by itself
                rows_BT = rows_BT.pin_memory()
            return rows_BT.to(device, non_blocking=device.type == "cuda")

        x_BT, y_BT, positions_BT = bring(rows.x_NT), bring(rows.y_NT), bring(rows.positions_NT)
        assert x_BT is not None
        assert y_BT is not None
        places = None if positions_BT is None else Places(positions_BT, bring(rows.documents_NT))
        return cls(x_BT, y_BT, places, np.count_nonzero(rows.y_NT != IGNORED) / n_targets)


@dataclass
class Session:
    """The state of a run: `step` steps are done; `losses` and `grad_norm` are those of the last.

    update: what takes steps in place of `loop.update`, where they are recorded or compiled.
    """

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
    losses: dict[str, float] = field(default_factory=lambda: {"loss": math.nan})
    grad_norm: float = math.nan
    saved_step: int | None = None
    update: "Update | None" = None
    steps: int = field(init=False)
    readings: Readings = field(init=False)

    def __post_init__(self) -> None:
        self.steps = self.recipe.total_steps()
        self.readings = Readings(self.device, self.can_read_late())

    def can_read_late(self) -> bool:
        """Tell whether a GPU can undo, by itself, all that a step does."""
        moves_alone = any(isinstance(module, AfterStep) for module in self.model.modules())
        return self.device.type == "cuda" and self.optimizers.can_skip() and not moves_alone

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.embedding.weight.device

    @property
    def loss(self) -> float:
        """The main loss of the last step, in nats per token, without auxiliary ones."""
        return self.losses["loss"]

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

    def portions(self) -> list[Portion]:
        """Give the coming step's batch, in portions."""
        batch, rows = self.batches.at(self.step), self.recipe.micro_batch_size()
        n_targets = int(np.count_nonzero(batch.y_NT != IGNORED))
        return [
            Portion.of(batch[first : first + rows], n_targets, self.device)
            for first in range(0, len(batch.x_NT), rows)
        ]

    def read(self, all_but: int = 0) -> None:
        """Read the numbers of all steps but so many; FloatingPointError if a step was not taken."""
        while len(self.readings.waiting) > all_but:
            reading = self.readings.waiting.popleft()
            try:
                numbers = reading.read()
            except FloatingPointError:
                self.step = reading.step - 1
                self.readings.waiting.clear()
                raise
            self.grad_norm = numbers.pop(GRAD_NORM)
            self.losses = numbers

    def save(self) -> None:
        """Write a checkpoint of this step, unless it is there. See `check_finite`."""
        self.read()
        if self.saved_step == self.step:
            return
        weights, memory = dict(self.model.state_dict()), self.optimizers.state()
        check_finite(weights | memory, self.step)
        tensors = {"model": weights, "optimizer": memory, "random": random_state(self.device)}
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "grad_norm": self.grad_norm,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        checkpoint.save(self.run.checkpoints, self.step, tensors, state)
        self.saved_step = self.step

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Continue from a checkpoint, exactly."""
        fit_weights(self.model, saved.tensors["model"], str(saved.path))
        self.optimizers.load_state(saved.tensors["optimizer"])
        restore_random_state(saved.tensors["random"])
        self.step = self.saved_step = saved.step
        self.seconds, self.losses = saved.state["seconds"], saved.state["losses"]
        self.grad_norm = saved.state["grad_norm"]

    def prune(self) -> None:
        """Remove old checkpoints; the last few and the best stay."""
        best = self.run.best_step([step for step, _ in checkpoint.every(self.run.checkpoints)])
        checkpoint.prune(self.run.checkpoints, self.recipe.train.keep_last, best)

    def sample(self) -> str:
        """Let the model write; the same text for the same step of the same run."""
        seed = stream_seed(self.recipe.seed, "sampling", self.step)
        prompt, length = self.sample_prompt(), self.recipe.train.sample_tokens
        model = LanguageModel(self.model, self.encoder, self.recipe.model_dump(mode="json"))
        text = model.generate(prompt, max_tokens=length, temperature=0.8, top_k=50, seed=seed)
        assert isinstance(text, str)
        return prompt + text

    def sample_prompt(self) -> str:
        """Choose what a sample begins with: as asked, or as suits the data, if that can be read."""
        asked, suitable = self.recipe.train.sample_prompt, self.recipe.data.prompt
        if asked is not None:
            return asked
        try:
            fits = len(self.encoder.encode(suitable)) <= self.recipe.model.context_length
        except ValueError:  # a character that this text does not have
            fits = False
        return suitable if fits else ""

    def write_sample(self) -> None:
        """Append what the model writes now to samples.txt."""
        if self.recipe.train.sample_tokens:
            self.run.append_sample(f"--- step {self.step}\n{self.sample()}\n\n")


Update = Callable[[Session, Sequence[Portion]], Numbers]


def check_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    """Raise FloatingPointError, naming a tensor, rather than let one that is broken be saved."""
    for name, x in tensors.items():
        if not x.isfinite().all():
            raise FloatingPointError(f"the run diverged: after step {step} {name} is not finite")


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
