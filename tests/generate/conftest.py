"""A tiny model for the tests of generation."""

from collections.abc import Callable
from typing import Any

import pytest

from gptlab.model.gpt import GPT, Model


def tiny_model(**settings: Any) -> Model:
    """A byte model whose large initial values make its greedy output varied."""
    tree = {
        "vocab_size": 257,
        "context_length": 16,
        "d_model": 32,
        "n_layers": 2,
        "positions": "rotary",
        "norm": "rms_norm",
        "attention": {"type": "grouped_query", "n_heads": 4},
        "mlp": "gelu",
        "residual": "pre_norm",
        "head": "untied",
        "initialization": {"type": "gpt2", "scale": 0.5},
    }
    return Model.parse(tree | settings)


@pytest.fixture
def tiny() -> Callable[..., Model]:
    """Configure a tiny model with these settings changed."""
    return tiny_model


@pytest.fixture
def build() -> Callable[..., GPT]:
    """Build a tiny model with these settings changed."""
    return lambda **settings: tiny_model(**settings).build(seed=1).eval()
