"""A small folder as Hugging Face's tools write it."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from gptlab.interop.matching import choose_family
from gptlab.interop.writing import write_config, write_weights
from gptlab.model.gpt import GPT, Model

TEXT = [
    "def f(x):\n\treturn x + 1  # naïve — 東京 🙂\n",
    "the cat sat on the mat, and that was that",
]


def llama(**changes: Any) -> Model:
    settings = {
        "vocab_size": 300,
        "context_length": 16,
        "d_model": 16,
        "n_layers": 2,
        "positions": "rotary",
        "norm": {"type": "rms_norm", "cast": "llama"},
        "attention": {"type": "grouped_query", "n_heads": 4, "n_kv_heads": 2, "d_head": 6},
        "mlp": {"type": "swiglu", "d_ff": 24},
        "residual": "pre_norm",
        "head": "untied",
        "initialization": "gpt2",
    }
    return Model.parse(settings | changes)


def write_model(folder: Path, model: Model, gpt: GPT | None = None) -> GPT:
    folder.mkdir(exist_ok=True)
    gpt = gpt or model.build(seed=1)
    family, config = choose_family(model)
    write_config(folder, family, config)
    write_weights(folder, gpt, model, family, config)
    return gpt


def write_tokenizer(folder: Path, start: str | None = "<|start|>") -> None:
    """Write a byte-level tokenizer of about 280 tokens, which begins every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))]
        )
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    change_json(folder / "tokenizer_config.json", eos_token="<|end|>")


def change_json(file: Path, **changes: Any) -> None:
    """Set keys of an object in a file; None takes them out."""
    tree = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    tree = {name: value for name, value in (tree | changes).items() if value is not None}
    file.write_text(json.dumps(tree), encoding="utf-8")


def equal(a: GPT, b: GPT) -> bool:
    theirs = b.state_dict()
    return a.state_dict().keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in a.state_dict().items()
    )
