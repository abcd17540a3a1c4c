"""What the tests share: one thread, a tiny model, and a real text where there is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab.model.gpt import Model

torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
TINY_SHAKESPEARE = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"


@pytest.fixture(scope="session")
def tiny_shakespeare() -> Path:
    if not TINY_SHAKESPEARE.exists():
        pytest.skip("needs tiny Shakespeare in ../shared/data/tinyshakespeare.txt")
    return TINY_SHAKESPEARE


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Model]:
    """Make the config of a tiny model: `tiny(norm="rms_norm", d_model=24)`."""
    settings = {
        "vocab_size": 31,
        "context_length": 24,
        "d_model": 48,
        "n_layers": 2,
        "positions": "learned",
        "norm": "layer_norm",
        "attention": "grouped_query",
        "mlp": "gelu",
        "residual": "pre_norm",
        "head": "tied",
        "initialization": "gpt2",
    }

    def make(**changes: Any) -> Model:
        return Model.parse(settings | changes)

    return make
