"""A recipe that trains in a second, on a text made up here."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptlab import files
from gptlab.kernels import causal, cross_entropy, dropout, linear_cross_entropy
from gptlab.recipes import find_recipe
from gptlab.train.recipe import Recipe

TINY = (
    "model.context_length=8",
    "model.d_model=16",
    "model.n_layers=2",
    "model.attention.n_heads=2",
    "train.batch_tokens=32",
    "train.steps=12",
    "train.evaluate_every=5",
    "train.checkpoint_every=5",
    "train.log_every=2",
    "train.sample_tokens=12",
    "train.precision=float32",
    "train.device=cpu",
    "train.tensorboard=false",
    "seed=3",
)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 6))) for _ in range(40)]
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(" ".join(draw.choices(words, k=500)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_recipe(text_file: Path) -> Callable[..., Recipe]:
    """Make a tiny variant of a recipe: `tiny_recipe("optimizer=muon", base="chargpt")`."""

    def make(*settings: str, base: str = "shakespeare") -> Recipe:
        return find_recipe(base).override([f"data.path={text_file}", *TINY, *settings])

    return make


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk, where nobody pulls the plug."""
    monkeypatch.setattr(files, "sync", lambda path: None)
    monkeypatch.setattr(files, "sync_folder", lambda path: None)


@pytest.fixture
def as_if_large(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Have tiny models computed by the forms that large ones take; count these, by their names."""
    taken: Counter[str] = Counter()
    monkeypatch.setattr(dropout, "WORTH_IT", 1)
    monkeypatch.setattr(cross_entropy, "MANY_LOGITS", 1)
    monkeypatch.setattr(linear_cross_entropy, "CHUNK", 6)
    monkeypatch.setattr(linear_cross_entropy, "AT_ONCE", 64)
    monkeypatch.setattr(causal, "BLOCK", 3)

    def count(form: Any) -> None:
        forward = form.forward

        def counted(*given: Any) -> Any:
            taken[form.__name__] += 1
            return forward(*given)

        monkeypatch.setattr(form, "forward", staticmethod(counted))

    for form in (
        dropout.FastDropout,
        linear_cross_entropy.LinearCrossEntropy,
        causal.CausalAttention,
    ):
        count(form)
    return taken
