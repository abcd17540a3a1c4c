"""What arms are made of: recipes in the same batch, peers in the sizes of the first recipe."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gptlab.bench.arms import Arm, find_contestant
from gptlab.bench.record import CONTROL
from gptlab.recipes import open_recipe
from gptlab.train.recipe import Recipe

STEP_TOKENS = 2048  # of a step, unless train.batch_tokens says otherwise
SETTING = re.compile(r":(?=(?:[a-z_]\w*\.)*[a-z_]\w*=)")
FOR_SPEED = (  # a run that is only paced
    "schedule=constant",
    "train.tokens=null",
    "train.max_seconds=null",
    "train.evaluate_every=null",
    "train.checkpoint_every=null",
    "train.tensorboard=false",
    "train.wandb=null",
    "train.init_from=null",
)
LARGEST_VOCABULARY = 2**16
OF_NANOGPT = ("train.py", "model.py", "config/train_shakespeare_char.py")
ENOUGH_TOKENS = 20_000_000  # of a text, for peers to read


@dataclass(frozen=True)
class Peers:
    """Whom to measure against, and what is needed to reach them."""

    names: Sequence[str] = ()
    nanogpt: Path | None = None
    litgpt_python: Path | None = None

    def check(self) -> None:
        """Raise ValueError for whom we cannot reach."""
        for name in self.names:
            find_contestant(name)
        if "nanogpt" in self.names:
            missing = [f for f in OF_NANOGPT if not (self.nanogpt and (self.nanogpt / f).is_file())]
            if missing:
                raise ValueError(
                    "--against nanogpt needs --nanogpt FOLDER, a checkout of it, with its "
                    f"{' and '.join(missing)}"
                )
        if "litgpt" in self.names and not (self.litgpt_python and self.litgpt_python.is_file()):
            raise ValueError(
                "--against litgpt needs --litgpt-python FILE, the interpreter of an environment "
                "that has litgpt"
            )

    def arm(self, name: str, label: str, job: dict[str, Any]) -> Arm:
        """Make the arm of a peer."""
        job = job | ({"nanogpt": str(self.nanogpt)} if name == "nanogpt" else {})
        own = {"python": str(self.litgpt_python)} if name == "litgpt" else {}
        return Arm(label, find_contestant(name), job, **own)


@dataclass
class Field:
    """The arms of a measurement below a folder of its own, the control among them."""

    folder: Path
    arms: list[Arm] = field(default_factory=list)

    def add(self, arm: Arm) -> None:
        """Add an arm, with a folder to work in. Raises ValueError for a label that is taken."""
        if any(each.label == arm.label for each in self.arms):
            raise ValueError(f"{arm.label} is named twice: give one of them a setting of its own")
        place = self.folder / f"arm-{len(self.arms)}"
        place.mkdir()
        job = arm.job | {"folder": str(place)}
        self.arms.append(Arm(arm.label, arm.contestant, job, arm.python))

    def add_control(self) -> None:
        """Add the first arm once more."""
        first = self.arms[0]
        self.add(Arm(CONTROL, first.contestant, first.job, first.python))


def split(words: Sequence[str], default: str) -> tuple[list[str], list[str]]:
    """Part targets, which may have settings behind a colon, from settings for all of them."""
    common = [word for word in words if SETTING.match(f":{word.removeprefix('--')}")]
    return [word for word in words if word not in common] or [default], common


def recipe_of(
    target: str,
    common: Sequence[str],
    always: Sequence[str] = FOR_SPEED,
    step_tokens: int | None = STEP_TOKENS,
) -> Recipe:
    """Open `RECIPE:path.to.setting=value:...`, with settings for all; those of its own come last.

    A vocabulary of a fixed size is read as bytes of text: training a tokenizer for it would take
    minutes and change no speed.
    """
    name, *own = SETTING.split(target)
    recipe = open_recipe(name)
    settings = [*common, *own]
    if recipe.model.vocab_size is not None and not _names(settings, "tokenizer"):
        settings = ["tokenizer=byte", *settings]
    recipe = recipe.override([*always, *settings]).but(name="bench")
    if step_tokens and not _names(settings, "train.batch_tokens"):
        T = recipe.model.context_length
        rows = min(recipe.batch_size(), max(1, step_tokens // T))
        recipe = recipe.override([f"train.batch_tokens={rows * T}"])
    return recipe


def job_of(recipe: Recipe) -> dict[str, Any]:
    """The job of a recipe's own arm."""
    return {"recipe": recipe.model_dump(mode="json")}


def sizes(recipe: Recipe) -> dict[str, Any]:
    """The same model and training for a peer, in sizes that every GPT has."""
    model, optimizer = recipe.resolved().model, recipe.optimizer
    n_heads = getattr(model.attention, "n_heads", None)
    if n_heads is None:
        raise ValueError(
            f"model.attention={model.attention.variant} has no n_heads, so no peer has this "
            "model's sizes: leave --against out, or put a plain recipe first"
        )
    return {
        "context_length": model.context_length,
        "d_model": model.d_model,
        "n_layers": model.n_layers,
        "n_heads": n_heads,
        "dropout": float(model.dropout),
        "bias": bool(getattr(model.mlp, "bias", False)),
        "rows": recipe.batch_size(),
        "lr": optimizer.lr,
        "betas": [getattr(optimizer, "beta1", 0.9), getattr(optimizer, "beta2", 0.95)],
        "weight_decay": optimizer.weight_decay,
        "grad_clip": recipe.train.grad_clip or 1e9,
        "steps": 10**9,
        "seed": recipe.seed,
        "device": recipe.train.device,
    }


def write_text(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Write the recipe's tokens for peers to read, as 16-bit numbers; tell where they are."""
    encoder, corpus = recipe.data.prepare(recipe.data.tokenizer(recipe.tokenizer))
    vocab_size = recipe.with_vocab_size(encoder.vocab_size).model.vocab_size
    assert vocab_size is not None
    if vocab_size > LARGEST_VOCABULARY:
        raise ValueError(
            f"model.vocab_size={vocab_size} is more than {LARGEST_VOCABULARY}, and peers read "
            "tokens of 16 bits: give all arms a smaller one"
        )
    places = {"train": folder / "train.bin", "val": folder / "val.bin"}
    texts = [text.tokens[:ENOUGH_TOKENS] for text in corpus.texts]
    np.concatenate(texts).astype(np.uint16).tofile(places["train"])
    corpus.val[:ENOUGH_TOKENS].astype(np.uint16).tofile(places["val"])
    return {"vocab_size": vocab_size} | {name: str(place) for name, place in places.items()}


def _names(settings: Sequence[str], path: str) -> bool:
    return any(each.removeprefix("--").startswith((f"{path}=", f"{path}.")) for each in settings)
