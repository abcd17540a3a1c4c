"""`gptlab bench generate`: tokens per second of writing, one text at a time or many."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from gptlab.bench.arms import Arm
from gptlab.bench.measuring import run
from gptlab.bench.preparing import Field, Peers, job_of, recipe_of, sizes, split
from gptlab.bench.protocol import Plan, Tell
from gptlab.bench.record import Record
from gptlab.generate.quantization import check_form
from gptlab.train.recipe import Recipe

PROMPT = 8  # tokens


def bench_generation(
    words: Sequence[str],
    peers: Peers,
    plan: Plan,
    threads: int | None,
    tell: Tell,
    tokens: int,
    batches: Sequence[int],
    forms: Sequence[str] = (),
) -> Record:
    """Measure models as they are initialised, which write as fast as trained ones.

    Each arm writes `tokens` tokens of as many texts at once as each of `batches` says. `forms`: of
    weights (bf16, int8), in which the first recipe is measured too. The context is made long enough
    for them, since who has learned positions cannot go beyond it.
    """
    peers.check()
    for form in forms:
        check_form(form)
    targets, common = split(words, "shakespeare")
    recipes = {target: writing(recipe_of(target, common), tokens) for target in targets}
    model = recipes[targets[0]].resolved().model
    with tempfile.TemporaryDirectory() as place:
        field = Field(Path(place))
        for rows in batches:
            text = {"prompt": PROMPT, "tokens": tokens, "rows": rows}
            many = f" x{rows}" if len(batches) > 1 else ""
            for target, recipe in recipes.items():
                vocab = {"vocab_size": recipe.resolved().model.vocab_size}
                field.add(Arm(target + many, "gptlab", job_of(recipe) | text | vocab))
            for form in forms:
                job = job_of(recipes[targets[0]]) | text | {"vocab_size": model.vocab_size}
                field.add(Arm(form + many, "gptlab", job | {"quantize": form}))
            if peers.names:
                job = sizes(recipes[targets[0]]) | text | {"vocab_size": model.vocab_size}
                for name in peers.names:
                    field.add(peers.arm(name, name + many, job))
        field.add_control()
        together = " and ".join(map(str, batches))
        about = (
            f"{tokens} tokens of {together} texts at once, at temperature 0.8 among the 50 "
            f"likeliest; {model.n_layers} layers, {model.d_model} wide, {model.vocab_size:,} tokens"
        )
        title = f"Generation with {targets[0]}"
        return run(field, "generate", title, about, "tokens", plan, threads, tell)


def writing(recipe: Recipe, tokens: int) -> Recipe:
    """The recipe as bytes, with room for the prompt and what is written."""
    T = max(recipe.model.context_length, -(-(PROMPT + tokens) // 64) * 64)
    changes = [f"model.context_length={T}", "tokenizer=byte", "data=python"]
    return recipe.override([*changes, f"train.batch_tokens={T}"])
