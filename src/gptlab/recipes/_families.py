"""What the recipes of published families share: how the large ones and the small ones train."""

from typing import Any

from gptlab.data.sources.python import Python
from gptlab.model.gpt import Model
from gptlab.tokenizer.bpe import BPE
from gptlab.train.optimizers.adamw import AdamW
from gptlab.train.recipe import Recipe, Train
from gptlab.train.schedules.cosine import Cosine


def published(name: str, model: Model) -> Recipe:
    """A family at a size it was published with. The model is exact, the training is a start.

    100 billion tokens in batches of half a million; take data and a learning rate of your own.
    """
    assert model.vocab_size is not None
    T = model.context_length
    return Recipe(
        name=name,
        model=model,
        tokenizer=BPE(vocab_size=model.vocab_size),
        data=Python(val_fraction=0.02),
        optimizer=AdamW(lr=3e-4),
        schedule=Cosine(warmup=0.01),
        train=Train(steps=190_735, batch_tokens=max(T, 524_288 // T * T)),
    )


def nano(name: str, model: Model, **changes: Any) -> Recipe:
    """The same parts at a size for CPUs: one to two million parameters, minutes on two cores."""
    sizes = {"vocab_size": None, "context_length": 256, "d_model": 160, "n_layers": 4}
    return Recipe(
        name=name,
        model=model.but(**sizes | changes),
        tokenizer=BPE(vocab_size=2048),
        data=Python(),
        optimizer=AdamW(lr=2e-3),
        schedule=Cosine(warmup=0.05),
        train=Train(steps=1_000, batch_tokens=4_096),
    )
