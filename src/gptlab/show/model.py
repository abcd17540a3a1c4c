"""`gptlab show`: a recipe's settings, how its model is wired, and what it costs."""

import sys
from dataclasses import asdict
from json import dumps
from typing import Any

import torch
from torch import nn

from gptlab import machine
from gptlab.config import Part
from gptlab.model.accounting import (
    FLOAT32_BYTES,
    build_on_meta,
    cache_bytes,
    count_flops,
    count_parameters,
)
from gptlab.model.gpt import Model
from gptlab.show._print import plain, print_table, rounded
from gptlab.train.recipe import Recipe
from gptlab.train.room import MANY_TENSORS, predict

BF16_BYTES = 2
MOST_TENSORS = 10_000  # take a minute


def show(recipe: Recipe, json: bool = False) -> None:
    """Print what `as_dict` collects, for a person or as one JSON document."""
    facts = as_dict(recipe)
    if json:
        print(dumps(facts, indent=2, ensure_ascii=False))
        return
    print(recipe.resolved().to_yaml())
    print("\n".join(facts["picture"]), end="\n\n")
    _print_costs(facts)


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """Collect the settings with all defaults, the picture, and all that can be counted."""
    recipe = recipe.resolved()
    model = recipe.model
    tokens = recipe.total_steps() * recipe.train.batch_tokens
    flops = count_flops(model)
    return {
        "name": recipe.name,
        "config": recipe.model_dump(mode="json"),
        "picture": picture(model),
        "parameters": asdict(count_parameters(model)),
        "flops_per_token": {"context_length": model.context_length} | asdict(flops),
        "cache_bytes": {
            "bf16": asdict(cache_bytes(model, BF16_BYTES)),
            "float32": asdict(cache_bytes(model, FLOAT32_BYTES)),
        },
        "training_memory_bytes": _training_memory(recipe),
        "run": {"tokens": tokens, "training_flops": tokens * flops.training},
    }


def _training_memory(recipe: Recipe) -> dict[str, Any] | None:
    """Estimate what a step takes; None for models of so many tensors that it would take minutes."""
    n_tensors = sum(1 for _ in build_on_meta(recipe.model).parameters())
    if n_tensors > MOST_TENSORS:
        return None
    if n_tensors > MANY_TENSORS:
        print("playing a training step through, for its memory ...", file=sys.stderr)
    rows, bf16 = recipe.micro_batch_size(), _products_in_bf16(recipe.train.precision)
    return asdict(predict(recipe, rows, bf16))


def picture(model: Model) -> list[str]:
    """Draw the model as lines of text, from tokens to logits."""
    norm, branches = model.norm.variant, [model.attention.variant, model.mlp.variant]
    block = model.residual.draw(norm, branches)
    has_final_norm = not isinstance(build_on_meta(model).ends.norm, nn.Identity)
    return [
        "tokens",
        f"  │ embedding {model.vocab_size} x {model.d_model}, {_label(model.positions)} positions",
        f"  │ {model.n_layers} blocks:",
        "  │",
        *(f"  │    {line}" for line in block),
        "  │",
        f"  │    attention: {_label(model.attention)}",
        f"  │    mlp: {_label(model.mlp)}",
        f"  │    norm: {_label(model.norm)}",
        "  │",
        *([f"  │ {norm}"] if has_final_norm else []),
        f"  │ {_label(model.head)} head",
        *_further(model),
        f"logits, {model.vocab_size} for each token",
    ]


def _further(model: Model) -> list[str]:
    if model.multi_token is None:
        return []
    extra = model.multi_token
    return [f"  │ in training, {extra.depth} {extra.form} heads for further tokens"]


def _label(part: Part) -> str:
    """Name a part with the settings that are not its defaults."""
    settings = [
        f"{name}={_value(getattr(part, name))}"
        for name, field in type(part).model_fields.items()
        if getattr(part, name) != field.default
    ]
    return f"{part.variant}({', '.join(settings)})" if settings else part.variant


def _value(value: Any) -> str:
    if isinstance(value, Part):
        return _label(value)
    return f"[{', '.join(map(_value, value))}]" if isinstance(value, tuple) else plain(value)


def _products_in_bf16(precision: str) -> bool:
    if precision == "auto":
        return machine.bf16_is_fast("cuda" if torch.cuda.is_available() else "cpu")
    return precision == "bf16"


def _print_costs(facts: dict[str, Any]) -> None:
    _print_parameters(facts["parameters"])
    _print_flops(facts["flops_per_token"], facts["run"])
    caches = facts["cache_bytes"]
    texts = {
        "per_token": "each token more, in layers that forget nothing",
        "full_context": "at full context",
    }
    print_table(
        "Bytes of KV cache, for one text",
        ["", *caches],
        [[text, *(f"{caches[dtype][name]:,}" for dtype in caches)] for name, text in texts.items()],
    )
    if facts["training_memory_bytes"] is None:
        print("Memory of a training step: not estimated for a model of so many matrices")
        return
    memory = dict(facts["training_memory_bytes"])
    assumes = memory.pop("assumes")
    print_table(
        f"Memory of a training step\n{assumes}",
        ["", "bytes", ""],
        [[name, f"{size:,}", f"{rounded(size)}B"] for name, size in memory.items()],
    )


def _print_parameters(parameters: dict[str, Any]) -> None:
    total = parameters["total"]
    names = {"total": "total", "embedding": "embedding", "non_embedding": "non-embedding"}
    if parameters["active"] < total:
        names = {"total": "total", "active": "active, on a token"} | names
    counts = {text: parameters[name] for name, text in names.items()}
    counts |= {f"  {part}": count for part, count in parameters["per_part"].items()}
    print_table(
        "Parameters",
        ["", "", ""],
        [[name, f"{count:,}", f"{count / total:.1%}"] for name, count in counts.items()],
    )


def _print_flops(flops: dict[str, Any], run: dict[str, Any]) -> None:
    texts = {
        "forward": "forward",
        "products": "  products with weights",
        "scores": "  attention scores",
        "training": "training",
        "training_palm": "training, as if every token saw all others (PaLM)",
    }
    whole = f"training, whole run of {run['tokens']:,} tokens"
    rows = {text: flops[name] for name, text in texts.items()} | {whole: run["training_flops"]}
    print_table(
        f"FLOPs per token, in texts of {flops['context_length']} tokens",
        ["", "", ""],
        [[text, f"{count:,.0f}", rounded(count)] for text, count in rows.items()],
    )
