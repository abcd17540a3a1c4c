"""`gptlab bench train`: tokens per second of training steps."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from gptlab.bench.arms import Arm
from gptlab.bench.measuring import run
from gptlab.bench.preparing import Field, Peers, job_of, recipe_of, sizes, split, write_text
from gptlab.bench.protocol import Plan, Tell
from gptlab.bench.record import Record
from gptlab.train.recipe import Recipe


def bench_training(
    words: Sequence[str], peers: Peers, plan: Plan, threads: int | None, tell: Tell
) -> Record:
    """Measure recipes against each other, and against peers of the first one's sizes."""
    peers.check()
    targets, common = split(words, "shakespeare")
    recipes = {target: recipe_of(target, common) for target in targets}
    first = recipes[targets[0]]
    with tempfile.TemporaryDirectory() as place:
        field = Field(Path(place))
        for target, recipe in recipes.items():
            recipe.check()
            field.add(Arm(target, "gptlab", job_of(recipe)))
        field.add_control()
        if peers.names:
            job = sizes(first) | write_text(first, field.folder)
            for name in peers.names:
                field.add(peers.arm(name, name, job))
        title = f"Training steps of {targets[0]}"
        return run(field, "train", title, about(first), "tokens", plan, threads, tell)


def about(recipe: Recipe) -> str:
    """What the arms have in common."""
    model, path = recipe.model, recipe.data.path
    text = Path(path).name if path else recipe.data.variant
    return (
        f"{recipe.batch_size()} rows of {model.context_length:,} tokens a step, "
        f"{model.n_layers} layers, {model.d_model} wide, dropout {model.dropout:g}, "
        f"text: {text}"
    )
